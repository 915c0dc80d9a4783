//! The words around the state diagram.

use crate::explain::diagram::Diagram;
use crate::explain::step::Step;

pub(in crate::explain) const DIAGRAM: Diagram = Diagram {
    step,
    active: "主动关闭",
    passive: "被动关闭",
    now: "方框里的数字：当前网络命名空间中的套接字数，口径与 ss 相同。",
    during: "箭头旁的数字：最近 {} 内该状态变化发生的次数。",
    others: "同一时段内未画出的状态变化：",
    closed_first: "指向 TIME_WAIT 的箭头中，有 {} 条先成为处于 FIN_WAIT2 的 timewait 套接字，因为对端当时还没有关闭；它之后何时\
                   关闭，没有任何通知。",
    refused: "其中 {} 条被拒绝（tcp_max_tw_buckets），直接到了 CLOSE。",
    missed: "错过了 {} 次状态变化：内核没有为它们运行程序，以上数字偏小。",
    with_root: "箭头旁的数字需要 root：sudo tcpwatch explain states",
    any: "收到或发出 RST、超时、ss -K：任何状态都会直接到 CLOSE。",
};

fn step(step: Step) -> &'static str {
    match step {
        Step::Listen => "listen()",
        Step::Connect => "connect()：发 SYN",
        Step::Request => "收 SYN，发 SYN-ACK",
        Step::CrossedSyn => "收 SYN",
        Step::Answered => "收 SYN-ACK",
        Step::Accepted => "收 ACK",
        Step::CloseFirst | Step::CloseToo => "close()：发 FIN",
        Step::PeerCloses | Step::CrossedFin | Step::PeerClosesToo => "收 FIN",
        Step::Acknowledged | Step::CrossedAcknowledged | Step::LastAcknowledged => "收 FIN 的 ACK",
        Step::Expired => "60 秒",
    }
}
