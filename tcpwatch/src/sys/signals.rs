//! Which thread hears signals.

use std::mem::MaybeUninit;

/// Has the calling thread, and those it starts from now on, leave SIGINT and SIGTERM to the others (`pthread_sigmask(3)`).
pub fn leave_to_others() {
    let mut signals = MaybeUninit::uninit();
    // SAFETY: the first call makes a set of it that the others may use, and the kernel reads it before the last returns. None of
    // these can fail with such arguments.
    unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGINT);
        libc::sigaddset(signals.as_mut_ptr(), libc::SIGTERM);
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
        let both = 1 << (libc::SIGINT - 1) | 1 << (libc::SIGTERM - 1);
        let before = blocked();
        assert_eq!(before & both, 0);
        let (ours, theirs) = thread::spawn(|| {
            leave_to_others();
            (blocked(), thread::spawn(blocked).join().unwrap())
        })
        .join()
        .unwrap();
        assert_eq!((ours, theirs), (before | both, before | both));
        assert_eq!(blocked(), before, "nobody else is concerned");
    }
}
