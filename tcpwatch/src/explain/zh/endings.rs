//! How a connection ended.

use crate::explain::page::EndingText;
use crate::model::ending::Ending;

pub(super) fn text(ending: Ending) -> EndingText {
    match ending {
        Ending::GracefulActive => EndingText {
            about: "本端先关闭，对端随后关闭：TIME_WAIT 在本端",
            happened: &[
                "四次挥手正常完成：双方都发了 FIN，也都得到了确认，本端的先发出。内核关闭套接字，留下一个 \
                timewait 套接字，保留 60 秒；如果已达到 tcp_max_tw_buckets 则不会留下，这一点从套接字本身看不出\
                来。",
            ],
            causes: &["先关闭一方的正常结束：客户端用完了连接，或者服务端在响应之后、空闲太久之后关闭连接。"],
            look: &[
                "`tcpwatch churn`：哪些进程产生的，各有多少。",
                "`nstat -az TcpExtTCPTimeWaitOverflow`：被拒绝的有多少。",
            ],
        },
        Ending::GracefulPassive => EndingText {
            about: "对端先关闭，本端随后关闭",
            happened: &["收到对端的 FIN，本端应用关闭，对端确认了本端的 FIN。本端什么都不留，TIME_WAIT 在对端。"],
            causes: &["后关闭一方的正常结束。"],
            look: &["在 CLOSE_WAIT 停留的时间（`tcpwatch life -o json` 的 spent_ns）：应用隔了多久才关闭。"],
        },
        Ending::Simultaneous => EndingText {
            about: "双方同时关闭：两边都有 TIME_WAIT",
            happened: &[
                "两个 FIN 在途中相遇，并且都得到确认。双方各留一个 timewait 套接字，保留 60 秒；如果已达到 \
                tcp_max_tw_buckets 则不会留下。",
            ],
            causes: &["双方在同一次交互结束时一起关闭。环回接口上常见，跨网络很少。"],
            look: &["不必处理。如果嫌每条连接产生两个 timewait 套接字，让其中一方等到对方的 FIN 再关闭。"],
        },
        Ending::ClosedFirst => EndingText {
            about: "本端已关闭，对端确认了但还没有关闭",
            happened: &[
                "本端调用了 close()，对端内核确认了 FIN。完整的套接字已经消失，留下一个处于 FIN_WAIT2 的 \
                timewait 套接字。对端的 FIN 到来后它转入 TIME_WAIT，这一步没有任何通知；一直不来，则在 \
                tcp_fin_timeout 之后消失。",
            ],
            causes: &[
                "对端稍后才关闭的每一次 close() 都会这样：跨网络时，确认通常先于 FIN 到达。",
                "对端关闭得慢，或者从不关闭：那一边处于 CLOSE_WAIT。",
            ],
            look: &["`tcpwatch snapshot --state fin_wait2 --by remote`：哪些对端还没有关闭。"],
        },
        Ending::ResetByPeer => EndingText {
            about: "对端发来了 RST",
            happened: &[
                "收到 RST，连接立即结束，没有 TIME_WAIT，途中的数据可能丢失。应用得到 ECONNRESET；如果对端之前\
                已经关闭，则是 EPIPE。",
            ],
            causes: &[
                "对端进程退出或关闭连接时，还有数据没读，或者设置了 SO_LINGER 0。",
                "对端关闭之后本端又发了数据：那边已经没有进程读取。",
                "对端主机重启过，或者防火墙、负载均衡因空闲超时忘了这条连接，以 RST 应答。",
                "对端全连接队列已满，并且设置了 tcp_abort_on_overflow。",
            ],
            look: &[
                "`tcpwatch life`：是哪些连接，存活多久，传了多少数据。如果存活时间总是一样，多半是中间\
                设备的空闲超时。",
                "`tcpwatch trace`：在对端主机上运行，同一次结束在那边能看到原因（reset_unread、reset_linger）。",
            ],
        },
        Ending::ResetLinger => EndingText {
            about: "本端发了 RST：以 SO_LINGER 0 关闭",
            happened: &[
                "应用把 SO_LINGER 的时间设为 0，close() 发的就是 RST 而不是 FIN。还没发出的数据被丢弃，没有 \
                TIME_WAIT。",
            ],
            causes: &[
                "想避免 TIME_WAIT 的代码：压测工具、某些代理和健康检查。",
                "某个库在放弃连接时这样设置。",
            ],
            look: &[
                "`tcpwatch life`：这些连接的属主。",
                "如果对端发现数据缺失，原因就在这里。正常结束连接的代码里不要使用 SO_LINGER 0。",
            ],
        },
        Ending::ResetUnread => EndingText {
            about: "本端发了 RST：关闭时还有数据没读",
            happened: &[
                "调用 close() 时，接收队列里还有没读的数据。内核用 RST 告诉对端这些数据没有送达（RFC 2525 第 \
                2.17 节）。没有 TIME_WAIT。本端之前发出的数据，对端如果还没读，也可能丢失。",
            ],
            causes: &[
                "服务端没读完整个请求就返回错误并关闭。",
                "客户端已拿到需要的内容，或者触发了自己的超时。",
                "协议在最后一条消息之后还会发东西：一个换行、TLS 的 close_notify。",
            ],
            look: &[
                "`tcpwatch life`：属主，以及收到了多少数据。",
                "避免的办法：先 shutdown(SHUT_WR)，再读到 read() 返回 0，最后 close()。",
            ],
        },
        Ending::ResetAfterClose => EndingText {
            about: "本端关闭之后发了 RST：又有数据到来",
            happened: &[
                "本端应用已经关闭，之后又有数据到来，已经没有进程读取；或者 TCP_LINGER2 是负数，表示不等对端的 \
                FIN。内核发了 RST，没有 TIME_WAIT。",
            ],
            causes: &[
                "本端关闭时对端还在发送：上传被中断，或者有流水线请求。",
                "应用不等读到对端的结尾就关闭。",
            ],
            look: &["`tcpwatch life`：属主以及 closed by。对端在这个时刻是否还可以发送，由应用协议决定。"],
        },
        Ending::ResetByUs => EndingText {
            about: "本端发了 RST，或者放弃了未被确认的数据，原因不明",
            happened: &[
                "本端发出了 RST，或者在数据、FIN 未被确认时关闭了套接字。套接字能提供的信息只有这些：\
                shutdown() 之后，SO_LINGER 0 与 disconnect 看起来一样。",
            ],
            causes: &[
                "与 reset_linger、reset_unread、reset_after_close、disconnected 相同，只是 6.12 之前的内核不说\
                明为什么发 RST。",
                "shutdown() 之后 disconnect，或者以 SO_LINGER 0 关闭。",
            ],
            look: &["`tcpwatch life`：属主，以及当时所处的状态。"],
        },
        Ending::Refused => EndingText {
            about: "连接被对端拒绝",
            happened: &["对端用 RST 应答了 SYN，或者由 ICMP 报文告知拒绝。connect() 以 ECONNREFUSED 失败。"],
            causes: &[
                "那个地址和端口上没有监听：服务没启动、正在重启，或者监听在别的地址上。",
                "防火墙主动拒绝（REJECT）。",
            ],
            look: &[
                "在对端主机上用 `ss -ltn` 查看有哪些监听套接字、监听在哪些地址。监听在 127.0.0.1 上的服务，别的\
                主机连不上。",
                "`tcpwatch churn`：哪些进程被拒绝，目的地是哪里。",
            ],
        },
        Ending::TimeoutConnect => EndingText {
            about: "SYN 没有得到应答",
            happened: &[
                "SYN 一再重发，直到 tcp_syn_retries 或 TCP_USER_TIMEOUT 允许的时间用完，始终没有应答。\
                connect() 以 ETIMEDOUT 失败。",
            ],
            causes: &[
                "防火墙或安全组丢弃了报文。",
                "主机宕机，或者这个地址根本没有主机。",
                "服务端全连接队列已满，丢弃了 SYN。",
            ],
            look: &[
                "`nstat -az TcpExtListenOverflows TcpExtListenDrops`：在服务端执行，看队列满过多少次。",
                "在两端同时 tcpdump：SYN 到了没有，SYN-ACK 发出了没有。",
            ],
        },
        Ending::TimeoutRetransmit => EndingText {
            about: "反复重传，没有得到应答",
            happened: &[
                "数据或 FIN 一直重传，直到 tcp_retries2 或 tcp_orphan_retries 的限度，或者到了 \
                TCP_USER_TIMEOUT；也可能是对端窗口一直为 0，而零窗口探测没有应答。应用得到 ETIMEDOUT。",
            ],
            causes: &[
                "对端主机断电、断网或路由中断；或者防火墙忘了这条连接，直接丢弃。",
                "路径上会丢大包（MTU 问题）。",
            ],
            look: &[
                "`ss -tno`：timer:(on,TIME,N) 里 N 大于 0 的，已经重传 N 次而没有得到确认。",
                "`tcpwatch life`：看每条连接的 retr，以及 retr 高的连接连的是哪些对端。",
            ],
        },
        Ending::TimeoutKeepalive => EndingText {
            about: "keepalive 探测没有得到应答",
            happened: &[
                "连接空闲，设置了 SO_KEEPALIVE，连续 tcp_keepalive_probes 次探测都没有应答。内核发 RST 并关闭，\
                应用得到 ETIMEDOUT。",
            ],
            causes: &["对端主机无声无息地消失了，或者中间的防火墙忘了这条空闲连接，直接丢弃。"],
            look: &[
                "是否总在空闲同样长的时间之后发生：如果是，中间设备就有这样的空闲超时，tcp_keepalive_time 或 \
                TCP_KEEPIDLE 必须比它短。",
            ],
        },
        Ending::TimeoutFinWait2 => EndingText {
            about: "本端已关闭，对端没有及时关闭",
            happened: &[
                "没有属主的套接字以完整套接字的形式停在 FIN_WAIT2（tcp_fin_timeout 或 TCP_LINGER2 大于 60 秒时\
                如此）。定时器到期时，它等待的时间已经超过现在允许的长度，内核发了 RST，没有 TIME_WAIT。多数情\
                况下，它这时会变成 timewait 套接字（closed_first）。",
            ],
            causes: &["等待期间 tcp_fin_timeout 被改小了。根源是对端不关闭：它在泄漏，处于 CLOSE_WAIT。"],
            look: &["`tcpwatch snapshot --state fin_wait2 --by remote`：是哪些对端。"],
        },
        Ending::Killed => EndingText {
            about: "被管理员终止",
            happened: &["`ss -K` 或者别的程序通过 SOCK_DESTROY 让内核终止了它。对端收到 RST，应用得到 ECONNABORTED。"],
            causes: &["某个人、某个脚本，或者在地址、用户消失时终止连接的系统服务（Android、某些容器网络）。"],
            look: &["本机上哪个程序在执行 `ss -K`，或者发送 SOCK_DESTROY。"],
        },
        Ending::ListenerClosed => EndingText {
            about: "还没有被 accept()，监听套接字就关闭了；或者它本身就是监听套接字",
            happened: &[
                "监听套接字关闭了。已完成握手但没有被 accept() 的连接会被 RST，对端看到的是握手成功之后又被重置。",
            ],
            causes: &["服务停止或重启时，全连接队列里还有连接。"],
            look: &[
                "想要平滑重启：把监听套接字交给新进程（systemd socket activation），或者先停止接收新连接再退\
                出。Linux 5.14 起可以把它们迁移到另一个 SO_REUSEPORT 监听套接字（net.ipv4.tcp_migrate_req）。",
            ],
        },
        Ending::Disconnected => EndingText {
            about: "应用主动断开了连接（disconnect）",
            happened: &["应用以 AF_UNSPEC 调用 connect()：套接字可以再用于另一条连接，对端收到 RST。"],
            causes: &["很少见：重复使用套接字的库，或者专门测试这种用法的程序。"],
            look: &["`tcpwatch life`：属主是谁。"],
        },
        Ending::Unreachable => EndingText {
            about: "网络报告对端不可达",
            happened: &[
                "收到 ICMP 报文，或者邻居没有应答 ARP：没有路由、没有这台主机，或者被禁止。应用得到 \
                EHOSTUNREACH 或 ENETUNREACH。",
                "如果本机自己没有路由，connect() 在发出 SYN 之前就失败，这里看不到。",
            ],
            causes: &["同一网段内的主机宕机了。", "路由器没有路由，或者防火墙用 ICMP 拒绝。"],
            look: &[
                "`ip route get ADDRESS`：有没有路由。",
                "`ip neigh`：邻居是否应答 ARP，FAILED 表示没有应答。",
                "`tcpwatch churn`：按目的地统计这类失败。",
            ],
        },
        Ending::NoPort => EndingText {
            about: "临时端口用完了",
            happened: &["connect() 找不到可用于这个目的地的临时端口，以 EADDRNOTAVAIL 失败，没有发出 SYN。"],
            causes: &[
                "到同一目的地的连接数超过了 ip_local_port_range 的端口数，其中多数处于 TIME_WAIT。",
                "有程序在 connect() 之前用 bind() 绑定地址，却没有设置 IP_BIND_ADDRESS_NO_PORT：它们占用的每个\
                端口，对任何目的地都不再可用。这些程序自己会在 bind() 处以 EADDRINUSE 失败，那时还没有连接，因\
                此没有任何结束方式会反映它。",
            ],
            look: &["`tcpwatch churn`：哪些进程占用端口，端口何时用完。"],
        },
        Ending::ConnectAbandoned => EndingText {
            about: "对端还没应答，应用就放弃了",
            happened: &["套接字还在 SYN_SENT 时就被关闭，或者被应用断开（disconnect）。"],
            causes: &[
                "应用自己的连接超时比内核的短。",
                "Happy Eyeballs（RFC 8305）：同时尝试 IPv6 和 IPv4，另一个先连上了。",
            ],
            look: &[
                "每次尝试用了多久（`tcpwatch life`）：如果总是一样，就是超时。为什么没有应答，见 \
                timeout_connect。",
            ],
        },
        Ending::OutOfMemory => EndingText {
            about: "内核放弃了没有属主的套接字：数量超限或内存不足",
            happened: &[
                "孤儿套接字太多（tcp_max_orphans；对端不应答的在上限的一半或四分之一时就开始被放弃），或者 TCP 内存\
                不足（tcp_mem）。内核发 RST 并释放套接字，没有 \
                TIME_WAIT，还没发出的数据丢失。",
            ],
            causes: &["大量连接关闭时还有数据没被对端收走：繁忙的服务端遇到了很慢或者已经消失的客户端。"],
            look: &[
                "`nstat -az TcpExtTCPAbortOnMemory`：发生过多少次。",
                "`cat /proc/net/sockstat`：看 orphan 和 mem，统计的是整台主机。",
                "内核日志：too many orphaned sockets、out of memory。",
            ],
        },
        Ending::Unknown => EndingText {
            about: "套接字提供的信息不足以判断",
            happened: &["连接已经结束，但证据同时符合几种结束方式，或者缺了一部分。tcpwatch 不猜测。"],
            causes: &[
                "使用经典 tracepoint 时，套接字表已满，或者看不到 RST。",
                "没有规则覆盖的少见情形：例如在 SYN_RECV 就被关闭的 Fast Open 套接字。",
            ],
            look: &["`tcpwatch --version -v`：用的是哪种 hook。使用 tp_btf 时，无法判断的更少。"],
        },
    }
}
