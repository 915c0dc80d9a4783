//! The signals that end a command in an orderly way, and the threads that receive them.

use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Ctrl-C, Ctrl-\\, a closed terminal, and `kill`.
pub const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTERM];

/// The signals of [`ENDING`] to handle. SIGHUP is left out if it is ignored, as under nohup(1).
pub fn handled() -> impl Iterator<Item = i32> {
    let is_left = is_ignored(libc::SIGHUP);
    ENDING
        .into_iter()
        .filter(move |&signal| signal != libc::SIGHUP || !is_left)
}

/// Whether this process ignores `signal` (sigaction(2)).
fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action the call changes nothing; on success it has written the current action.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Lets the program that `command` starts take the signals of [`ENDING`], which the threads of this process block: a program inherits what
/// is blocked (`execve(2)`).
pub fn unblock_in(command: &mut Command) {
    let unblock = || {
        let mut none = MaybeUninit::uninit();
        // SAFETY: the first call initialises the set, and the kernel reads it before the second returns. Both may be called between fork and
        // exec (signal-safety(7)).
        unsafe {
            libc::sigemptyset(none.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: it calls nothing that is not safe between fork and exec, and allocates nothing.
    unsafe { command.pre_exec(unblock) };
}

/// Blocks the signals of [`ENDING`] in the calling thread and in the threads that it starts, so that other threads receive them
/// (`pthread_sigmask(3)`).
pub fn block_in_this_thread() {
    let mut signals = MaybeUninit::uninit();
    // SAFETY: the first call initialises the set, and the kernel reads it before the last call returns. With these arguments
    // none of the calls can fail.
    unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        for signal in ENDING {
            libc::sigaddset(signals.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    /// The signals that the calling thread does not take.
    fn blocked() -> u64 {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap()
    }

    #[test]
    fn threads_leave_them_as_their_starter_does() {
        let all = ENDING.iter().fold(0, |mask, signal| mask | 1 << (signal - 1));
        let before = blocked();
        assert_eq!(before & all, 0);
        let (ours, theirs) = thread::spawn(|| {
            block_in_this_thread();
            (blocked(), thread::spawn(blocked).join().unwrap())
        })
        .join()
        .unwrap();
        assert_eq!((ours, theirs), (before | all, before | all));
        assert_eq!(blocked(), before, "nobody else is concerned");
    }
}
