//! Settings of the host.

use crate::explain::page::SettingText;
use crate::input::setting::Setting;

pub(super) fn text(setting: Setting) -> SettingText {
    match setting {
        Setting::TcpSyncookies => SettingText {
            about: "半连接队列已满时，怎样处理新来的 SYN",
            does: &[
                "1：内核用 cookie 应答，在最后一个 ACK 把 cookie 带回来之前什么都不保留。0：丢弃 SYN。2：对每\
                个 SYN 都用 cookie 应答。",
            ],
            does_not: &["对全连接队列溢出没有帮助：那时不管有没有 cookie，SYN 都会被丢弃。"],
            change: &["保持为 1。2 只用于测试。"],
            risk: &[
                "设为 0，每秒几十个伪造的 SYN 就能让一个端口无法接入。",
                "由 cookie 建立的连接，只有双方都使用时间戳时才有窗口扩大和 SACK。",
            ],
        },
        Setting::TcpTwReuse => SettingText {
            about: "connect() 能否复用处于 TIME_WAIT 的连接的端口",
            does: &[
                "0：不能。1：能。2：只限环回连接。适用于由本机发起、TIME_WAIT 也在本机、目的地相同的连接，最早\
                在它最后一个报文的 1 秒之后（Linux 6.14 起由 net.ipv4.tcp_tw_reuse_delay 决定）。两端都必须开启\
                时间戳，靠它区分迟到的报文和新的报文。",
            ],
            does_not: &[
                "对服务端没有作用：外来的新连接顶替 TIME_WAIT 里的旧连接，本来就不需要它允许。",
                "不会缩短 TIME_WAIT；在端口被用到之前，timewait 套接字的数量也不会减少。",
                "任何一端的 tcp_timestamps 为 0 时不起作用。",
            ],
            change: &[
                "connect() 因没有端口而失败（no_port、EADDRNOTAVAIL），端口被 TIME_WAIT 占着，而又无法改用长连\
                接时，设为 1。",
            ],
            risk: &[
                "使用时间戳时风险很小。如果最后一个 ACK 丢了，对端还停在 LAST_ACK，新连接会慢一秒：SYN 得到的是\
                一个 ACK，本端回 RST 清掉对端的旧连接，再重发 SYN。",
            ],
        },
        Setting::TcpTwRecycle => SettingText {
            about: "Linux 4.12 起已删除；它会让 NAT 后面的客户端连不上",
            does: &[
                "Linux 4.12 及以后：没有任何作用。文件不存在，`sysctl -p` 会报找不到，写在配置文件里的那一行不\
                起任何作用。",
                "之前：timewait 套接字在几个 RTO 之后就结束，内核按对端地址记住最后一个报文的时间戳，时间戳更旧\
                的 SYN 被悄悄丢弃。",
            ],
            does_not: &[
                "在任何内核上，它都不是减少 TIME_WAIT 的正当办法。同一个 NAT 地址后面的客户端各有各的时钟，总有\
                一些连不上。Linux 4.10 起每条连接的时间戳偏移都是随机的，连单个客户端也会连不上。",
            ],
            change: &["永远不要开启。把那一行删掉，`tcpwatch doctor` 会指出它在哪里。4.12 之前的内核上设为 0。"],
            risk: &["删除：没有风险。保留：会让人误以为它起作用。"],
        },
        Setting::TcpFinTimeout => SettingText {
            about: "已关闭的套接字在 FIN_WAIT2 等待对端 FIN 的时间",
            does: &[
                "限制已经没有进程持有（close() 之后）的套接字停在 FIN_WAIT2 的时间，单位是秒。TCP_LINGER2 可以\
                为单个套接字设置。",
            ],
            does_not: &[
                "它不会缩短 TIME_WAIT：TIME_WAIT 是 60 秒，在内核里写死（TCP_TIMEWAIT_LEN）。两者默认值恰好相\
                同，所以才有这种误解。",
                "它不会结束 shutdown(SHUT_WR) 之后进程仍然持有的套接字，也与 CLOSE_WAIT 无关。",
                "对仍在发送数据的对端没有区别：close() 之后才到的数据，不论这个值是多少，都会得到 RST。",
            ],
            change: &["几乎不需要。只有当对端不关闭，没有属主的 FIN_WAIT2 非常多时，才调小。"],
            risk: &[
                "对端如果更晚才关闭，它的 FIN 得到的是 RST：那时 timewait 套接字已经不在了。",
                "大于 60 时，实际效果与字面不符：先作为完整的套接字等待（设定值减 60）秒，再作为 timewait 套接\
                字等待同样长的时间。设为 62，总共只等 4 秒。",
            ],
        },
        Setting::TcpMaxTwBuckets => SettingText {
            about: "timewait 套接字的数量上限",
            does: &[
                "超过上限后，本该进入 TIME_WAIT 的连接直接到 CLOSE，计数器 TcpExtTCPTimeWaitOverflow 增加。默认\
                值由内存大小决定。",
            ],
            does_not: &["调小它治不了 TIME_WAIT：保护没有了，原因还在；内核文档也说不要这样做。"],
            change: &["TCPTimeWaitOverflow 在增加而内存充足时调大：每个约 250 字节。"],
            risk: &["调大：占内存，客户端上占用的端口更多。调小：对端迟到的 FIN 得到 RST，迟到的报文可能混进新连接。"],
        },
        Setting::IpLocalPortRange => SettingText {
            about: "connect() 选用的临时端口范围",
            does: &[
                "connect() 以及绑定端口 0 的 bind()，从这个范围里取空闲端口，默认有 28,232 个。\
                ip_local_reserved_ports 里的端口除外。",
            ],
            does_not: &[
                "它不是整台主机的连接数上限：从每个源地址到每个目的地址和端口，都可以用满整个范围。它也不限制服\
                务端：监听端口上的所有连接共用那一个端口。",
            ],
            change: &["到同一目的地的端口不够用时（`tcpwatch churn`）扩大，例如 10240 65535；但先考虑复用连接。"],
            risk: &[
                "监听端口落在范围内的服务，可能因为端口被某条外出连接占用而启动失败。先把这些端口加进 \
                ip_local_reserved_ports。",
            ],
        },
        Setting::IpLocalReservedPorts => SettingText {
            about: "临时端口范围内保留、不自动分配的端口",
            does: &["connect() 以及绑定端口 0 的 bind() 不会选用这些端口。用端口号直接 bind() 不受影响。"],
            does_not: &["它不会收回已经被某条连接占用的端口。"],
            change: &["有服务监听在 ip_local_port_range 范围内的端口上时设置，使它随时都能启动。"],
            risk: &["每保留一个，可用的临时端口就少一个。写入会替换整个列表。"],
        },
        Setting::Somaxconn => SettingText {
            about: "全连接队列长度的上限",
            does: &["listen(backlog) 取两者中较小的一个。同一个数也限制这个监听套接字的半连接数。"],
            does_not: &[
                "应用自己要得少，它不会帮着加长：nginx 和 Redis 的 backlog 是 511，Java 是 50；Go 直接取 somaxconn。",
                "对已经在监听的套接字没有作用：上限在调用 listen() 时确定，需要重启应用。",
                "它不会让慢的应用变快。",
            ],
            change: &[
                "TcpExtListenOverflows 在增加，而且 `ss -ltn` 里某个监听端口的上限（Send-Q）正好等于它时调大。\
                应用自己的 backlog 也要一起调大。",
            ],
            risk: &["很小：排队的连接占些内存。应用很慢而队列很长时，轮到处理，客户端早已放弃。"],
        },
        Setting::TcpMaxSynBacklog => SettingText {
            about: "不使用 SYN cookie 时，每个监听端口保留多少半连接",
            does: &["tcp_syncookies 为 0 时，对每个监听套接字，一旦用掉四分之三，来自陌生对端的 SYN 就会被丢弃。"],
            does_not: &[
                "默认开启 tcp_syncookies，这时它从 Linux 4.4 起就不起作用：半连接数由监听套接字的 backlog 限\
                制，最多为 somaxconn。尽管如此，很多调优文章仍然在设置它。",
            ],
            change: &[
                "tcp_syncookies 为 0，TcpExtListenDrops 在增加而 ListenOverflows 不变时调大。更好的办法是开启 \
                cookie。",
            ],
            risk: &["内存：每个半连接约 300 字节。"],
        },
        Setting::TcpAbortOnOverflow => SettingText {
            about: "全连接队列已满时，是否给客户端回 RST",
            does: &[
                "0：丢弃握手的最后一个 ACK。客户端以为已经连上；队列有了空位，靠它再发的数据或者服务端重发的 \
                SYN-ACK 还能进来。如果直到 tcp_synack_retries 用完（63 秒）都没有空位，服务端就悄悄忘掉这个请\
                求：只等不发的客户端什么也收不到，一发数据就得到 RST。1：立即回 RST。",
            ],
            does_not: &["它不会腾出空间，只是让客户端得到错误而不是延迟。"],
            change: &["只有客户端更适合快速失败时才设为 1：例如会改连下一台服务器的负载均衡。"],
            risk: &["本来只是无人察觉的短暂延迟，会变成连接被重置（connection reset by peer）。"],
        },
        Setting::TcpMaxOrphans => SettingText {
            about: "已关闭但还有数据要发的套接字（孤儿套接字）的上限",
            does: &[
                "超过上限后，内核对没有进程持有的套接字直接 RST。它统计整台主机，所有网络命名空间合在一起。没有\
                进展的套接字在达到上限的一半或四分之一时就会被放弃。默认值由内存大小决定。",
            ],
            does_not: &["它与 TIME_WAIT 无关（timewait 套接字不是孤儿套接字），也与 CLOSE_WAIT 无关（那些有属主）。"],
            change: &["TcpExtTCPAbortOnMemory 在增加，内核日志出现 too many orphaned sockets，而且内存充足时调大。"],
            risk: &["调大：每个最多占 64 KB，不能换出。调小：响应的末尾会丢失。"],
        },
        Setting::TcpOrphanRetries => SettingText {
            about: "已关闭的套接字重传多少次后放弃",
            does: &[
                "对端不应答时，限制没有进程持有的套接字停在 FIN_WAIT1、LAST_ACK、CLOSING 的时间。默认值 0 代表 \
                8 次：RTT 很短时约 100 秒。",
            ],
            does_not: &["0 并不是不重传。它不影响进程仍持有的套接字：那由 tcp_retries2 决定。"],
            change: &["繁忙的服务端有大量孤儿套接字，而对端都已消失时，调小到 2 或 3。"],
            risk: &["网络差的客户端会丢失响应的末尾。"],
        },
        Setting::TcpKeepaliveTime => SettingText {
            about: "连接空闲多久之后开始探测对端",
            does: &["单位是秒，适用于设置了 SO_KEEPALIVE、又没有自己设置 TCP_KEEPIDLE 的套接字。"],
            does_not: &[
                "没有 SO_KEEPALIVE 的套接字不受影响，而它默认是关闭的，要由应用开启。",
                "它不是 HTTP keep-alive，那是指复用连接。",
                "它解决不了 CLOSE_WAIT 泄漏：对端主机还在，就会应答或者回 RST，描述符依然不会释放。",
            ],
            change: &[
                "中间的防火墙、NAT 或负载均衡在不到 2 小时就忘掉空闲连接时，设得比那个超时更短。最好在应用里设\
                置（TCP_KEEPIDLE）。",
            ],
            risk: &["空闲连接上会有流量，移动客户端会被唤醒；本可以挺过短暂断网的连接会被放弃。"],
        },
        Setting::TcpKeepaliveIntvl => SettingText {
            about: "探测没有应答时，隔多久再探测一次",
            does: &[
                "单位是秒。连续 tcp_keepalive_probes 次都没有应答，默认约 11 分钟后放弃连接（timeout_keepalive）。",
            ],
            does_not: &["它不是对端有应答时的探测周期：那是 tcp_keepalive_time。"],
            change: &[
                "需要更快发现已消失的对端时，与 tcp_keepalive_time 一起调整。最好在应用里设置（TCP_KEEPINTVL）。",
            ],
            risk: &["网络短暂中断就会断开连接。"],
        },
        Setting::TcpKeepaliveProbes => SettingText {
            about: "连续多少次探测没有应答就放弃连接",
            does: &[
                "达到次数后连接被重置，应用得到 ETIMEDOUT。单个套接字用 TCP_KEEPCNT 设置；设置了 \
                TCP_USER_TIMEOUT 时以后者为准。",
            ],
            does_not: &["有数据未被确认时它不起作用：那由 tcp_retries2 决定。"],
            change: &["与 tcp_keepalive_intvl 一起调整。"],
            risk: &["次数太少，丢几个包就会断开连接。"],
        },
        Setting::TcpRetries1 => SettingText {
            about: "重传多少次之后开始怀疑路由",
            does: &["TCP 请网络层另找路由，也可能改用更小的报文（tcp_mtu_probing）。"],
            does_not: &["它不会结束任何连接。"],
            change: &["几乎不需要。"],
            risk: &["没有值得一提的风险。"],
        },
        Setting::TcpRetries2 => SettingText {
            about: "已建立的连接重传多少次后放弃",
            does: &[
                "它会换算成时间：15 对应至少 924.6 秒，RTT 长时更久。之后应用得到 ETIMEDOUT（timeout_retransmit）。",
            ],
            does_not: &[
                "它不影响空闲连接（那由 keepalive 负责）、握手（tcp_syn_retries）和已关闭的套接字\
                （tcp_orphan_retries）。",
            ],
            change: &[
                "需要更快发现故障切换时调小：8 约为 100 秒，是 RFC 1122 允许的最小值。最好在应用里用 \
                TCP_USER_TIMEOUT。",
            ],
            risk: &["整个网络命名空间里的连接都会因为更短的中断而断开。"],
        },
        Setting::TcpSynRetries => SettingText {
            about: "SYN 重发多久之后 connect() 失败",
            does: &[
                "6：connect() 在 131 秒或稍后以 ETIMEDOUT 失败。Linux 6.5 起，SYN 先每隔 1 秒重发 \
                tcp_syn_linear_timeouts（4）次，再按加倍的间隔重发 6 次，即大约在第 1、2、3、4、5、7、11、19、\
                35、67 秒重发。之前只重发 6 次，127 秒后失败。",
                "设为 2 和 1，在任何内核上都是 7 秒和 3 秒后失败：时间达到 2^(N+1) - 1 秒也会放弃。单个套接字\
                用 TCP_SYNCNT 设置。",
            ],
            does_not: &["对端回 RST 时它不起作用；对外来的连接也不起作用（那是 tcp_synack_retries）。"],
            change: &["应用没有自己的连接超时，会挂住两分钟时调小。更好的办法是给应用加上超时。"],
            risk: &["太小的话，网络差时丢一两个 SYN 就会连接失败。"],
        },
        Setting::TcpSynackRetries => SettingText {
            about: "SYN-ACK 重发多少次后丢弃半连接",
            does: &["5：半连接在 63 秒后丢弃。它也影响全连接队列：握手完成时队列已满的连接，要靠这些重发来维持。"],
            does_not: &["开启 cookie 时，它对 SYN flood 没有作用：那时什么都不保留。"],
            change: &["已消失的客户端留下的半连接占满队列时，调小到 2 或 3。"],
            risk: &["丢几个包的客户端就连不上。"],
        },
        Setting::TcpTimestamps => SettingText {
            about: "每个报文带时间戳（RFC 7323）",
            does: &[
                "用来测量 RTT，防范旧报文（PAWS），使 tcp_tw_reuse 生效，并为由 SYN cookie 建立的连接保存选项。\
                1：每条连接使用随机偏移。2：没有随机偏移。0：关闭。",
            ],
            does_not: &["设为 1 时，Linux 4.10 起已经不会泄露主机运行了多久。每个报文多 12 字节，不是关掉它的理由。"],
            change: &["保持为 1。如果是 0，改回来。"],
            risk: &["设为 0：tcp_tw_reuse 不起作用，高速网络失去对序列号回绕的防护，cookie 失去窗口扩大和 SACK。"],
        },
        Setting::FileMax => SettingText {
            about: "整台主机打开文件数的上限",
            does: &[
                "超过上限，open()、socket()、accept() 以 ENFILE 失败，特权进程（CAP_SYS_ADMIN）除外。当前数量\
                见 fs.file-nr。默认每 10 KB 内存一个；systemd 240 起会把它设成最大值。",
            ],
            does_not: &[
                "它不会提高单个进程的上限。Too many open files（EMFILE）说的是进程的上限：`ulimit -n`，或者 \
                systemd 单元里的 LimitNOFILE=。",
            ],
            change: &["fs.file-nr 接近它时调大。"],
            risk: &["占用内核内存；描述符泄漏会更晚才被发现。"],
        },
        Setting::NrOpen => SettingText {
            about: "单个进程的打开文件数上限最高能设到多少",
            does: &["setrlimit(RLIMIT_NOFILE) 超过它就会失败，root 也一样；服务的 LimitNOFILE= 更大时不会生效。"],
            does_not: &["它本身不会改变任何进程的上限。"],
            change: &["单个进程需要一百万以上描述符时，先调大它，再调大进程的上限。"],
            risk: &["上限极大时，会逐个遍历所有描述符的程序（某些旧守护进程在 exec 之前）会变得很慢。"],
        },
        Setting::NfConntrackMax => SettingText {
            about: "netfilter 连接跟踪表的上限",
            does: &[
                "表满之后，新连接的报文会被丢弃，内核日志出现 nf_conntrack: table full, dropping packet。当前数\
                量见 net.netfilter.nf_conntrack_count。默认值由内存大小决定：4 GB 以上是 262,144。",
            ],
            does_not: &[
                "它不是 TCP 自己的限制：没有用到它的 netfilter 规则，就不会跟踪。它还会统计 TCP 早已忘掉的连\
                接：TIME_WAIT 保留 120 秒，空闲连接保留 5 天。",
            ],
            change: &[
                "nf_conntrack_count 接近它时调大，nf_conntrack_buckets 一起调大；或者不跟踪不需要跟踪的连接\
                （notrack）。",
            ],
            risk: &["内存：每条约 300 字节。只有最初的网络命名空间可以修改。"],
        },
    }
}
