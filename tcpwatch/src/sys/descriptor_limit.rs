//! The limits of open descriptors of a process (EMFILE) and of the host (ENFILE): detects them in messages and adds a remedy.

use std::sync::OnceLock;
use std::{fs, io};

use anyhow::{Result, ensure};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::host_root::why;

/// The soft limit at the start.
static SOFT: OnceLock<Option<u64>> = OnceLock::new();

/// Raises the soft limit of this process to the hard one. The low default of 1,024 is for programs that use select(2), as this one does
/// not.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    SOFT.get_or_init(|| limit.current);
    set(limit.maximum);
}

/// Runs `spawn`, which starts another program, with the soft limit of the start.
pub fn as_at_start<T>(spawn: impl FnOnce() -> T) -> T {
    let raised = getrlimit(Resource::Nofile).current;
    if let Some(soft) = SOFT.get() {
        set(*soft);
    }
    let result = spawn();
    set(raised);
    result
}

/// Sets the soft limit; `None` for no limit. Where the kernel refuses it, the limit stays.
fn set(soft: Option<u64>) {
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: soft,
            ..getrlimit(Resource::Nofile)
        },
    );
}

/// Checks that this process may open `needed` more descriptors.
///
/// # Errors
/// One line: the free descriptors, and what to try.
pub fn ensure_free(needed: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // One of them belongs to this directory.
    let open = fs::read_dir("/proc/self/fd").map_or(limit, |open| open.count() as u64 - 1);
    let free = limit.saturating_sub(open);
    ensure!(
        free >= needed,
        "cannot open {needed} more descriptors: {free} of {limit} are free; try a higher ulimit -n"
    );
    Ok(())
}

/// Adds a remedy to the message `text` if it comes from a descriptor limit.
#[must_use]
pub fn with_remedy(text: String) -> String {
    match limit_in(&text).map(|errno| {
        if errno == Errno::MFILE {
            "ulimit -n"
        } else {
            "fs.file-max"
        }
    }) {
        Some(limit) if !text.contains(limit) => format!("{text}; try a higher {limit}"),
        _ => text,
    }
}

/// Whether `error` comes from a descriptor limit. The object that could not be opened exists, and must not be left out.
#[must_use]
pub fn is_reached(error: &anyhow::Error) -> bool {
    limit_in(&format!("{error:#}")).is_some()
}

/// The descriptor limit that `text` reports. It searches the text, because some libraries keep only the text of an error.
fn limit_in(text: &str) -> Option<Errno> {
    // The text for ENFILE starts with the text for EMFILE, so check ENFILE first.
    let limits = [Errno::NFILE, Errno::MFILE];
    limits
        .into_iter()
        .find(|&errno| text.contains(&why(&io::Error::from(errno))))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_message_from_a_limit_has_a_remedy() {
        let with = |errno: Errno| with_remedy(format!("cannot open x: {}", io::Error::from(errno)));
        assert_eq!(
            with(Errno::MFILE),
            "cannot open x: Too many open files (os error 24); try a higher ulimit -n"
        );
        assert_eq!(
            with(Errno::NFILE),
            "cannot open x: Too many open files in system (os error 23); try a higher fs.file-max"
        );
        assert!(!with(Errno::NOENT).contains("try"));
        assert_eq!(with_remedy(with(Errno::MFILE)), with(Errno::MFILE), "once is enough");
    }

    #[test]
    fn free_descriptors_are_counted() {
        ensure_free(1).unwrap();
        let limit = getrlimit(Resource::Nofile).current.unwrap();
        let error = ensure_free(limit).unwrap_err().to_string();
        let expected = format!("cannot open {limit} more descriptors: ");
        assert!(
            error.starts_with(&expected) && error.ends_with("; try a higher ulimit -n"),
            "{error}"
        );
    }

    #[test]
    fn an_error_from_a_limit_is_detected_in_any_wrapping() {
        let wrapped = Err::<(), _>(Errno::MFILE).context("cannot open x").unwrap_err();
        assert!(is_reached(&wrapped));
        assert!(is_reached(&anyhow::anyhow!(
            "cannot open x: {}",
            io::Error::from(Errno::NFILE)
        )));
        assert!(!is_reached(&anyhow::anyhow!(
            "cannot open x: {}",
            io::Error::from(Errno::ACCESS)
        )));
    }
}
