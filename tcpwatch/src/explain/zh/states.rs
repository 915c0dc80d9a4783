//! States.

use tcpwatch_common::TcpState;

use crate::explain::page::StateText;

pub(super) fn text(state: TcpState) -> StateText {
    match state {
        TcpState::Established => StateText {
            about: "连接已建立，双方可以收发数据",
            meaning: &[
                "三次握手已完成，双方都还没有关闭，都可以收发数据。",
                "在服务端，握手一完成就进入 ESTABLISHED，这时还没有 accept()：在全连接队列里排队的连接也算在内。",
            ],
            waiting: &[
                "谁都不必做什么。空闲的连接不发任何报文，除非设置了 SO_KEEPALIVE：对端若没发 FIN 也没发 RST 就\
                消失了，本端要等到下次发数据时才会发现。",
            ],
            lasts: &[
                "双方应用想保持多久就多久。设置了 SO_KEEPALIVE 时，空闲 tcp_keepalive_time（2 小时）后开始探\
                测，每隔 tcp_keepalive_intvl（75 秒）一次，连续 tcp_keepalive_probes（9）次没有应答就放弃。已发\
                出的数据一直得不到确认时，由 tcp_retries2 决定何时放弃：15 分钟或更久。",
            ],
            normal: &[
                "繁忙的主机上大多数连接都在这个状态：服务端每个客户端一条，连接池有多大就有多少条。如果数量只增\
                不减，往往是连接池没有上限，或者对端早已消失而没有开启 keepalive 探测。",
            ],
            look: &[
                "`tcpwatch snapshot --state established --by process`：连接由哪些进程持有。",
                "`ss -tn state established`：Recv-Q 一直不为 0，说明应用没有读取；Send-Q 一直不为 0，说明对端没\
                有确认。",
                "`tcpwatch life`：每条连接存活多久，收发了多少数据。",
            ],
        },
        TcpState::SynSent => StateText {
            about: "SYN 已发出，还没有收到应答",
            meaning: &["本端调用了 connect()，既没有收到 SYN-ACK，也没有被拒绝。"],
            waiting: &["本端在等对端（或者中间的防火墙）应答。"],
            lasts: &[
                "对端有应答时只是一个往返时间（RTT）。没有应答就重发 SYN，131 秒后 connect() 以 ETIMEDOUT 失败\
                （Linux 6.5 之前是 127 秒，见 tcp_syn_retries），除非应用自己先放弃。端口上没有监听时，对端会立\
                刻回 RST，connect() 以 ECONNREFUSED 失败。",
            ],
            normal: &[
                "少量，每条只停留一个 RTT。停留很久的，说明 SYN 或者它的应答丢了：防火墙丢包、主机宕机，或者服\
                务端队列已满。",
            ],
            look: &[
                "`tcpwatch snapshot --state syn_sent --by remote`：目的地是哪里。",
                "`tcpwatch life --state syn_sent`：每次尝试怎样结束（超时、被拒绝、不可达、应用放弃）。",
                "`tcpwatch latency`：握手用了多久，重发了多少 SYN。",
                "`nstat -az TcpExtListenOverflows TcpExtListenDrops`：在服务端执行，看队列满过多少次。",
            ],
        },
        TcpState::SynRecv => StateText {
            about: "半连接：收到了 SYN，SYN-ACK 已发出",
            meaning: &[
                "对端请求连接本机的某个监听端口。在收到握手的最后一个 ACK 之前，内核只为它保留一个很小的请求套\
                接字（request socket）；使用 SYN cookie 时什么都不保留。",
                "完整的套接字在 SYN_RECV 只停留几微秒：它在最后那个 ACK 到达时才创建，随即进入 ESTABLISHED。所\
                以 trace 里 SYN_RECV 的停留时间并不是握手时间；服务端握手时间要看 `tcpwatch latency` 的 \
                handshake_server。",
                "双方同时打开（两个 SYN 在途中相遇）以及 TCP Fast Open，会让完整的套接字在这里停留得更久。",
            ],
            waiting: &["本端在等对端的 ACK。"],
            lasts: &["一个 RTT。收不到 ACK 就重发 SYN-ACK，共 tcp_synack_retries（5）次，63 秒后丢弃这个请求。"],
            normal: &[
                "数量相当于一个 RTT 内到达的新连接数。请求套接字不触发 tracepoint，tcpwatch 和 ss 一样是向内核\
                查询得到的。",
                "大量来自不同地址、始终完不成握手的半连接，要么是 SYN flood，要么是应答在回去的路上丢了。",
            ],
            look: &[
                "`tcpwatch snapshot --state syn_recv --by lport`：哪个监听端口。",
                "`tcpwatch snapshot --state syn_recv --by remote`：哪些对端。",
                "`nstat -az TcpExtTCPReqQFullDoCookies TcpExtTCPReqQFullDrop`：半连接队列满过多少次，满了之后内\
                核是发 cookie 还是丢弃 SYN。",
            ],
        },
        TcpState::FinWait1 => StateText {
            about: "本端先关闭，FIN 还没有被确认",
            meaning: &[
                "在对端的 FIN 到来之前，本端调用了 close() 或 shutdown(SHUT_WR)。FIN 排在尚未发完的数据之后，或\
                者已经发出。",
            ],
            waiting: &[
                "本端在等对端内核的确认。只有当对端接收窗口已满、必须先读走数据才能腾出空间时，才需要对端应用做事。",
            ],
            lasts: &[
                "一个 RTT。已经没有进程持有的套接字（孤儿套接字，orphan）如果得不到应答，重传 \
                tcp_orphan_retries 次后放弃：默认 8 次，RTT 很短时约 100 秒。shutdown(SHUT_WR) 之后进程仍持有描\
                述符的，不是孤儿套接字，由 tcp_retries2 决定：15 分钟或更久。对端若只确认而一直不收数据，会拖上\
                好几分钟。",
            ],
            normal: &[
                "少量。如果很多，说明对端消失了，或者不去读关闭前发给它的数据。其中没有属主的计入 tcp_max_orphans。",
            ],
            look: &[
                "`ss -tno state fin-wait-1`：Send-Q 大于 1 说明除 FIN 之外还有数据没发完。timer:(on,TIME,N) 里\
                的 N 是重传次数，大于 0 才是在重传。",
                "`tcpwatch life --state fin_wait1`：它们最后怎样结束。",
            ],
        },
        TcpState::FinWait2 => StateText {
            about: "FIN 已被确认，对端还没有关闭",
            meaning: &[
                "本端先关闭，对端内核已经知道，但对端应用还没有关闭：那一边处于 CLOSE_WAIT。",
                "调用 close() 之后，内核通常立刻用一个很小的 timewait 套接字换掉完整的套接字：ss 显示 \
                FIN-WAIT-2，而 trace 显示 FIN_WAIT2 > CLOSE。只调用 shutdown(SHUT_WR) 时，完整的套接字会保留，\
                还可以继续接收数据。",
            ],
            waiting: &["本端在等对端的应用关闭连接。"],
            lasts: &[
                "close() 之后：tcp_fin_timeout（60 秒），或者该套接字用 TCP_LINGER2 设置的时间。只调用 \
                shutdown(SHUT_WR)：没有时限，应用持有描述符多久就停多久。",
            ],
            normal: &[
                "只停留片刻。大量没有属主的，是对端关闭得慢，tcp_fin_timeout 之后就会消失。有属主而且停留很久\
                的，是本机程序 shutdown 之后没有收尾。",
            ],
            look: &[
                "`tcpwatch snapshot --state fin_wait2 --by remote`：哪些对端的应用不关闭。泄漏在对端，表现为 \
                CLOSE_WAIT。",
                "`tcpwatch leaks`：本机进程仍然持有的那些。",
            ],
        },
        TcpState::TimeWait => StateText {
            about: "双方都已关闭，保留地址和端口以应付迟到的报文",
            meaning: &[
                "本端先关闭，对端随后也关闭了。连接已经结束，不再属于任何进程。内核继续保留它的地址和端口，原因\
                有两个：万一最后一个 ACK 丢了，还能再次确认对端重发的 FIN；避免迟到的报文被当成同一对端口上下一\
                条连接的数据。",
                "它是一个很小的 timewait 套接字，与原来连接的套接字不是同一个。tracepoint 从不显示 TIME_WAIT，\
                最后一次状态变化显示为 FIN_WAIT2 > CLOSE 或 CLOSING > CLOSE。",
            ],
            waiting: &["谁也不必做什么，只等时间过去。"],
            lasts: &[
                "60 秒，在内核里写死（TCP_TIMEWAIT_LEN），没有任何 sysctl 能缩短它：tcp_fin_timeout 管的是 \
                FIN_WAIT2。以下情况会提前结束：对端用同一对端口发起新连接，本端 connect() 复用了这个端口\
                （tcp_tw_reuse），收到 RST，或者执行了 `ss -K`。",
            ],
            normal: &[
                "数量约等于每秒由本端主动关闭的连接数乘以 60。对服务端来说几万个也没有害处：每个只占几百字节，\
                不占描述符，客户端再来照样能连上。",
                "受害的是向同一地址和端口频繁发起短连接的客户端：临时端口还没回收就用完了。28,232 个端口除以 \
                60 秒，约为每秒 470 条连接。",
            ],
            look: &[
                "`tcpwatch churn`：哪些进程产生的，端口何时用完。",
                "`tcpwatch stat`：每秒进入和离开的数量。",
                "真正有效的办法是减少连接数：长连接（keep-alive）或者连接池。其次是扩大端口范围\
                （ip_local_port_range）、增加地址，或者对本机发起的连接启用 tcp_tw_reuse。",
                "服务重启后 bind() 失败，需要的是 SO_REUSEADDR，而不是哪个 sysctl。",
            ],
        },
        TcpState::Close => StateText {
            about: "没有连接：尚未建立，或者已经结束",
            meaning: &[
                "套接字刚创建还没有使用；或者连接已经结束，而应用仍持有描述符。RFC 9293 称之为 CLOSED。",
                "每条连接的最后一次状态变化都是到 CLOSE，进入 TIME_WAIT 的连接也不例外：在 TIME_WAIT 里等待的是\
                另一个套接字。",
            ],
            waiting: &["没有谁在等。"],
            lasts: &["直到应用关闭描述符，或者再次使用这个套接字。"],
            normal: &[
                "ss 和 netstat 都不列出这样的套接字，tcpwatch 的计数也总是 0。Linux 6.8 起，同样新的 ss 可以列\
                出已经绑定端口的：`ss -tan --bound-inactive`。",
                "连接已经结束、却从未 close() 的套接字仍占着描述符：这种泄漏在任何状态里都看不到。lsof(8) 把它\
                显示为 sock、protocol: TCP，没有地址。",
            ],
            look: &[
                "`lsof -nP -p PID | grep 'protocol: TCP'`：某个进程里这类套接字的描述符。",
                "`tcpwatch life`：连接是怎样结束的。",
            ],
        },
        TcpState::CloseWait => StateText {
            about: "对端已关闭，本端应用还没有关闭（被动关闭）",
            meaning: &["收到了对端的 FIN：它不会再发数据，数据读完之后 read() 返回 0。现在轮到本端应用调用 close()。"],
            waiting: &["内核只等本端的应用，不等别人。"],
            lasts: &[
                "直到应用调用 close() 或者进程退出，没有任何超时会结束它。设置了 SO_KEEPALIVE 时，2 小时后的探\
                测可能发现对端早已忘了这条连接，于是收到 RST 而结束；但描述符仍然开着。",
            ],
            normal: &[
                "几毫秒：读到结尾再关闭所需的时间。长期停留就是本端应用的 bug：忘了 close()（常见于出错处理的分\
                支），或者读数据的线程卡住了。最终描述符会耗尽（EMFILE）。",
                "看接收队列就能区分：还没读到的 FIN 在队列里算 1。0：应用已经读到结尾，却没有关闭。1：从来没有读\
                到结尾。大于 1：还有未读的数据。",
            ],
            look: &[
                "`tcpwatch leaks`：属主、停留时间和描述符；加上 `--watch 10s --stacks` 还能看到是哪一行代码打开的。",
                "重启进程可以释放它们，sysctl 不行：tcp_fin_timeout 和 tcp_tw_reuse 都与 CLOSE_WAIT 无关。",
            ],
        },
        TcpState::LastAck => StateText {
            about: "对端先关闭，本端随后关闭，FIN 还没有被确认",
            meaning: &["本端应用在对端之后关闭了连接。FIN 排在尚未发完的数据之后，或者已经发出。"],
            waiting: &["本端在等对端内核确认这个 FIN。"],
            lasts: &[
                "一个 RTT。close() 之后已经没有进程持有它（孤儿套接字，orphan），得不到应答时，重传 \
                tcp_orphan_retries 次后放弃：默认 8 次，RTT 很短时约 100 秒。shutdown(SHUT_WR) 之后进程仍持有描\
                述符的，不是孤儿套接字，由 tcp_retries2 决定：15 分钟或更久。本端没有 TIME_WAIT：它在先关闭的对\
                端。",
            ],
            normal: &[
                "少量。如果很多，说明对端发完 FIN 就消失了，或者防火墙已经忘了这条连接。其中没有属主的计入 \
                tcp_max_orphans。",
            ],
            look: &[
                "`ss -tno state last-ack`：有哪些对端，FIN 重传了多少次：timer:(on,TIME,N) 里的 N。",
                "`tcpwatch life --state last_ack`：它们最后怎样结束。",
            ],
        },
        TcpState::Listen => StateText {
            about: "监听，等待连接到来",
            meaning: &[
                "应用调用了 listen()。每条新连接都是另外创建的套接字，监听套接字本身的状态不变：trace 里的 \
                LISTEN > SYN_RECV 表示一条新连接开始，而不是监听套接字变了状态。",
            ],
            waiting: &["监听套接字等客户端来连，握手完成的连接等应用调用 accept()。"],
            lasts: &["直到应用关闭它。那时还没有被 accept() 的连接会被 RST。"],
            normal: &[
                "每个地址和端口一个；使用 SO_REUSEPORT 时每个 worker 一个。`ss -ltn` 显示全连接队列的当前长度\
                （Recv-Q）和上限（Send-Q），上限取 listen() 的 backlog 与 net.core.somaxconn 中较小的一个。队列\
                经常不为空，说明 accept() 调用得不够快。",
            ],
            look: &[
                "`nstat -az TcpExtListenOverflows`：队列满过多少次。",
                "`tcpwatch latency --by lport`：连接等待 accept() 的时间。",
            ],
        },
        TcpState::Closing => StateText {
            about: "双方同时关闭，本端的 FIN 还没有被确认",
            meaning: &["两个 FIN 在途中相遇：本端的 FIN 已发出，还没等到确认，对端的 FIN 就到了。"],
            waiting: &["本端在等对端内核确认 FIN，之后进入 TIME_WAIT。"],
            lasts: &[
                "一个 RTT。得不到应答时，与 LAST_ACK 一样放弃：close() 之后由 tcp_orphan_retries 决定，进程仍持\
                有描述符时由 tcp_retries2 决定。",
            ],
            normal: &["跨网络的连接很少出现；在环回接口上，如果双方在同一次交互结束时一起关闭，就很常见。"],
            look: &["`tcpwatch life`：文本里显示 both closed at once，JSON 里是 simultaneous。"],
        },
    }
}
