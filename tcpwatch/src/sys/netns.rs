//! Network namespaces: resolves `--netns`, and runs code inside a namespace.
//!
//! A namespace of `--netns all` is opened for each look and closed after it, so that it ends with its last process. A namespace that was
//! named is kept open: its name may lead to another one later.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, anyhow, bail};
use hashbrown::HashMap;
use log::Level;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, LinkNameSpaceType, capabilities, move_into_link_name_space};

use super::descriptor_limit;
use super::procs::other_threads;
use super::threads::spawn_scoped;
use crate::input::escaped::Escaped;
use crate::input::netns_selector::NetnsSelector;

/// The valid values of `--netns`, for messages.
const TAKES: &str = "try --netns with self, all, a PID, a name of ip netns or a path";
/// The remedy if the kernel denies access.
const NEEDS: &str = "it needs CAP_SYS_ADMIN and CAP_SYS_PTRACE; try sudo";

/// Paths that are kept of a namespace at most: those of several processes, as each may end.
const PATHS: usize = 4;

/// A network namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Inode number of its nsfs file (`net->ns.inum`), as in `net:[4026531833]`.
    pub inode: u32,
    /// How to enter it.
    place: Place,
    /// The name for messages, as the user gave it, escaped.
    name: String,
}

/// How to enter a namespace.
#[derive(Clone, Debug)]
enum Place {
    /// tcpwatch runs in it, so it is never entered, and no privilege is needed.
    Own,
    /// It was named: its file, and the path by which it was opened.
    Open(Arc<File>, PathBuf),
    /// It was found: the paths that led to it then, at least one and [`PATHS`] at most.
    Paths(Vec<PathBuf>),
}

/// No process is in the namespace any more, as far as is known, and no name leads to it.
#[derive(Debug)]
pub struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is gone")
    }
}

impl std::error::Error for Gone {}

/// Identifies a namespace: device (nsfs) and inode.
type Identity = (u64, u64);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// The namespaces that `arg` selects: at least one, without duplicates, the one of tcpwatch first. `root` is `/`.
///
/// # Errors
/// One line: no such process or file, not a network namespace, or a missing capability.
pub fn resolve(root: &Path, arg: &NetnsSelector) -> anyhow::Result<Vec<Namespace>> {
    let own = fs::metadata(root.join("proc/thread-self/ns/net")).context("cannot read /proc/thread-self/ns/net")?;
    match arg {
        NetnsSelector::Own => Ok(vec![Namespace::from_own_metadata(&own)?]),
        NetnsSelector::All => all(root, &own),
        NetnsSelector::Pid(pid) => {
            let path = root.join(format!("proc/{pid}/ns/net"));
            one(
                &path,
                &own,
                format!("network namespace of PID {pid}"),
                "no such process",
            )
            .map(|found| vec![found])
        }
        NetnsSelector::Path(path) => one(
            path,
            &own,
            format!("network namespace {}", Escaped(path.as_os_str().as_bytes())),
            "no such file",
        )
        .map(|found| vec![found]),
    }
}

/// Opens `path` without blocking: a FIFO would wait for a writer.
fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Opens the namespace of the file at `path`.
fn one(path: &Path, own: &Metadata, name: String, missing: &str) -> anyhow::Result<Namespace> {
    let file = open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => anyhow!("cannot open {name}: {missing}; {TAKES}"),
        io::ErrorKind::PermissionDenied => anyhow!("cannot open {name}: permission denied; {NEEDS}"),
        _ => anyhow!("cannot open {name}: {error}"),
    })?;
    let found = identity(&file.metadata().with_context(|| name.clone())?);
    if found == identity(own) {
        return Namespace::from_own_metadata(own);
    }
    match u32::try_from(found.1) {
        Ok(inode) if found.0 == own.dev() => Ok(Namespace {
            inode,
            place: Place::Open(Arc::new(file), path.to_owned()),
            name,
        }),
        _ => bail!("cannot use {name}: it is not one; {TAKES}"),
    }
}

/// The names of network namespaces by inode number, from the files in /run/netns (ip-netns(8)).
#[must_use]
pub fn names(root: &Path) -> HashMap<u32, String> {
    let Ok(own) = fs::metadata(root.join("proc/thread-self/ns/net")) else {
        return HashMap::new();
    };
    // Without names, namespaces are shown by number.
    let named = entries(&root.join("run/netns")).into_iter().flatten();
    let named = named.filter_map(|entry| {
        let metadata = fs::metadata(entry.path())
            .ok()
            .filter(|found| found.dev() == own.dev())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        Some((u32::try_from(metadata.ino()).ok()?, name))
    });
    named.collect()
}

/// Finds every namespace that a process is in, or that has a name in /run/netns. Namespaces that disappear meanwhile are skipped.
fn all(root: &Path, own: &Metadata) -> anyhow::Result<Vec<Namespace>> {
    let mut found = Found::new(own)?;
    let mut hidden = 0;
    // A name lasts longer than most processes.
    for entry in entries(&root.join("run/netns"))? {
        hidden += usize::from(is_hidden(&found.add(&entry.path())));
    }
    let processes = entries(&root.join("proc"))?;
    let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for pid in processes {
        let process = root.join(format!("proc/{pid}"));
        let mut shown = found.add(&process.join("ns/net"));
        if shown
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        {
            // If the first thread has exited, another thread shows the namespace.
            let threads = other_threads(root, pid).into_iter();
            let paths = threads.map(|thread| process.join(format!("task/{thread}/ns/net")));
            shown = paths.map(|path| found.add(&path)).find(Result::is_ok).unwrap_or(shown);
        }
        hidden += usize::from(is_hidden(&shown));
    }
    // Even with all capabilities some processes cannot be read, for example processes of an outer user namespace.
    match hidden {
        0 => {}
        // Not a warning: such a process is usually in a namespace that other processes show.
        _ if is_privileged() => log::info!(
            "{}; namespaces without other processes are left out",
            unreadable(hidden)
        ),
        _ => bail!("cannot find all network namespaces: {}; {NEEDS}", unreadable(hidden)),
    }
    Ok(found.namespaces)
}

/// The namespaces that were found so far, each once, ours first.
struct Found {
    own: Identity,
    namespaces: Vec<Namespace>,
    /// The index of each in `namespaces`, by its inode number.
    known: HashMap<u32, usize>,
}

impl Found {
    fn new(own: &Metadata) -> anyhow::Result<Self> {
        let namespace = Namespace::from_own_metadata(own)?;
        Ok(Self {
            own: identity(own),
            known: HashMap::from([(namespace.inode, 0)]),
            namespaces: vec![namespace],
        })
    }

    /// Adds the namespace of the file at `path`, or another path of a namespace that is known. Another file is left out.
    fn add(&mut self, path: &Path) -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        let (device, inode) = identity(&metadata);
        let (Ok(inode), true) = (u32::try_from(inode), device == self.own.0) else {
            return Ok(());
        };
        let known = *self.known.entry(inode).or_insert(self.namespaces.len());
        match self.namespaces.get_mut(known) {
            None => self.namespaces.push(Namespace {
                inode,
                place: Place::Paths(vec![path.to_owned()]),
                name: format!("network namespace {}", Escaped(path.as_os_str().as_bytes())),
            }),
            Some(namespace) => {
                if let Place::Paths(paths) = &mut namespace.place
                    && paths.len() < PATHS
                {
                    paths.push(path.to_owned());
                }
            }
        }
        Ok(())
    }
}

/// Whether a process, or a name of a namespace, does not exist any more.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// Whether the namespace exists but may not be read. A namespace that disappeared does not count.
fn is_hidden(shown: &io::Result<()>) -> bool {
    shown
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// The message for this number of unreadable processes.
fn unreadable(processes: usize) -> String {
    match processes {
        1 => "the network namespace of 1 process cannot be read".into(),
        _ => format!("the network namespaces of {processes} processes cannot be read"),
    }
}

/// Whether this process has the capabilities to read and enter namespaces of other processes.
fn is_privileged() -> bool {
    capabilities(None).is_ok_and(|sets| {
        sets.effective
            .contains(CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE)
    })
}

/// The entries of a directory; empty if it does not exist or may not be read.
///
/// # Errors
/// It cannot be read for another reason, such as the limit of open descriptors.
fn entries(directory: &Path) -> anyhow::Result<impl Iterator<Item = fs::DirEntry> + use<>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => None,
        entries => Some(entries.with_context(|| directory.display().to_string())?),
    };
    Ok(entries.into_iter().flatten().flatten())
}

impl fmt::Display for Namespace {
    /// For messages: `network namespace /run/netns/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Namespace {
    fn from_own_metadata(own: &Metadata) -> anyhow::Result<Self> {
        Ok(Self {
            inode: u32::try_from(own.ino()).context("our own network namespace")?,
            place: Place::Own,
            name: "our own network namespace".into(),
        })
    }

    /// Whether tcpwatch runs in this namespace.
    #[must_use]
    pub const fn is_own(&self) -> bool {
        matches!(self.place, Place::Own)
    }

    /// A path that leads to the namespace; `None` for the one of tcpwatch.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Own => None,
            Place::Open(_, path) => Some(path),
            Place::Paths(paths) => paths.first().map(PathBuf::as_path),
        }
    }

    /// The process by which it was found; `None` for the one of tcpwatch, and for one that was found by another path.
    #[must_use]
    pub fn process(&self) -> Option<NonZeroU32> {
        let mut parts = self.path()?.iter().rev();
        let below = [parts.next()?, parts.next()?];
        let process = parts.next()?.to_str()?.parse().ok()?;
        (below == ["net", "ns"]).then_some(process)
    }

    /// Runs `work` inside the namespace, on a thread that ends afterwards. Sockets, and files of /proc/thread-self/net and
    /// /proc/sys/net, stay bound to the namespace in which they were opened.
    ///
    /// # Errors
    /// Errors of `work`, or one line if the namespace cannot be entered; [`Gone`] if it does not exist any more.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        let mut work = Some(work);
        let mut result = run_in_each([self], |_| work.take().context("the work is done already")?())?;
        result.pop().context("the work was not done")?
    }

    /// Moves this thread into the namespace.
    fn enter(&self) -> anyhow::Result<()> {
        match &self.place {
            Place::Own => Ok(()),
            Place::Open(file, _) => enter(file).map_err(|errno| self.refused(errno)),
            Place::Paths(paths) => {
                for path in paths {
                    match open(path) {
                        // By now the path may lead to another namespace.
                        Ok(file) if file.metadata().is_ok_and(|found| found.ino() == u64::from(self.inode)) => {
                            return enter(&file).map_err(|errno| self.refused(errno));
                        }
                        Ok(_) => {}
                        Err(error) if is_gone(&error) => {}
                        Err(error) => return Err(error).with_context(|| format!("cannot open {}", self.name)),
                    }
                }
                Err(anyhow::Error::from(Gone).context(self.name.clone()))
            }
        }
    }

    /// The error of a failed setns(2).
    fn refused(&self, errno: Errno) -> anyhow::Error {
        let name = &self.name;
        match errno {
            Errno::PERM => anyhow!("cannot enter {name}: permission denied; {NEEDS}"),
            Errno::INVAL => anyhow!("cannot use {name}: it is not one; {TAKES}"),
            _ => anyhow!("cannot enter {name}: {errno}"),
        }
    }
}

/// The result of reading one of the namespaces that `selector` selects. Of `all`, one that is [`Gone`] or cannot be read is left out:
/// then it is `None`, and a warning is printed, unless it is gone: namespaces come and go.
///
/// # Errors
/// Those of `result`, if the namespace was named, or if a limit of descriptors is reached.
pub fn unless_left_out<T>(result: anyhow::Result<T>, selector: &NetnsSelector) -> anyhow::Result<Option<T>> {
    match result {
        Err(why) if *selector == NetnsSelector::All && !descriptor_limit::is_reached(&why) => {
            let level = if why.is::<Gone>() { Level::Info } else { Level::Warn };
            log::log!(level, "a network namespace is left out: {why:#}");
            Ok(None)
        }
        result => result.map(Some),
    }
}

/// Moves this thread into the network namespace `file`.
fn enter(file: &File) -> rustix::io::Result<()> {
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
}

/// Runs `work` inside each of `namespaces` in turn, on this thread if there is only the one of tcpwatch, else on one that ends
/// afterwards. Returns the results in the same order.
///
/// # Errors
/// There can be no thread. The error of each namespace is in its result: of `work`, or why it cannot be entered.
pub fn run_in_each<'a, T: Send>(
    namespaces: impl IntoIterator<Item = &'a Namespace>,
    mut work: impl FnMut(&'a Namespace) -> anyhow::Result<T> + Send,
) -> anyhow::Result<Vec<anyhow::Result<T>>> {
    let namespaces: Vec<_> = namespaces.into_iter().collect();
    if namespaces.iter().all(|namespace| namespace.is_own()) {
        return Ok(namespaces.into_iter().map(work).collect());
    }
    let own = namespaces
        .iter()
        .any(|namespace| namespace.is_own())
        .then(|| File::open("/proc/thread-self/ns/net").context("/proc/thread-self/ns/net"))
        .transpose()?;
    let mut results = Vec::with_capacity(namespaces.len());
    let mut inside = || {
        results.extend(namespaces.iter().map(|namespace| match &own {
            Some(own) if namespace.is_own() => {
                enter(own).map_err(|errno| namespace.refused(errno))?;
                work(namespace)
            }
            _ => {
                namespace.enter()?;
                work(namespace).with_context(|| namespace.name.clone())
            }
        }));
    };
    let on_thread = thread::scope(|scope| Ok(spawn_scoped(scope, "netns", &mut inside)?.join()));
    match on_thread {
        Ok(joined) => joined.unwrap_or_else(|panic| resume_unwind(panic)),
        // The limit of processes may be reached during a run.
        Err(why) => run_and_return(inside, why)?,
    }
    Ok(results)
}

/// Runs `work`, which moves this thread to other network namespaces, and then moves it back.
///
/// # Errors
/// `no_thread`, if this thread could not move back.
fn run_and_return(work: impl FnOnce(), no_thread: anyhow::Error) -> anyhow::Result<()> {
    /// Moves the thread back when dropped, also after a panic.
    struct Return(File);
    impl Drop for Return {
        fn drop(&mut self) {
            if let Err(errno) = enter(&self.0) {
                log::error!("cannot return to the network namespace of tcpwatch: {errno}");
                std::process::exit(1);
            }
        }
    }
    let own = File::open("/proc/thread-self/ns/net").context("/proc/thread-self/ns/net")?;
    // Entering the current namespace needs the same privilege as returning to it.
    if enter(&own).is_err() {
        return Err(no_thread);
    }
    let _return = Return(own);
    work();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A tree in which processes 1 and 2 are in the namespace of tcpwatch, 3 is in another one, and `web` is the name of a third.
    fn tree() -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for process in ["thread-self", "1", "2", "3", "4", "self"] {
            fs::create_dir_all(root.path().join(format!("proc/{process}/ns"))).unwrap();
        }
        fs::create_dir_all(root.path().join("run/netns")).unwrap();
        let own = root.path().join("proc/thread-self/ns/net");
        fs::write(&own, "").unwrap();
        for process in ["1", "2"] {
            fs::hard_link(&own, root.path().join(format!("proc/{process}/ns/net"))).unwrap();
        }
        fs::write(root.path().join("proc/3/ns/net"), "").unwrap();
        fs::write(root.path().join("run/netns/web"), "").unwrap();
        fs::hard_link(root.path().join("proc/3/ns/net"), root.path().join("run/netns/three")).unwrap();
        root
    }

    #[test]
    fn all_means_each_once_and_ours_first() {
        let root = tree();
        let all = resolve(root.path(), &NetnsSelector::All).unwrap();
        assert_eq!(all.len(), 3);
        assert!(all[0].is_own() && !all[1].is_own() && !all[2].is_own());
        assert_ne!(all[1].inode, all[2].inode);
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_shows_it_by_another() {
        let root = tree();
        let thread = root.path().join("proc/4/task/5/ns");
        fs::create_dir_all(&thread).unwrap();
        fs::write(thread.join("net"), "").unwrap();
        assert_eq!(resolve(root.path(), &NetnsSelector::All).unwrap().len(), 4);
    }

    #[test]
    fn names_are_those_of_ip_netns() {
        let root = tree();
        let all = resolve(root.path(), &NetnsSelector::All).unwrap();
        let names = names(root.path());
        let name = |namespace: &Namespace| names.get(&namespace.inode).map(String::as_str);
        let mut found: Vec<_> = all.iter().map(name).collect();
        found.sort_unstable();
        assert_eq!(found, [None, Some("three"), Some("web")], "ours has none");
    }

    #[test]
    fn unreadable_processes_are_counted() {
        assert_eq!(unreadable(1), "the network namespace of 1 process cannot be read");
        assert_eq!(unreadable(2), "the network namespaces of 2 processes cannot be read");
    }

    #[test]
    fn a_process_that_shares_our_namespace_is_ours() {
        let root = tree();
        let found = |arg: &str| resolve(root.path(), &arg.parse().unwrap()).unwrap().remove(0);
        assert!(found("self").is_own());
        assert!(found("2").is_own());
        assert!(!found("3").is_own());
        assert_eq!(found("1").inode, found("self").inode);
        assert_eq!(found("self").run(|| Ok(7)).unwrap(), 7);
    }

    #[test]
    fn errors_are_one_line_with_what_to_type() {
        let root = tree();
        let error = |arg: &str| format!("{:#}", resolve(root.path(), &arg.parse().unwrap()).unwrap_err());
        assert_eq!(
            error("99999"),
            "cannot open network namespace of PID 99999: no such process; try --netns with self, all, a PID, a name of ip netns or a path"
        );
        assert!(error("4").contains("no such process"), "a zombie has no namespace");
        assert!(error("/nowhere/x").contains("no such file; try --netns"));
        assert_eq!(
            error("/proc/version"),
            "cannot use network namespace /proc/version: it is not one; try --netns with self, all, a PID, a name of ip netns or a path"
        );
    }

    #[test]
    fn a_file_that_is_no_namespace_cannot_be_entered() {
        let root = tree();
        let file = resolve(root.path(), &NetnsSelector::Pid(3)).unwrap().remove(0);
        let error = file.run(|| Ok(())).unwrap_err().to_string();
        assert!(error.contains(": it is not one;"), "{error}");
    }
}
