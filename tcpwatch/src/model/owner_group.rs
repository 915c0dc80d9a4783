//! What stands for the processes that own connections, where these are grouped: the process, its name, or what it runs in.

use std::fmt;
use std::sync::Arc;

use super::cgroups::CgroupPaths;
use crate::input::container::{Cgroup, Container, Pod};
use crate::input::owner::{Comm, Owner, OwnerBy, Process};

/// A process, or all processes that have a name, or what they run in, in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnerGroup {
    /// This process.
    Process(Process),
    /// All of this name.
    Comm(Comm),
    /// All of this cgroup.
    Cgroup(Arc<Cgroup>),
    /// All of this container; `None` stands for all that are in none.
    Container(Option<Arc<Container>>),
    /// All of this Kubernetes pod; `None` stands for all that are in none.
    Pod(Option<Arc<Pod>>),
}

impl OwnerGroup {
    /// The group of `owner`; `None` if the groups are of cgroups, and `cgroups` does not have the one of this owner.
    pub(super) fn new(owner: &Owner, by: OwnerBy, cgroups: &CgroupPaths) -> Option<Self> {
        Self::of(owner, by, || cgroups.get(owner))
    }

    /// The same, where `cgroup` gives the cgroup of this owner.
    pub(super) fn of(owner: &Owner, by: OwnerBy, cgroup: impl FnOnce() -> Option<Arc<Cgroup>>) -> Option<Self> {
        Some(match by {
            OwnerBy::Process => Self::Process((*owner).into()),
            OwnerBy::Comm => Self::Comm(owner.comm),
            OwnerBy::Cgroup => Self::Cgroup(cgroup()?),
            OwnerBy::Container => Self::Container(cgroup()?.container.clone()),
            OwnerBy::Pod => Self::Pod(cgroup()?.pod().cloned()),
        })
    }

    /// The process, without a PID if the group is of all processes of a name; `None` if their names may differ.
    #[must_use]
    pub const fn process(&self) -> Option<Process> {
        match *self {
            Self::Process(process) => Some(process),
            Self::Comm(comm) => Some(Process { pid: None, comm }),
            Self::Cgroup(_) | Self::Container(_) | Self::Pod(_) => None,
        }
    }

    /// All processes of the name, if this is one of them.
    #[must_use]
    pub fn by_name(&self) -> Self {
        match self {
            Self::Process(process) => Self::Comm(process.comm),
            other => other.clone(),
        }
    }
}

impl From<Process> for OwnerGroup {
    fn from(process: Process) -> Self {
        Self::Process(process)
    }
}

impl fmt::Display for OwnerGroup {
    /// For text output, escaped: `nginx[812]`, `nginx[*]`, `docker:0123456789ab`, `shop/cart-0`, `processes in no pod`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(process) => process.fmt(f),
            Self::Comm(comm) => write!(f, "{comm}[*]"),
            Self::Cgroup(cgroup) => cgroup.fmt(f),
            Self::Container(Some(container)) => container.fmt(f),
            Self::Container(None) => f.write_str("processes in no container"),
            Self::Pod(Some(pod)) => pod.fmt(f),
            Self::Pod(None) => f.write_str("processes in no pod"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::owner::tests::owner;

    #[test]
    fn a_process_is_in_one_group_of_each_kind() {
        let nginx = owner(812, "nginx");
        let path = format!(
            "/kubepods/pod26ab0db3-9bd5-4e11-b5e6-04aa4d0c6a1d/{}",
            "0a1b".repeat(16)
        );
        let group = |by, path: Option<&str>| {
            let mut cgroups = CgroupPaths::default();
            cgroups.insert(&nginx, path.map(|path| Arc::new(Cgroup::from(path.to_owned()))));
            OwnerGroup::new(&nginx, by, &cgroups).map(|group| group.to_string())
        };
        let all = |path| OwnerBy::ALL.map(|by| group(by, path).unwrap_or_else(|| "?".into()));
        assert_eq!(
            all(Some(&path)),
            [
                "nginx[812]",
                "nginx[*]",
                "container:0a1b0a1b0a1b",
                "container:0a1b0a1b0a1b",
                "26ab0db3-9bd5-4e11-b5e6-04aa4d0c6a1d"
            ]
        );
        assert_eq!(
            all(Some("/web")),
            [
                "nginx[812]",
                "nginx[*]",
                "/web",
                "processes in no container",
                "processes in no pod"
            ]
        );
        assert_eq!(all(None), ["nginx[812]", "nginx[*]", "?", "?", "?"]);
    }

    #[test]
    fn the_process_of_a_group_is_known_by_its_name() {
        let process = Process::from(owner(812, "nginx"));
        let one = OwnerGroup::from(process);
        assert_eq!(one.process(), Some(process));
        assert_eq!(one.by_name().process(), Some(Process { pid: None, ..process }));
        assert_eq!(OwnerGroup::Pod(None).by_name().process(), None);
    }
}
