//! Whose sockets the user asked for: the meaning of `--pid`, `--comm` and `--cgroup`.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::input::container::Cgroup;
use crate::input::escaped::Escaped;
use crate::input::owner::Comm;

/// What a process must be, of which one that holds a socket is enough to show it; every part given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerFilter {
    /// Its number is one of these; any when empty.
    pub pids: Vec<NonZeroU32>,
    /// Its name is one of these; any when empty.
    pub comms: Vec<Comm>,
    /// Its cgroup is one of these, by path, part of a path, id of a container or uid of a pod; any when empty.
    pub cgroups: Vec<String>,
}

impl OwnerFilter {
    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.pids.is_empty() && self.comms.is_empty() && self.cgroups.is_empty()
    }

    /// Whether a process with this number, name and cgroup was asked for; what is not known matches nothing that was asked
    /// for. `cgroup` is called where it matters.
    pub fn matches(&self, pid: Option<NonZeroU32>, comm: &Comm, cgroup: impl FnOnce() -> Option<Arc<Cgroup>>) -> bool {
        (self.pids.is_empty() || pid.is_some_and(|pid| self.pids.contains(&pid)))
            && (self.comms.is_empty() || self.comms.contains(comm))
            && (self.cgroups.is_empty() || cgroup().is_some_and(|cgroup| self.has(&cgroup)))
    }

    /// The options that select these processes, as a shell takes them, with a space before each.
    #[must_use]
    pub fn flags(&self) -> String {
        let pids = self.pids.iter().map(|pid| format!(" --pid {pid}"));
        let comms = self
            .comms
            .iter()
            .map(|comm| format!(" --comm {}", quoted(comm.as_bytes())));
        let cgroups = self
            .cgroups
            .iter()
            .map(|cgroup| format!(" --cgroup {}", quoted(cgroup.as_bytes())));
        pids.chain(comms).chain(cgroups).collect()
    }

    /// Whether `cgroup` is or holds one of those asked for. A container's id, and its first digits, are in the path.
    fn has(&self, cgroup: &Cgroup) -> bool {
        // A pod's uid may be written otherwise there.
        let pod = cgroup.container.as_ref().and_then(|container| container.pod.as_ref());
        self.cgroups
            .iter()
            .any(|asked| cgroup.path.contains(asked.as_str()) || pod == Some(asked))
    }
}

/// `text` as a shell takes it.
fn quoted(text: &[u8]) -> String {
    let escaped = Escaped(text);
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:@".contains(byte);
    if text.iter().all(is_plain) {
        escaped.to_string()
    } else {
        format!("'{escaped}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "26ab0db3-9bd5-4e11-b5e6-04aa4d0c6a1d";

    fn filter(pids: &[u32], comms: &[&str], cgroups: &[&str]) -> OwnerFilter {
        OwnerFilter {
            pids: pids.iter().filter_map(|&pid| NonZeroU32::new(pid)).collect(),
            comms: comms.iter().map(|comm| Comm::new(comm.as_bytes())).collect(),
            cgroups: cgroups.iter().map(|&cgroup| cgroup.to_owned()).collect(),
        }
    }

    fn nginx(filter: &OwnerFilter) -> bool {
        let slice = format!("kubepods-pod{}.slice", POD.replace('-', "_"));
        let path = format!("/kubepods.slice/{slice}/cri-containerd-{}.scope", "0a1b".repeat(16));
        filter.matches(NonZeroU32::new(812), &Comm::new(b"nginx"), || {
            Some(Arc::new(Cgroup::from(path)))
        })
    }

    #[test]
    fn every_part_given_must_hold_and_one_of_each_is_enough() {
        assert!(filter(&[], &[], &[]).is_any() && nginx(&filter(&[], &[], &[])));
        assert!(nginx(&filter(&[7, 812], &[], &[])) && !nginx(&filter(&[8], &[], &[])));
        assert!(nginx(&filter(&[], &["sshd", "nginx"], &[])) && !nginx(&filter(&[], &["ngin"], &[])));
        assert!(nginx(&filter(&[812], &["nginx"], &["/kubepods.slice"])));
        assert!(!nginx(&filter(&[812], &["sshd"], &[])) && !nginx(&filter(&[812], &[], &["/docker"])));
        assert!(!filter(&[], &[], &["a"]).is_any());
    }

    #[test]
    fn a_cgroup_is_asked_for_by_path_container_and_pod() {
        for asked in [
            "/kubepods.slice",
            "0a1b0a1b0a1b",
            &"0a1b".repeat(16),
            "cri-containerd",
            POD,
        ] {
            assert!(nginx(&filter(&[], &[], &["/nowhere", asked])), "{asked}");
        }
        assert!(!nginx(&filter(&[], &[], &["26ab0db3-9bd5-4e11-b5e6-04aa4d0c6a1e"])));
    }

    #[test]
    fn a_long_name_is_asked_for_as_it_was_started() {
        let asked = filter(&[], &["systemd-networkd-wait-online"], &[]);
        assert!(asked.matches(None, &Comm::new(b"systemd-network"), || None));
    }

    #[test]
    fn what_is_unknown_is_not_what_was_asked_for() {
        let unknown = |filter: OwnerFilter| filter.matches(None, &Comm::new(b"nginx"), || None);
        assert!(unknown(filter(&[], &["nginx"], &[])));
        assert!(!unknown(filter(&[812], &[], &[])) && !unknown(filter(&[], &[], &["/"])));
    }
}
