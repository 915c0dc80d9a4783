//! Gives up all that a process can give up: what is left is to read open descriptors and to answer.

use anyhow::{Context, Result, anyhow};
use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, Scope};
use rustix::param::page_size;
use rustix::process::{
    DumpableBehavior, Gid, Resource, Rlimit, Signal, Uid, getuid, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// Bytes of memory the process may have.
const MEMORY_MAX: u64 = 256 << 20;
/// Descriptors it may have open: those of the files it keeps, and a few.
const DESCRIPTORS_MAX: u64 = 256;
/// The users whose number it takes: the first that there is in its user namespace. The first is nobody else's ("tcpw" in ASCII, in a
/// range that no distribution hands out), the second is `nobody`.
const USERS: [u32; 2] = [0x7463_7077, 65534];

/// Gives up all privileges. The process must have one thread.
///
/// # Errors
/// Capabilities or limits are refused. Landlock and seccomp may be missing, unless the process stays root.
pub(super) fn enter() -> Result<()> {
    // It asks the kernel the first time only.
    let _ = page_size();
    set_no_new_privs(true).context("cannot set no_new_privs")?;
    for (resource, most) in [
        (Resource::As, MEMORY_MAX),
        (Resource::Nofile, DESCRIPTORS_MAX),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
    ] {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit).with_context(|| format!("cannot limit {resource:?}"))?;
    }
    let is_other = change_user();
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("cannot forbid a dump")?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).context("cannot give up capabilities")?;
    // After the user was changed, which forgets it.
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot end with tcpwatch")?;
    let (files, calls) = (restrict_files(), restrict_calls());
    // Who stays root may open what is root's, without any capability.
    if !is_other && getuid().is_root() {
        files.or(calls)?;
    }
    Ok(())
}

/// Becomes a user of its own, and says whether it did. Whoever may not change the user stays who it is.
fn change_user() -> bool {
    for user in USERS {
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        // Of this thread, which is the only one.
        let _ = set_thread_groups(&[]);
        let _ = set_thread_res_gid(gid, gid, gid);
        if set_thread_res_uid(uid, uid, uid).is_ok() {
            return true;
        }
    }
    false
}

/// No file may be opened, and no socket connected (Landlock, since Linux 5.13).
fn restrict_files() -> Result<()> {
    let abi = ABI::V6;
    Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()?;
    Ok(())
}

/// Whatever is not reading, answering or memory ends the process (seccomp(2)).
fn restrict_calls() -> Result<()> {
    let always = [
        libc::SYS_brk,
        libc::SYS_clock_gettime,
        libc::SYS_close,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_fstat,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_lseek,
        libc::SYS_madvise,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_pread64,
        libc::SYS_read,
        libc::SYS_recvmsg,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sendmsg,
        libc::SYS_sendto,
        libc::SYS_recvfrom,
        libc::SYS_sigaltstack,
        libc::SYS_statx,
        libc::SYS_write,
    ];
    let mut rules: Vec<(i64, Vec<SeccompRule>)> = always.into_iter().map(|call| (call, Vec::new())).collect();
    rules.push((libc::SYS_mmap, vec![only_memory()?]));
    // The standard library looks whether a descriptor is open before it closes it, in builds with assertions.
    let is_open = u64::from(libc::F_GETFD.cast_unsigned());
    let is_open = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, is_open)?;
    rules.push((libc::SYS_fcntl, vec![SeccompRule::new(vec![is_open])?]));
    let filter = SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    apply_filter(&program).map_err(|why| anyhow!("{why}"))
}

/// mmap(2) of memory that is no file's and no code.
fn only_memory() -> Result<SeccompRule> {
    let flag = |argument, flag: i32, set: bool| {
        let flag = u64::from(flag.cast_unsigned());
        let expected = if set { flag } else { 0 };
        SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(flag),
            expected,
        )
    };
    Ok(SeccompRule::new(vec![
        flag(2, libc::PROT_EXEC, false)?,
        flag(3, libc::MAP_ANONYMOUS, true)?,
    ])?)
}
