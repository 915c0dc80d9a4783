//! bpf(2) as seccomp profiles of containers leave it: refused, whole or by command.

/// A command of bpf(2) (`enum bpf_cmd`), `None` for all of them, and its name.
pub(crate) type Refused = (Option<u32>, &'static str);

/// Without these nothing can be watched.
pub(crate) const NEEDED: [Refused; 7] = [
    (None, "all of bpf(2)"),
    (Some(0), "BPF_MAP_CREATE"),
    (Some(2), "BPF_MAP_UPDATE_ELEM"),
    (Some(5), "BPF_PROG_LOAD"),
    (Some(15), "BPF_OBJ_GET_INFO_BY_FD"),
    (Some(18), "BPF_BTF_LOAD"),
    (Some(22), "BPF_MAP_FREEZE"),
];
/// The line says this, with what to do.
pub(crate) const NOT_PERMITTED: &str = "bpf(2) is not permitted";

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K` (`linux/bpf_common.h`).
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Where `struct seccomp_data` has the number of the call, and its first argument.
const CALL: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

/// From here on bpf(2) answers EPERM to this thread and to all that it starts: to the command `refused` of it, or to all.
pub(crate) fn refuse(refused: Option<u32>) {
    let bpf = u32::try_from(libc::SYS_bpf).expect("a small number");
    let answer = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
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
    filter.extend([step(RETURN, answer, 0, 0), step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0)]);
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).expect("a short filter"),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: prctl(2) reads the filter, which lives until it returns.
    let answer = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(answer, 0, "seccomp: {}", std::io::Error::last_os_error());
}
