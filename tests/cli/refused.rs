//! Wrong arguments: exit code 2, one line on stderr, nothing on stdout.

use std::fs::File;

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::run::{Unprivileged, finish, finish_into, tcpwatch};

/// Wrong arguments, and a text that the error must contain.
const WRONG: [(&[&str], &str); 58] = [
    (
        &["record", "-w", "new", "--rotate"],
        "try --max-size 1G or --max-time 1h",
    ),
    (&["stat", "--port", "70000"], "70000"),
    (&["trace", "-L", "70000"], "70000"),
    (&["trace", "-R", "0-65536"], "65536"),
    (&["snapshot", "--port", "http"], "http"),
    (&["snapshot", "--port", "90-80"], "90-80"),
    (&["snapshot", "--state", "closewait"], "closewait"),
    (&["stat", "--state", "established,nonsense"], "nonsense"),
    (&["snapshot", "--local", "10.0.0.0/33"], "10.0.0.0/33"),
    (&["trace", "--hook", "kprobe"], "kprobe"),
    (&["trace", "--ring-size", "3M"], "3M"),
    (&["stat", "never"], "never"),
    (&["stat", "-1"], "-1"),
    (&["stat", "1", "0"], "0"),
    (&["snapshot", "--source", "guess"], "guess"),
    (&["snapshot", "--nonsense"], "--nonsense"),
    (&["nonsense"], "nonsense: no such command"),
    (&["stats"], "no such command; did you mean stat?"),
    (&["-o", "json", "snapshto"], "did you mean snapshot?"),
    (&["stat", "--pid", "812,813"], "tcpwatch snapshot --pid 812 --pid 813"),
    (&["record", "-w", "new", "--cgroup", "/a"], "tcpwatch life --cgroup /a,"),
    (&["--comm", "nginx"], "tcpwatch snapshot --comm nginx"),
    (&["trace", "--state", "time_wait"], "or tcpwatch stat --state time_wait"),
    (
        &["trace", "--state", "established,time_wait"],
        "trace does not support --state time_wait: the kernel reports no transition from or to it; try tcpwatch trace",
    ),
    (&["life", "--state", "time_wait"], "or tcpwatch stat --state time_wait"),
    (
        &["life", "--state", "close,listen,close_wait"],
        "life does not support --state close,listen: it is never the last state before CLOSE; try",
    ),
    (
        &["latency", "--state", "time_wait,listen"],
        "latency does not support --state time_wait,listen:",
    ),
    (
        &["churn", "--state", "close_wait"],
        "churn does not support --state close_wait: it counts whole connections; try tcpwatch stat --state close_wait",
    ),
    (
        &["snapshot", "--uid", "0", "--source", "iter"],
        "--source iter counts states alone; try without --by, --list",
    ),
    (&["help", "stats"], "stats: no such command; did you mean stat?"),
    (&["-o", "json", "help"], "'-o'; try --help"),
    (&["snapshot", "--pid", "0"], "--pid"),
    (&["snapshot", "--pid", "nginx"], "nginx"),
    (&["snapshot", "--comm", ""], "--comm"),
    (&["explain", "close_wiat"], "did you mean close_wait?"),
    (&["explain", "net.ipv4.tcp_tw_resue"], "did you mean tcp_tw_reuse?"),
    (
        &["explain", "keepalive"],
        "tcp_keepalive_time, tcp_keepalive_intvl or tcp_keepalive_probes?",
    ),
    (
        &["explain", "tcp_mem"],
        "no such topic, but out_of_memory mentions it; try tcpwatch explain out_of_memory",
    ),
    (
        &["explain", ""],
        "no such topic; try tcpwatch explain, which lists all topics",
    ),
    (&["explain", "--lang", "de"], "de"),
    (&["explain", "-o", "csv"], "csv"),
    (&["leaks", "--older", "long"], "long"),
    (&["leaks", "--watch", "0"], "10ms"),
    (
        &["leaks", "--state", "time_wait"],
        "try tcpwatch leaks --state established,syn_sent,fin_wait2,close_wait,last_ack,",
    ),
    (&["leaks", "--fail-if-leak"], "-d 60s"),
    (&["leaks", "--fail-if-leak", "-d", "59s"], "try -d 60s"),
    (&["leaks", "--stacks"], "--watch 10s"),
    (&["leaks", "--port", "0"], "0"),
    (&["snapshot", "--limit", "3"], "try --by process"),
    (&["snapshot", "--list", "--source", "iter"], "try without --by, --list"),
    (&["snapshot", "--list", "--by", "state"], "--by"),
    (&["man", "stats"], "did you mean stat?"),
    (&["export", "-w", "out"], "try tcpwatch replay DIR export -w OUT"),
    (&["replay", "recording", "snapshot"], "try replay DIR stat"),
    (&["replay", "recording", "stat", "-d", "1"], "try without -d"),
    (&["replay", "recording", "nonsense"], "no such command"),
    (&["replay", "recording", "record", "-w", "new"], "try replay DIR stat"),
    (&["replay", "recording", "-V"], "try replay DIR stat"),
];

#[test]
fn wrong_arguments_are_refused() {
    let mut wrong = Vec::new();
    for (args, word) in WRONG {
        wrong.extend(
            finish(&tcpwatch(args))
                .refused(2, word)
                .err()
                .map(|how| format!("{args:?}: {how}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_fifo_is_not_a_network_namespace() {
    let folder = tempfile::tempdir().expect("a folder");
    let fifo = folder.path().join("fifo");
    mkfifoat(CWD, &fifo, Mode::RUSR).expect("a FIFO");
    let path = fifo.to_str().expect("UTF-8");
    finish(&tcpwatch(&["snapshot", "--netns", path])).refuses(1, "fifo: it is not one; try --netns with self,");
}

/// Commands that read sockets once refuse owners that do not exist.
#[test]
fn owners_that_do_not_exist_are_refused() {
    // PIDs are below 4194304 (PID_MAX_LIMIT, include/linux/threads.h).
    let nobody = [
        ["--pid", "4194305", "no process has PID 4194305;"],
        ["--comm", "no such name", "no process matches --comm 'no such name';"],
        [
            "--cgroup",
            "/no/such/cgroup",
            "no process matches --cgroup /no/such/cgroup;",
        ],
    ];
    for command in ["snapshot", "leaks"] {
        for [option, value, words] in nobody {
            finish(&tcpwatch(&[command, option, value, "-o", "csv"])).refuses(1, words);
        }
    }
}

#[test]
fn a_pid_without_process_has_no_network_namespace() {
    // PIDs are below 4194304 (PID_MAX_LIMIT, include/linux/threads.h).
    finish(&tcpwatch(&["snapshot", "--netns", "4194305"])).refuses(1, "4194305");
}

#[test]
fn a_full_disk_is_an_error() {
    for form in ["text", "json", "csv"] {
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        finish_into(&tcpwatch(&["snapshot", "-o", form]), full).refuses(1, "space");
    }
    for args in [
        &["explain"][..],
        &["explain", "close_wait"],
        &["-V"],
        &["--help"],
        &["help", "stat"],
    ] {
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        finish_into(&tcpwatch(args), full).refuses(1, "cannot write the output: No space");
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let finished = finish_into(&tcpwatch(&["snapshot"]), writer);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
}

/// The error names the missing capability and the remedy.
#[test]
fn watching_without_root_is_refused() {
    let nobody = Unprivileged::new();
    for args in [
        &[][..],
        &["stat"],
        &["trace"],
        &["stat", "--hook", "tp_btf"],
        &["trace", "--hook", "tracepoint"],
        &["leaks", "--watch", "1s"],
    ] {
        let finished = finish(&nobody.tcpwatch(args));
        finished.refuses(1, "CAP_BPF");
        assert!(finished.stderr.contains("sudo"), "what to type: {finished:?}");
    }
}
