//! What this machine has, and what this user may.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

/// Where administrators' programs are; an ordinary user's PATH often lacks them.
const ADMIN_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Whether this process has root's user id.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a CI system runs this.
pub(crate) fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|ci| ci == "true")
}

/// Where the program `name` is, if anywhere.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    find_in(&path, name)
}

fn find_in(path: &OsStr, name: &str) -> Option<PathBuf> {
    env::split_paths(path)
        .chain(ADMIN_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// The sudo that is needed to be root, if one is needed, or why this user can't be root.
pub(crate) fn sudo() -> Result<Option<PathBuf>, &'static str> {
    if is_root() {
        return Ok(None);
    }
    let sudo = find("sudo").ok_or("not root, and sudo is not installed")?;
    let asks = first_line(&sudo, &["-n", "true"]).is_none();
    if asks && !std::io::stdin().is_terminal() {
        return Err("not root, and sudo asks for a password without a terminal to ask on");
    }
    Ok(Some(sudo))
}

/// A command that runs `program`, through sudo if there is one.
pub(crate) fn through(sudo: Option<PathBuf>, program: &Path) -> Command {
    match sudo {
        None => Command::new(program),
        Some(sudo) => {
            let mut command = Command::new(sudo);
            command.arg("--").arg(program);
            command
        }
    }
}

/// Runs a command to its end, which shows its own messages.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command.status();
    let status = status.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    Ok(status.success())
}

/// The first line that a program prints when started like this, if it succeeds.
pub(crate) fn first_line<S: AsRef<OsStr>>(program: &Path, arguments: &[S]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}

/// An environment variable that is set to something.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::path::{Path, PathBuf};

    use super::{find_in, first_line};

    #[test]
    fn programs_are_found_along_the_path_in_its_order() {
        assert_eq!(
            find_in(OsStr::new("/nowhere:/bin:/usr/bin"), "sh"),
            Some(PathBuf::from("/bin/sh"))
        );
        assert_eq!(find_in(OsStr::new("/bin"), "no-such-program"), None);
    }

    #[test]
    fn a_program_that_fails_says_nothing() {
        let shell = Path::new("/bin/sh");
        assert_eq!(first_line(shell, &["-c", "echo one; echo two"]), Some("one".to_owned()));
        assert_eq!(first_line(shell, &["-c", "echo one; exit 1"]), None);
        assert_eq!(first_line(Path::new("/nowhere"), &["-c"]), None);
    }
}
