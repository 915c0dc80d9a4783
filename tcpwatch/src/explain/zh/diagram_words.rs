//! The words around the state diagram.

use crate::explain::diagram_words::Diagram;
use crate::explain::step::Step;

pub(in crate::explain) const DIAGRAM: Diagram = Diagram {
    step,
    active: "主动关闭",
    passive: "被动关闭",
    any: "收到或发出 RST、超时、`ss -K`：任何状态都会直接到 CLOSE。",
    now: "方框里的数字：当前网络命名空间中的套接字数，口径与 ss 相同。",
    now_of_several: "方框里的数字：所有网络命名空间中的套接字总数。",
    length: |seconds| format!("{seconds:.1} 秒"),
    counting: "正在统计，共 {}；按 Ctrl-C 提前结束",
    during: "箭头旁的数字：最近 {}内该状态变化发生的次数；离开 TIME_WAIT 的箭头旁，是消失的 timewait 套接字数，处于 FIN_WAIT2 \
             的也算在内。标 ? 处次数未知：监听套接字收到 SYN 时，内核不发出任何通知。",
    others: "同一时段内未画出的状态变化：",
    comma: "、",
    closed_first: "有 {} 条连接由本端先关闭，在对端的 FIN 到来之前就成为处于 FIN_WAIT2 的 timewait 套接字；它们之后转入 TIME_WAIT，\
                   没有任何通知。",
    refused: "有 {} 个 timewait 套接字被拒绝（tcp_max_tw_buckets，或者没有内存）：进入 TIME_WAIT 的和由本端先关闭的连接里，有同样\
              多的直接到了 CLOSE。",
    undecided: "有 {} 条连接怎样结束，无从得知：它们可能经过了通向 TIME_WAIT 或 CLOSE 的箭头，也可能没有。",
    missed: "错过了 {} 次状态变化：内核没有为它们运行程序，以上数字偏小。",
    with_root: "以 root 运行，箭头旁会有数字：`sudo tcpwatch explain states`",
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
        Step::Expired => "60 秒内消失",
    }
}
