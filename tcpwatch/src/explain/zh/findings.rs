//! Findings.

use crate::explain::kind::FindingKind;
use crate::explain::page::FindingText;

pub(super) fn text(kind: FindingKind) -> FindingText {
    match kind {
        FindingKind::Leak => FindingText {
            about: "应用从不关闭的套接字（连接泄漏）",
            meaning: &[
                "套接字停在只有本机应用才能结束的状态（多数是 CLOSE_WAIT），停留时间越来越长，而且没有一个从这\
                个状态关闭过。要看停留时间，而不是数量：繁忙的服务端任何时刻都有一些刚进入的。",
                "在 CLOSE_WAIT、FIN_WAIT2、SYN_SENT 或 LAST_ACK（加上 `--state established` 还包括 ESTABLISHED）停\
                留达到 `--older` 且没有数据往来的套接字，称为滞留。观察窗口是 `--older` 的两倍，至少 30 秒，也不短于\
                本组最慢的一次关闭所用的时间（最多按 10 分钟算）。下列判定按顺序取第一个成立的；条件成立期间判定不变。",
                "kernel：内核会自行结束：处于 SYN_SENT 或 LAST_ACK，或者已没有进程持有。这类套接字除 young 外没有别的判定。",
                "unread：超过一半的滞留套接字里，数据未读的时间已达到 `--older`。",
                "pool：由本机发起，都没有未读数据，数量在窗口内没有增长；空闲满 10 分钟后判为 leak。",
                "slow：窗口内有滞留套接字被关闭；该行显示过了多久才关闭。",
                "young：还没有一个停留达到 `--older`。",
                "undecided：观察时间短于窗口，最老的套接字还不够老，或本机发起的连接数最近有增长；该行显示还要观察多久。",
                "leak：窗口内没有一个滞留套接字被关闭。",
            ],
            hurts: &[
                "每个都占用一个描述符和一些内存。描述符耗尽后，accept() 和 connect() 以 EMFILE 失败：进程还在，\
                服务已经停了。",
            ],
            to_do: &[
                "`tcpwatch leaks --watch 10s --stacks`：找到打开这些连接的那行代码，再找出哪条路径没有关闭：出错、异常、提\
                前返回。",
                "让关闭跟随作用域：Python 的 with、Java 的 try-with-resources、Go 的 defer、Rust 的 Drop。",
                "修复之前，重启进程可以释放；sysctl 不行，调大描述符上限也只是拖延。",
            ],
        },
        FindingKind::Churn => FindingText {
            about: "短连接：每一个或几个请求就新建一条连接",
            meaning: &[
                "某个进程或对端向同一个目的地每秒新建十条以上连接，并且占全部新建连接的四分之一以上；其中大多数已经结\
                束，结束的连接里九成活不到一秒，数据较少的那个方向平均不到 16 KiB。",
            ],
            hurts: &[
                "每条连接都要握手（第一个字节之前先花一个 RTT，用 TLS 更多），消耗两端 CPU，并在先关闭的一方产\
                生 TIME_WAIT。频率高到一定程度，临时端口就会用完。",
            ],
            to_do: &[
                "复用连接：HTTP keep-alive，数据库和 Redis 用连接池，PHP 用持久连接。需要双方配合：服务端每次响\
                应后就关闭，复用就无从谈起。",
                "nginx 到上游：在 upstream 里配置 keepalive，并设置 proxy_http_version 1.1 和 proxy_set_header \
                Connection \"\"。",
                "`tcpwatch churn`：谁在新建，连的是哪里，每秒多少条。",
            ],
        },
        FindingKind::Burst => FindingText {
            about: "短时间内新建大量连接",
            meaning: &[
                "连续若干秒里，每秒新建的连接都超过此前一分钟每秒中位数的两倍，并且至少多出一百条。平时的水平需要先观\
                察十秒才能知道。",
            ],
            hurts: &["全连接队列和半连接队列是按平时的速率设置的。放不下的会被丢弃，客户端要等一秒或更久才会重试。"],
            to_do: &[
                "找出是谁：`tcpwatch churn` 会给出每次突发对应的进程或对端。常见的是整分触发的定时任务，以及服\
                务重启后客户端一齐重连。",
                "错峰：重连之前随机延时，重试间隔逐次加长。",
                "如果是正常业务，加长全连接队列（listen() 的 backlog 和 somaxconn）就能接住。",
            ],
        },
        FindingKind::PortExhaustion => FindingText {
            about: "临时端口即将用完，或者已经用完",
            meaning: &[
                "一条连接由四元组区分：两个地址、两个端口。从同一个源地址到同一个目的地址和端口，连接数最多等\
                于 ip_local_port_range 的端口数（默认 28,232），处于 TIME_WAIT 的也算在内。",
                "占用达到 80 % 即为紧张；有 connect 已找不到端口，或者照最近十秒的速度半分钟之内就会占满，即为耗\
                尽。",
                "算法：按这个速度新占用的端口，减去到那时 TIME_WAIT 已结束的端口，用完了现有的空闲端口。",
            ],
            hurts: &[
                "connect() 以 EADDRNOTAVAIL 失败（no_port）。在此之前它会越来越慢，因为内核要费力寻找空闲端口。",
                "bind() 绑定地址和端口 0 而没有设置 IP_BIND_ADDRESS_NO_PORT 时，占用的端口对所有目的地都不再可\
                用。端口用完时它以 EADDRINUSE 失败，发往任何目的地的普通 connect() 也找不到端口。",
            ],
            to_do: &[
                "减少新建连接：长连接或连接池。这才是根治，其余办法只是抬高上限。",
                "如果端口被 TIME_WAIT 占着，而且连接是本机发起的：设置 net.ipv4.tcp_tw_reuse=1，两端都要开启时\
                间戳，端口 1 秒后即可复用。",
                "扩大端口范围（ip_local_port_range），增加目的地址或源地址，或者让对端先关闭，使 TIME_WAIT 留在\
                对端。",
                "如果代码在 connect() 之前用 bind() 绑定地址：设置 IP_BIND_ADDRESS_NO_PORT，端口就推迟到 \
                connect() 时才选，而且只针对那一个目的地。",
                "tcp_fin_timeout 没有用，tcp_tw_recycle 已经不存在。",
            ],
        },
        FindingKind::TimeWaitOverflow => FindingText {
            about: "timewait 套接字超过上限而被拒绝",
            meaning: &[
                "这个网络命名空间里的 timewait 套接字已达到 tcp_max_tw_buckets，或者没有内存再分配一个，连接直\
                接到了 CLOSE（TcpExtTCPTimeWaitOverflow）。",
                "判定条件：有 timewait 套接字被拒绝，或者数量达到 tcp_max_tw_buckets 的九成。",
            ],
            hurts: &[
                "没有听上去那么严重：对端迟到的 FIN 会得到 RST，同一对端口上的下一条连接失去了对迟到报文的防\
                护。它说明短连接非常多。",
            ],
            to_do: &[
                "`tcpwatch churn`：找出是谁产生的。复用连接。",
                "调大 net.ipv4.tcp_max_tw_buckets：每个只占几百字节。",
                "不要为了消灭 TIME_WAIT 而调小它：那样每次关闭都会变成这种情况。",
            ],
        },
        FindingKind::AcceptQueueOverflow => FindingText {
            about: "全连接队列溢出",
            meaning: &[
                "握手完成的连接在监听套接字的全连接队列里等待 accept()。队列满了，SYN 或者握手的最后一个 ACK 被\
                丢弃（TcpExtListenOverflows）。",
                "判定条件：有报文遇到队列已满；每秒十个以上为严重。",
            ],
            hurts: &[
                "客户端要等一秒再重发 SYN，而且可能重发多次：延迟以秒计，或者超时，而服务端的 CPU 可能很闲。设\
                置了 tcp_abort_on_overflow 时则直接被 RST。",
                "最后一个 ACK 被丢弃的客户端以为已经连上。队列有了空位，靠它再发的数据或者服务端重发的 SYN-ACK \
                还能进来。tcp_synack_retries 用完（63 秒）之后，服务端悄悄忘掉这个请求：只等服务端先说话的客户\
                端会一直等下去，它一发数据就得到 RST。",
            ],
            to_do: &[
                "`ss -ltn`：是哪个监听端口，看哪一行的 Recv-Q 接近或超过 Send-Q。",
                "先查应用：accept() 调用得够不够快？常见的情形是同一个线程既 accept() 又处理业务。",
                "再看队列：上限取 listen() 的 backlog 与 net.core.somaxconn 中较小的一个。调大较小的那个，然后\
                重启应用，因为上限在调用 listen() 时才确定。",
            ],
        },
        FindingKind::SynFlood => FindingText {
            about: "SYN 超出监听端口的承受能力：发出 cookie，或者丢弃 SYN",
            meaning: &[
                "监听套接字的半连接队列满了。开启 tcp_syncookies 时，内核用 cookie 应答，不保留任何信息\
                （TcpExtTCPReqQFullDoCookies）；没有开启时直接丢弃 SYN（TcpExtTCPReqQFullDrop）。",
                "判定条件：监听套接字用 cookie 应答 SYN，或者因队列已满而丢弃，或者在有半连接时丢弃了十个以上与队列已满无关的\
                报文；每秒丢弃十个以上为严重。",
                "没有开启 cookie 时，如果监听套接字的 backlog 大于 tcp_max_syn_backlog 的四分之三，半连接数一达到这个\
                四分之三，还没到队列满就开始丢弃 SYN，只计入 TcpExtListenDrops。",
            ],
            hurts: &[
                "SYN 被丢弃，客户端就得等。cookie 能让所有客户端进来，但有代价：没有时间戳时，连接就没有窗口扩\
                大和 SACK；最后一个 ACK 如果丢了，服务端永远不会知道有这条连接。",
            ],
            to_do: &[
                "`nstat -az TcpExtSyncookiesSent TcpExtSyncookiesRecv`：是攻击还是业务量大？多数 cookie 都回来\
                了，就是真实客户端。",
                "`tcpwatch snapshot --state syn_recv --by remote`：它们来自哪里。",
                "真实客户端：调大 listen() 的 backlog 和 somaxconn，它们同时限制半连接队列。",
                "攻击：tcp_syncookies 保持为 1，在主机前面做过滤。",
            ],
        },
        FindingKind::HalfOpen => FindingText {
            about: "半连接堆积",
            meaning: &[
                "任一方向有一百个以上的握手在等应答，平均等待超过一秒。",
                "停在 SYN_RECV 的由对端发起：SYN-ACK 已发出，最后一个 ACK 迟迟不来。",
                "停在 SYN_SENT 的由本机发起：SYN 已发出，既没有 SYN-ACK，也没有 RST。",
            ],
            hurts: &[
                "SYN_RECV 占用半连接队列，队列满了之后见 syn_flood。",
                "SYN_SENT 各占一个临时端口，等待 connect() 的线程或协程也一直占着，直到 tcp_syn_retries 允许的\
                时间用完：131 秒。",
            ],
            to_do: &[
                "`tcpwatch snapshot --state syn_recv --by remote`：如果只有少数对端，是它们的应答丢了（来回路由\
                不对称，防火墙只看到一个方向）；如果非常多，就是伪造源地址的 SYN flood。",
                "如果认得那个对端，在对端 tcpdump：SYN-ACK 到了没有？",
                "`tcpwatch snapshot --state syn_sent --by process --by remote`：是谁发起的，连的是哪里。只有一\
                个目的地，是那台主机宕机、防火墙丢包，或者监听队列已满；所有目的地都这样，查本机自己的出口。",
            ],
        },
        FindingKind::ConnectFailures => FindingText {
            about: "connect() 失败",
            meaning: &[
                "某个进程向同一个目的地的 connect()，或者其余所有 connect() 合起来，失败了五次以上，并且占尝试次数的二十分之一\
                以上：被拒绝、超时、不可达，或者中途放弃；失败一半以上为严重。",
                "没有临时端口的见 port_exhaustion。",
            ],
            hurts: &["每次失败都意味着一个请求变慢或丢失。超时还会让一个线程或协程一直占着。"],
            to_do: &[
                "`tcpwatch churn`：谁在失败，连的是哪里，怎样失败。",
                "refused：那里没有监听。timeout_connect：SYN 被丢弃。unreachable：路由器没有路由，或主机宕机。no_port：\
                见 port_exhaustion。",
            ],
        },
        FindingKind::OrphanLimit => FindingText {
            about: "没有属主的套接字（孤儿套接字）接近上限，或因此被放弃",
            meaning: &[
                "孤儿套接字是已经关闭、但还有东西要发的连接：数据，或者还没被确认的 FIN。",
                "判定条件：内核已经放弃了一些，或者整台主机上的数量达到 tcp_max_orphans 的四分之一，内核从这时起可能开始放\
                弃：达到四分之一，放弃对端不应答且收到过 ICMP \
                错误的；达到一半，放弃所有对端不应答的；超过上限，任何一个都可能被放弃。",
            ],
            hurts: &[
                "因为这个上限或内存不足而放弃的套接字，内核直接 RST（TcpExtTCPAbortOnMemory）：响应的末尾丢失，对端看到\
                连接被重置。",
            ],
            to_do: &[
                "`tcpwatch snapshot --state fin_wait1,last_ack,closing --by remote`：找出不接收数据的对端。",
                "调小 tcp_orphan_retries，早一点放弃已经消失的对端。",
                "内存充足就调大 tcp_max_orphans：每个最多占 64 KB。",
            ],
        },
        FindingKind::RetransmitStorm => FindingText {
            about: "大量重传",
            meaning: &[
                "每秒重传十个以上报文（SYN 和 SYN-ACK 不计在内），并且占发出报文的二十分之一以上：报文丢了，或者确认丢了、来得\
                太晚。",
            ],
            hurts: &["吞吐下降，延迟上升：每次超时至少等 200 毫秒，并且逐次加倍。丢一个 SYN 就是一秒。"],
            to_do: &[
                "`tcpwatch life`：看每条连接的 retr。集中在某个对端或网段，是路径问题；所有连接都有，\
                是本机问题（网卡、队列、CPU）。",
                "只有 SYN 和 SYN-ACK 重传（`tcpwatch latency` 会分开统计）：队列满了，或者有防火墙。",
                "`ip -s link` 和 `ethtool -S`：网卡的丢包和错误计数。",
            ],
        },
        FindingKind::EventLoss => FindingText {
            about: "tcpwatch 自己丢失或错过了事件",
            meaning: &[
                "环形缓冲区放不下记录（lost），或者内核跳过了我们程序的某次运行（missed）。打印出来的内容不完\
                整；stat 的计数不依赖环形缓冲区。",
                "判定条件：丢失了记录、错过了 RST 或者套接字计数有误（达到千分之一为警告），或者内核跳过了运行。",
            ],
            hurts: &["部分连接的经历和属主无从得知，依据单条连接得出的结论可能偏小。"],
            to_do: &[
                "lost：加 `--ring-size 64M`，加过滤条件（-L、-R、--remote），或者更快地读取输出。",
                "missed：内核支持时用 `--hook tp_btf`；经典 tracepoint 上，同一 CPU 上的另一个程序会妨碍我们的\
                程序运行。",
            ],
        },
        FindingKind::Host => FindingText {
            about: "主机上的某个参数有害，或者并不起预期的作用",
            meaning: &[
                "`tcpwatch doctor` 对参数的判断：当前值、默认值、计数器说明了什么，以及在这台主机上修改它有没有用。",
            ],
            hurts: &["从别处抄来的参数可能掩盖真正的原因，或者弄坏别的东西。"],
            to_do: &["`tcpwatch explain` 加上参数的名字。"],
        },
    }
}
