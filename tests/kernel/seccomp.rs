//! bpf(2) is refused, whole or by command, as seccomp profiles of containers do: one line says so, or the other hook serves.

use std::os::unix::process::CommandExt as _;
use std::process::Output;

use crate::support::netns::in_netns;
use crate::support::program::run::tcpwatch;

/// Commands of bpf(2) (`enum bpf_cmd`) that no run can do without.
const NEEDED: [(u32, &str); 6] = [
    (0, "BPF_MAP_CREATE"),
    (2, "BPF_MAP_UPDATE_ELEM"),
    (5, "BPF_PROG_LOAD"),
    (15, "BPF_OBJ_GET_INFO_BY_FD"),
    (18, "BPF_BTF_LOAD"),
    (22, "BPF_MAP_FREEZE"),
];
/// `BPF_RAW_TRACEPOINT_OPEN`, by which `tp_btf` is attached.
const RAW_TRACEPOINT_OPEN: u32 = 17;

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K` (`linux/bpf_common.h`).
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Where `struct seccomp_data` has the number of the call, and its first argument.
const CALL: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

/// Runs `arguments`, for which bpf(2) answers EPERM: to the command `refused` of it, or to all.
fn run(arguments: &[&str], refused: Option<u32>) -> Output {
    let mut command = tcpwatch(arguments);
    let bpf = u32::try_from(libc::SYS_bpf).expect("a small number");
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut filter = vec![step(LOAD, CALL, 0, 0)];
    match refused {
        None => filter.push(step(JUMP_IF_EQUAL, bpf, 0, 1)),
        Some(number) => filter.extend([
            step(JUMP_IF_EQUAL, bpf, 0, 3),
            step(LOAD, FIRST_ARGUMENT, 0, 0),
            step(JUMP_IF_EQUAL, number, 0, 1),
        ]),
    }
    filter.extend([step(RETURN, refuse, 0, 0), step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0)]);
    let install = move || {
        let program = libc::sock_fprog {
            len: u16::try_from(filter.len()).unwrap_or(0),
            filter: filter.as_mut_ptr(),
        };
        // SAFETY: prctl(2) reads the filter, which lives until it returns.
        match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec the closure makes one system call, and allocates nothing.
    unsafe { command.pre_exec(install) };
    command.output().expect("tcpwatch starts")
}

/// Its exit code, and the lines on its stderr.
fn end(output: &Output) -> (Option<i32>, Vec<String>) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    (output.status.code(), stderr.lines().map(str::to_owned).collect())
}

#[test]
fn where_bpf_is_refused_one_line_says_so() {
    in_netns(|_| {
        let refused = NEEDED.map(|(number, name)| (Some(number), name));
        for (number, name) in [(None, "all of bpf(2)")].into_iter().chain(refused) {
            for hook in ["auto", "tp_btf", "tracepoint"] {
                let output = run(&["trace", "-d", "100ms", "--hook", hook], number);
                let (code, lines) = end(&output);
                assert_eq!((code, lines.len()), (Some(1), 1), "{name}, {hook}: {lines:?}");
                assert!(output.stdout.is_empty(), "{name}, {hook}: {output:?}");
                assert!(
                    lines[0].contains("bpf(2) is not permitted"),
                    "{name}, {hook}: {lines:?}"
                );
            }
        }
    });
}

#[test]
fn where_tp_btf_alone_is_refused_the_classic_hook_serves() {
    in_netns(|_| {
        let stat = |hook| {
            end(&run(
                &["stat", "1", "-d", "1s", "--hook", hook],
                Some(RAW_TRACEPOINT_OPEN),
            ))
        };
        let (code, lines) = stat("auto");
        assert_eq!((code, lines.len()), (Some(0), 1), "{lines:?}");
        assert!(lines[0].contains("using the classic tracepoint"), "{lines:?}");
        let (code, lines) = stat("tp_btf");
        assert_eq!((code, lines.len()), (Some(1), 1), "{lines:?}");
        assert!(lines[0].contains("bpf(2) is not permitted"), "{lines:?}");
    });
}
