//! The limits of open descriptors, of a process (EMFILE) and of the host (ENFILE): which messages come from them, and what to do.

use std::{fs, io};

use anyhow::{Result, ensure};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::host_root::why;

/// Checks that this process may open `needed` more descriptors.
///
/// # Errors
/// One line: how many it may open, and what to do.
pub fn ensure_free(needed: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // One of them is the directory's own.
    let open = fs::read_dir("/proc/self/fd").map_or(limit, |open| open.count() as u64 - 1);
    let free = limit.saturating_sub(open);
    ensure!(
        free >= needed,
        "cannot open {needed} more descriptors: {free} of {limit} are free; try a higher ulimit -n"
    );
    Ok(())
}

/// `text` of a message, with what to do where it comes from a limit of descriptors.
#[must_use]
pub fn with_remedy(text: String) -> String {
    match of(&text).map(|errno| {
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

/// Whether `error` comes from a limit of descriptors: what it kept from being read is there, and must not be left out.
#[must_use]
pub fn is_reached(error: &anyhow::Error) -> bool {
    of(&format!("{error:#}")).is_some()
}

/// The limit that `text` is about. Errors pass through libraries that keep nothing but the words of the C library.
fn of(text: &str) -> Option<Errno> {
    // The words for the host's limit begin with those for the process's.
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
    fn a_message_that_comes_from_a_limit_says_what_to_do() {
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
    fn descriptors_that_are_free_are_counted() {
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
    fn an_error_from_a_limit_is_known_whoever_passes_it_on() {
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
