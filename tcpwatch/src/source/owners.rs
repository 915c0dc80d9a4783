//! Whose the sockets are, by what /proc shows: one scan of who holds them, and what each holder is once it is asked for.

mod processes;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use anyhow::{Error, anyhow};
use processes::Processes;

use crate::clock;
use crate::input::owner::{Owner, Process};
use crate::input::socket_owner::Unseen;
use crate::input::socket_owner::{Holder, PrimaryHolder, SocketOwner, primary_holder};
use crate::model::filter::owner::OwnerFilter;
use crate::sys::caps;
use crate::sys::procs::{Hold, Holders, all_pids, has_ended, holders};

/// The owners of sockets at one moment. It has no process but the holders of that moment.
pub struct Owners {
    root: PathBuf,
    holders: Holders,
    processes: Processes,
    /// Who holds the socket looked at, each once: kept, so that a socket allocates nothing.
    pids: Vec<NonZeroU32>,
    unheld: u64,
}

/// The processes that hold one socket.
pub struct HeldBy<'a> {
    pids: &'a [NonZeroU32],
    holds: &'a [Hold],
    processes: &'a mut Processes,
}

/// Whether a process under `root` matches `filter`; `None` if /proc hides processes, or one cannot be read.
#[must_use]
pub fn has_match(root: &Path, filter: &OwnerFilter) -> Option<bool> {
    let mut pids = all_pids(root)?;
    pids.retain(|pid| filter.pids.is_empty() || filter.pids.contains(pid));
    if filter.comms.is_empty() && !filter.needs_cgroup() {
        return Some(!pids.is_empty());
    }
    let mut processes = Processes::new(root, u64::MAX);
    if pids.iter().any(|&pid| processes.matches(pid, filter)) {
        return Some(true);
    }
    let is_known = |&pid: &NonZeroU32| processes.get(pid).is_some() || has_ended(root, pid);
    pids.iter().all(is_known).then_some(false)
}

/// Checks that a process under `root` matches `filter`, as far as /proc shows.
///
/// # Errors
/// None does.
pub fn ensure_match(root: &Path, filter: &OwnerFilter) -> anyhow::Result<()> {
    if !filter.is_any() && has_match(root, filter) == Some(false) {
        return Err(no_match(filter));
    }
    Ok(())
}

/// The error that no process matches `filter`.
#[must_use]
pub fn no_match(filter: &OwnerFilter) -> Error {
    if filter.comms.is_empty() && !filter.needs_cgroup() {
        let pids: Vec<_> = filter.pids.iter().map(ToString::to_string).collect();
        anyhow!(
            "no process has PID {}; try tcpwatch snapshot --by process",
            pids.join(" or ")
        )
    } else {
        anyhow!(
            "no process matches{}; try tcpwatch snapshot --by {}",
            filter.flags(),
            if !filter.pods.is_empty() {
                "pod"
            } else if !filter.containers.is_empty() {
                "container"
            } else {
                "process"
            }
        )
    }
}

impl Owners {
    /// Looks once at who holds which sockets under `root`.
    ///
    /// # Errors
    /// The path and what the kernel said of /proc itself.
    pub fn scan(root: &Path) -> anyhow::Result<Self> {
        let holders = holders(root)?;
        Ok(Self {
            root: root.to_owned(),
            holders,
            processes: Processes::new(root, clock::boot_ns()),
            pids: Vec::new(),
            unheld: 0,
        })
    }

    /// Who held the socket `inode` at the time of the scan, and is still there.
    pub fn find_holders(&mut self, inode: Option<NonZeroU32>) -> HeldBy<'_> {
        self.held_by(inode, |_, _| true)
    }

    /// Who held the socket `inode` at the time of the scan, and holds it by the same descriptor now.
    pub fn find_current_holders(&mut self, inode: NonZeroU32) -> HeldBy<'_> {
        self.held_by(Some(inode), Hold::is_there)
    }

    fn held_by(&mut self, inode: Option<NonZeroU32>, counts: impl Fn(&Hold, &Path) -> bool) -> HeldBy<'_> {
        self.pids.clear();
        if let Some(inode) = inode {
            let holds = self
                .holders
                .descriptors_of(inode)
                .iter()
                .filter(|hold| counts(hold, &self.root));
            self.pids.extend(holds.map(|hold| hold.pid));
            self.pids.dedup();
            self.pids.retain(|&pid| self.processes.get(pid).is_some());
            self.unheld += u64::from(self.pids.is_empty());
        }
        HeldBy {
            pids: &self.pids,
            holds: inode.map_or(&[], |inode| self.holders.descriptors_of(inode)),
            processes: &mut self.processes,
        }
    }

    /// What could not be seen, of the sockets asked for so far.
    #[must_use]
    pub fn unseen(&self) -> Unseen {
        Unseen {
            sockets: self.unheld,
            processes: self.holders.unreadable,
            hidden: self.holders.hidden,
            descriptors: self.holders.left_out,
            root_sees_more: !caps::see_all_descriptors(),
        }
    }
}

impl HeldBy<'_> {
    /// Whether one of them is whom `filter` asks for.
    pub fn match_filter(&mut self, filter: &OwnerFilter) -> bool {
        self.pids.iter().any(|&pid| self.processes.matches(pid, filter))
    }

    /// All of them, each with the descriptors it holds the socket by, in order.
    pub fn holders(&mut self) -> Vec<Holder> {
        let mut all = Vec::with_capacity(self.pids.len());
        for &pid in self.pids {
            let Some(known) = self.processes.get(pid) else { continue };
            let holds = self.holds.iter().filter(|hold| hold.pid == pid);
            all.push(Holder {
                process: Process {
                    pid: Some(pid),
                    comm: known.comm,
                },
                fds: holds.map(|hold| hold.fd).collect(),
            });
        }
        all
    }

    /// Which of them to name.
    pub fn primary(&mut self) -> PrimaryHolder {
        primary_holder(self.pids, |pid| self.processes.get(pid)?.parent)
    }

    /// The process to name.
    pub fn process(&mut self) -> Option<Owner> {
        match self.primary() {
            PrimaryHolder::One(pid) => self.processes.owner(pid).map(|owner| *owner),
            PrimaryHolder::Nobody | PrimaryHolder::Shared(_) => None,
        }
    }

    /// Whose the socket is. Its cgroup is that of the process to name, or the one that all holders share.
    pub fn owner(&mut self) -> SocketOwner {
        match self.primary() {
            PrimaryHolder::Nobody => SocketOwner::default(),
            PrimaryHolder::One(pid) => SocketOwner {
                process: self.processes.owner(pid),
                cgroup: self.processes.cgroup(pid),
            },
            PrimaryHolder::Shared(_) => {
                let mut cgroups = self.pids.iter().map(|&pid| self.processes.cgroup(pid));
                let first = cgroups.next().flatten();
                SocketOwner {
                    process: None,
                    cgroup: first.filter(|first| cgroups.all(|other| other.as_ref() == Some(first))),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::input::owner::Comm;

    /// Number, name, parent, cgroup, sockets and start of a process.
    type Row = (u32, &'static str, u32, &'static str, &'static [u32], u64);

    /// nginx's master (10), its workers (11, 12) and a stranger (20), who all hold 100; 11 holds 101, 11 and 12 hold 102,
    /// 12 and 20 hold 103, 10 and 11 hold 104. Number 30, who holds 105, started after the scan.
    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let processes: [Row; 6] = [
            (1, "init", 0, "/init.scope", &[], 0),
            (10, "nginx", 1, "/nginx", &[100, 104], 0),
            (11, "nginx", 10, "/nginx", &[100, 101, 102, 104], 0),
            (12, "nginx", 10, "/nginx", &[100, 102, 103], 0),
            (20, "stranger", 1, "/stranger", &[100, 103], 0),
            (30, "late", 1, "/late", &[105], u64::MAX >> 1),
        ];
        for (pid, comm, parent, cgroup, sockets, start) in processes {
            let process = root.path().join(format!("proc/{pid}"));
            fs::create_dir_all(process.join("fd")).unwrap();
            fs::write(process.join("comm"), format!("{comm}\n")).unwrap();
            fs::write(process.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
            let stat = format!("{pid} ({comm}) S {parent} 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {start} 0\n");
            fs::write(process.join("stat"), stat).unwrap();
            for (fd, inode) in sockets.iter().enumerate() {
                symlink(format!("socket:[{inode}]"), process.join(format!("fd/{fd}"))).unwrap();
                symlink(format!("socket:[{inode}]"), process.join(format!("fd/{}", fd + 10))).unwrap();
            }
        }
        root
    }

    #[test]
    fn a_socket_is_the_masters_or_the_only_ones_or_nobodys() {
        let root = tree();
        let mut owners = Owners::scan(root.path()).unwrap();
        let mut of = |inode| {
            let whose = owners.find_holders(NonZeroU32::new(inode)).owner();
            (
                whose.process.map(|owner| owner.to_string()),
                whose.cgroup.map(|cgroup| cgroup.path.clone()),
            )
        };
        let nginx = Some("/nginx".to_owned());
        assert_eq!(of(101), (Some("nginx[11]".into()), nginx.clone()));
        assert_eq!(of(104), (Some("nginx[10]".into()), nginx.clone()));
        assert_eq!(of(102), (None, nginx), "two brothers, of one cgroup");
        assert_eq!((of(100), of(103)), ((None, None), (None, None)), "strangers share them");
        assert_eq!((of(105), of(106), of(0)), ((None, None), (None, None), (None, None)));
        let unseen = owners.unseen();
        assert_eq!((unseen.sockets, unseen.processes, unseen.hidden), (2, 0, false));
    }

    #[test]
    fn a_process_matches_or_none_does_or_that_is_unknown() {
        let root = tree();
        let filter = |pids: &[u32], comm: Option<&str>, cgroup: Option<&str>| OwnerFilter {
            pids: pids.iter().filter_map(|&pid| NonZeroU32::new(pid)).collect(),
            comms: comm.iter().map(|comm| Comm::new(comm.as_bytes())).collect(),
            cgroups: cgroup.iter().map(|&cgroup| cgroup.to_owned()).collect(),
            ..OwnerFilter::default()
        };
        let matches = |filter: &OwnerFilter| has_match(root.path(), filter);
        let nobody = filter(&[98, 99], None, None);
        assert_eq!(matches(&nobody), Some(false));
        let refused = ensure_match(root.path(), &nobody).unwrap_err().to_string();
        assert!(refused.starts_with("no process has PID 98 or 99;"), "{refused}");
        assert_eq!(matches(&filter(&[99, 20], None, None)), Some(true));
        assert_eq!(matches(&filter(&[], Some("nginx"), None)), Some(true));
        assert_eq!(matches(&filter(&[], Some("ngin"), None)), Some(false));
        assert_eq!(matches(&filter(&[20], Some("nginx"), None)), Some(false));
        assert_eq!(matches(&filter(&[], None, Some("/nginx"))), Some(true));
        assert_eq!(matches(&filter(&[], Some("nginx"), Some("/stranger"))), Some(false));
        // One that may not be read may have any name.
        fs::remove_file(root.path().join("proc/20/comm")).unwrap();
        assert_eq!(matches(&filter(&[20], None, None)), Some(true));
        assert_eq!(matches(&filter(&[], Some("nginx"), None)), Some(true));
        let unknown = filter(&[], Some("ngin"), None);
        assert_eq!(matches(&unknown), None);
        assert!(ensure_match(root.path(), &unknown).is_ok());
        fs::remove_dir_all(root.path().join("proc/1")).unwrap();
        assert_eq!(matches(&nobody), None, "processes are hidden");
    }

    #[test]
    fn all_who_hold_a_socket_are_named_with_their_descriptors() {
        let root = tree();
        let mut owners = Owners::scan(root.path()).unwrap();
        let mut of = |inode| {
            let holders = owners.find_holders(NonZeroU32::new(inode)).holders();
            let words = |holder: Holder| format!("{} {:?}", holder.process, holder.fds);
            holders.into_iter().map(words).collect::<Vec<_>>()
        };
        assert_eq!(of(101), ["nginx[11] [1, 11]"]);
        assert_eq!(of(103), ["nginx[12] [2, 12]", "stranger[20] [1, 11]"]);
        assert_eq!((of(105), of(106), of(0)), (vec![], vec![], vec![]));
    }

    #[test]
    fn a_descriptor_that_was_closed_since_holds_nothing() {
        let root = tree();
        let mut owners = Owners::scan(root.path()).unwrap();
        let mut still = |inode| {
            let whose = owners.find_current_holders(NonZeroU32::new(inode).unwrap()).owner();
            whose.process.map(|owner| owner.to_string())
        };
        let fd = |path: &str| root.path().join("proc").join(path);
        assert_eq!(still(101), Some("nginx[11]".into()));
        fs::remove_file(fd("11/fd/1")).unwrap();
        assert_eq!(still(101), Some("nginx[11]".into()), "by its other descriptor");
        fs::remove_file(fd("11/fd/11")).unwrap();
        symlink("socket:[107]", fd("11/fd/11")).unwrap();
        assert_eq!(still(101), None, "which is another socket's now");
        fs::remove_dir_all(fd("10/fd")).unwrap();
        assert_eq!(still(104), Some("nginx[11]".into()), "whom the master left it to");
    }

    #[test]
    fn a_filter_takes_any_holder() {
        let root = tree();
        let mut owners = Owners::scan(root.path()).unwrap();
        let mut holds = |inode, filter: &OwnerFilter| owners.find_holders(NonZeroU32::new(inode)).match_filter(filter);
        let pid = |pid| OwnerFilter {
            pids: vec![NonZeroU32::new(pid).unwrap()],
            ..OwnerFilter::default()
        };
        assert!(holds(100, &pid(12)) && holds(100, &pid(20)) && holds(104, &pid(11)));
        assert!(!holds(104, &pid(12)) && !holds(105, &pid(30)) && !holds(0, &pid(10)));
        let stranger = OwnerFilter {
            comms: vec![Comm::new(b"stranger")],
            cgroups: vec!["/stranger".into()],
            ..OwnerFilter::default()
        };
        assert!(holds(103, &stranger) && !holds(102, &stranger));
        let nobody = OwnerFilter {
            cgroups: vec!["/nginx".into()],
            ..stranger
        };
        assert!(!holds(103, &nobody), "one holder has the name, the other the cgroup");
    }
}
