//! Questions.

use crate::explain::page::QuestionText;

pub(super) const NO_TIME_WAIT: QuestionText = QuestionText {
    about: "为什么主动关闭之后没有进入 TIME_WAIT？",
    answer: &[
        "只有双方都按正常流程关闭时，先发出 FIN 的一方才会进入 TIME_WAIT。先调用 close() 的不一定是这一方；RST \
        会直接结束连接，没有 TIME_WAIT；而且任何跟踪都看不到 TIME_WAIT：内核关闭完整的套接字（FIN_WAIT2 > \
        CLOSE），留下一个很小的 timewait 套接字，这一步没有任何通知。",
    ],
    cases: &[
        "其实进入了。trace 的最后一行是 FIN_WAIT2 > CLOSE，结尾写着 closed here first, to TIME_WAIT\
        （graceful_active）；双方同时关闭时是 CLOSING > CLOSE（simultaneous）。用 `ss -tan state time-wait` 可\
        以看到这个没有属主的 timewait 套接字。",
        "还没轮到：对端尚未关闭（closed_first）。timewait 套接字停在 FIN_WAIT2，最多 tcp_fin_timeout，ss 显示 \
        FIN-WAIT-2。对端的 FIN 在这段时间内到来，TIME_WAIT 才开始；不来就直接消失，没有 TIME_WAIT。",
        "只调用了 shutdown(SHUT_WR)，描述符还开着：套接字会一直停在 FIN_WAIT2，直到对端关闭，没有时限。",
        "对端其实先关闭了，也许只早了一瞬间（graceful_passive）：本端走的是 CLOSE_WAIT、LAST_ACK、CLOSE，\
        TIME_WAIT 在对端。",
        "设置了 SO_LINGER 且时间为 0：close() 发的是 RST 而不是 FIN（reset_linger）。",
        "close() 时还有没读的数据：内核发 RST，告诉对端数据丢了（reset_unread）。",
        "close() 之后又收到数据，或者 TCP_LINGER2 是负数：FIN_WAIT1 或 FIN_WAIT2 被 RST 终止\
        （reset_after_close；内核给不出原因时是 reset_by_us）。",
        "对端发了 RST（reset_by_peer）。收到 FIN 之后也可能如此：对端关闭时还有数据没读，或者进程已经退出，就会\
        回 RST。",
        "对端不应答 FIN，或者孤儿套接字等得太久（timeout_retransmit、timeout_fin_wait2），或者网络报告对端不可\
        达（unreachable）；孤儿套接字太多，或者内存不足（out_of_memory）。",
        "管理员终止了连接（killed），应用主动断开了连接（disconnected），或者监听套接字在 accept() 之前就关闭了\
        （listener_closed）。",
        "该进入却被拒绝：已达到 tcp_max_tw_buckets。从套接字本身看不出来；计数器 TcpExtTCPTimeWaitOverflow 会增\
        加，`tcpwatch stat -o json` 里对应 refused。",
        "进入过，但不到 60 秒就结束了：对端用同一对端口发起了新连接，本端 connect() 复用了端口（tcp_tw_reuse，\
        环回连接默认 1 秒后即可），收到 RST，或者被 `ss -K` 终止。",
        "关闭的是另一条连接：中间的代理或负载均衡与双方各有一条连接，何时关闭由它自己决定。",
    ],
    look: &[
        "`tcpwatch life`：每行末尾就是结束方式；`-o json` 里是 ended 字段。",
        "`tcpwatch stat -o json`：closed 统计每种结束方式，time_wait 里有 entered、left、recycled、refused。",
        "`tcpwatch explain` 加上结束方式的名字：查看它的含义。",
    ],
};
