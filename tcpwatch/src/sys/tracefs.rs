//! tracefs: reads the `format` files of tracepoints, and mounts tracefs temporarily if it is not mounted.

mod aux_records;
mod record;

use std::io;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow};
use rustix::fs::CWD;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tcpwatch_common::ClassicLayout;

pub use aux_records::AuxRecords;
use record::Record;

use super::btf::KernelBtf;
use super::host_root::{HostRoot, why};
use super::threads::spawn_scoped;

/// Category of the tracepoint.
pub const CATEGORY: &str = "sock";
/// Name of the tracepoint.
pub const NAME: &str = "inet_sock_set_state";

/// Possible mount points of tracefs, below the root.
const PLACES: [&str; 2] = ["sys/kernel/tracing", "sys/kernel/debug/tracing"];

/// The record layout of `sock:inet_sock_set_state`, from its `format` file below `root`, compared with `btf` if known.
///
/// # Errors
/// One line: tracefs is not mounted or cannot be read, or the tracepoint does not exist or is described in an implausible way.
pub fn classic_layout(root: &Path, btf: Option<&KernelBtf>) -> Result<ClassicLayout> {
    let format = Tracefs::find(root)?.format(CATEGORY, NAME)?;
    let format = format.with_context(|| format!("this kernel has no tracepoint {CATEGORY}:{NAME}"))?;
    Record::parse(NAME, &format)
        .and_then(|record| record.classic_layout(btf))
        .with_context(|| format!("cannot use the tracepoint {CATEGORY}:{NAME}"))
}

/// A mounted tracefs.
struct Tracefs {
    tree: HostRoot,
    /// The mount point, below the root.
    place: &'static str,
}

impl Tracefs {
    /// Finds tracefs below `root`.
    ///
    /// # Errors
    /// It is not mounted, or cannot be read.
    fn find(root: &Path) -> Result<Self> {
        Self::find_if_mounted(root)?.with_context(|| format!("tracefs is not mounted at /{}", PLACES[0]))
    }

    /// The same; `None` if it is not mounted.
    ///
    /// # Errors
    /// It is mounted, but cannot be read.
    fn find_if_mounted(root: &Path) -> Result<Option<Self>> {
        let tree = HostRoot::open(root)?;
        for place in PLACES {
            match tree.names(&format!("{place}/events")) {
                Ok(_) => return Ok(Some(Self { tree, place })),
                // An unreadable debugfs does not show whether tracefs is in it.
                Err(error) if place == PLACES[0] && error.kind() != io::ErrorKind::NotFound => {
                    return Err(unreadable(place, &error));
                }
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Reads the `format` file of a tracepoint; `None` if there is no such tracepoint.
    ///
    /// # Errors
    /// It cannot be read.
    fn format(&self, category: &str, name: &str) -> Result<Option<String>> {
        let path = format!("{}/events/{category}/{name}/format", self.place);
        match self.tree.text(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }
}

/// Why `path` of tracefs cannot be read.
fn unreadable(path: &str, error: &io::Error) -> anyhow::Error {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => "; try sudo",
        _ => "",
    };
    anyhow!("cannot read tracefs at /{path}: {}{remedy}", why(error))
}

/// Runs `work` with access to tracefs: here, or on a thread with its own mount namespace, which ends with the thread. `work`
/// gets an error if tracefs cannot be mounted or read.
///
/// # Errors
/// Errors of `work`.
pub fn with_tracefs<T: Send>(work: impl FnOnce(Result<()>) -> Result<T> + Send) -> Result<T> {
    match Tracefs::find_if_mounted(Path::new("/")) {
        Ok(Some(_)) => return work(Ok(())),
        Err(why) => return work(Err(why)),
        Ok(None) => {}
    }
    let mut work = Some(work);
    let mut with = |reached| work.take().context("the work is done already")?(reached);
    let on_thread = thread::scope(|scope| {
        let inside = || {
            with(mount_privately().map_err(|why| {
                anyhow!(
                    "cannot read tracefs: it is not mounted, and cannot be mounted privately ({why}); \
                     try sudo mount -t tracefs tracefs /sys/kernel/tracing"
                )
            }))
        };
        Ok(spawn_scoped(scope, "tracefs", inside)?.join())
    });
    match on_thread {
        Ok(joined) => joined.unwrap_or_else(|_| Err(anyhow!("the thread that reads tracefs panicked"))),
        Err(why) => with(Err(why)),
    }
}

/// Creates a mount namespace for this thread, with tracefs in it.
fn mount_privately() -> Result<()> {
    // SAFETY: only the mount namespace is unshared (and with it the working directory), of a thread that ends soon.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    let target = Path::new("/").join(PLACES[0]);
    if rustix::fs::statat(CWD, &target, rustix::fs::AtFlags::empty()).is_err() {
        // This /sys has no such directory (`ip netns exec` creates one like this): mount a new sysfs over it.
        mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None)?;
    }
    mount("tracefs", &target, "tracefs", MountFlags::empty(), None)?;
    Ok(())
}

#[cfg(test)]
mod testing {
    use std::fs;

    use super::{CATEGORY, NAME, PLACES};

    pub(super) const FORMAT: &str = "name: inet_sock_set_state
ID: 1234
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;
\tfield:int oldstate;\toffset:16;\tsize:4;\tsigned:1;
\tfield:int newstate;\toffset:20;\tsize:4;\tsigned:1;
\tfield:__u16 sport;\toffset:24;\tsize:2;\tsigned:0;
\tfield:__u16 dport;\toffset:26;\tsize:2;\tsigned:0;
\tfield:__u16 family;\toffset:28;\tsize:2;\tsigned:0;
\tfield:__u16 protocol;\toffset:30;\tsize:2;\tsigned:0;
\tfield:__u8 saddr[4];\toffset:32;\tsize:4;\tsigned:0;
\tfield:__u8 daddr[4];\toffset:36;\tsize:4;\tsigned:0;
\tfield:__u8 saddr_v6[16];\toffset:40;\tsize:16;\tsigned:0;
\tfield:__u8 daddr_v6[16];\toffset:56;\tsize:16;\tsigned:0;
";

    /// A tree with tracefs in it, whose tracepoint `sock:inet_sock_set_state` has this `format`.
    pub(super) fn tree(format: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(PLACES[0]).join("events").join(CATEGORY).join(NAME);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("format"), format).unwrap();
        root
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::testing::{FORMAT, tree};
    use super::*;

    #[test]
    fn what_tracefs_lacks_is_said_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let error = |root: &Path| format!("{:#}", classic_layout(root, None).unwrap_err());
        assert_eq!(error(root.path()), "tracefs is not mounted at /sys/kernel/tracing");
        fs::create_dir_all(root.path().join(PLACES[0]).join("events")).unwrap();
        assert_eq!(
            error(root.path()),
            "this kernel has no tracepoint sock:inet_sock_set_state"
        );
        let root = tree("");
        let format = root
            .path()
            .join(PLACES[0])
            .join("events/sock/inet_sock_set_state/format");
        fs::remove_file(&format).unwrap();
        fs::create_dir(&format).unwrap();
        let error = error(root.path());
        assert!(
            error.starts_with("cannot read tracefs at /sys/kernel/tracing/events/sock/"),
            "{error}"
        );
        assert!(error.ends_with("not a regular file"), "{error}");
    }

    #[test]
    fn a_permission_that_is_missing_is_said_as_it_is() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = unreadable(PLACES[0], &denied).to_string();
        assert_eq!(
            error,
            "cannot read tracefs at /sys/kernel/tracing: permission denied; try sudo"
        );
    }

    #[test]
    fn a_tracefs_in_debugfs_is_found() {
        let root = tree(FORMAT);
        let debugfs = root.path().join(PLACES[1]);
        fs::create_dir_all(debugfs.parent().unwrap()).unwrap();
        fs::rename(root.path().join(PLACES[0]), debugfs).unwrap();
        assert_eq!(classic_layout(root.path(), None).unwrap().skaddr, 8);
    }
}
