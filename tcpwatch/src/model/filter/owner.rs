//! The filter on owners: what `--pid`, `--comm` and `--cgroup` mean.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::input::container::Cgroup;
use crate::input::escaped::Escaped;
use crate::input::owner::Comm;

/// Selects processes. A process matches if every part that was given matches. A socket is shown if one of the processes that hold
/// it matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerFilter {
    /// PIDs; empty for any.
    pub pids: Vec<NonZeroU32>,
    /// Names (`comm`); empty for any.
    pub comms: Vec<Comm>,
    /// Cgroups: paths, parts of paths, ids of containers or uids of pods; empty for any.
    pub cgroups: Vec<String>,
}

impl OwnerFilter {
    /// Whether every process matches.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.pids.is_empty() && self.comms.is_empty() && self.cgroups.is_empty()
    }

    /// Whether a process matches. An unknown PID or cgroup does not match a PID or cgroup that was asked for. `cgroup` is called only if
    /// the result depends on it.
    pub fn matches(&self, pid: Option<NonZeroU32>, comm: &Comm, cgroup: impl FnOnce() -> Option<Arc<Cgroup>>) -> bool {
        (self.pids.is_empty() || pid.is_some_and(|pid| self.pids.contains(&pid)))
            && (self.comms.is_empty() || self.comms.contains(comm))
            && (self.cgroups.is_empty() || cgroup().is_some_and(|cgroup| self.matches_cgroup(&cgroup)))
    }

    /// The options of this filter, quoted for a shell, with a space before each: ` --pid 812 --comm nginx`.
    #[must_use]
    pub fn flags(&self) -> String {
        let pids = self.pids.iter().map(|pid| format!(" --pid {pid}"));
        let comms = self
            .comms
            .iter()
            .map(|comm| format!(" --comm {}", shell_quoted(comm.as_bytes())));
        let cgroups = self
            .cgroups
            .iter()
            .map(|cgroup| format!(" --cgroup {}", shell_quoted(cgroup.as_bytes())));
        pids.chain(comms).chain(cgroups).collect()
    }

    /// Whether the path, the container or the pod of `cgroup` matches.
    fn matches_cgroup(&self, cgroup: &Cgroup) -> bool {
        // The path may spell a pod's uid with `_` for `-`, and a name with `\\x2d`.
        let container = cgroup.container.as_ref();
        let pod = container.and_then(|container| container.pod.as_ref());
        let id = container.map(|container| &container.id);
        self.cgroups
            .iter()
            .any(|asked| cgroup.path.contains(asked.as_str()) || pod == Some(asked) || id == Some(asked))
    }
}

/// `text` as a shell takes it; control characters are escaped.
fn shell_quoted(text: &[u8]) -> String {
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
    fn every_part_must_match_and_one_value_of_each_is_enough() {
        assert!(filter(&[], &[], &[]).is_any() && nginx(&filter(&[], &[], &[])));
        assert!(nginx(&filter(&[7, 812], &[], &[])) && !nginx(&filter(&[8], &[], &[])));
        assert!(nginx(&filter(&[], &["sshd", "nginx"], &[])) && !nginx(&filter(&[], &["ngin"], &[])));
        assert!(nginx(&filter(&[812], &["nginx"], &["/kubepods.slice"])));
        assert!(!nginx(&filter(&[812], &["sshd"], &[])) && !nginx(&filter(&[812], &[], &["/docker"])));
        assert!(!filter(&[], &[], &["a"]).is_any());
    }

    #[test]
    fn a_cgroup_matches_by_path_container_and_pod() {
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
        let machine = || {
            Some(Arc::new(Cgroup::from(
                "/machine.slice/machine-web\\x2d1.scope".to_owned(),
            )))
        };
        assert!(filter(&[], &[], &["web-1"]).matches(None, &Comm::new(b"nginx"), machine));
    }

    #[test]
    fn a_name_longer_than_15_bytes_matches_its_first_15() {
        let asked = filter(&[], &["systemd-networkd-wait-online"], &[]);
        assert!(asked.matches(None, &Comm::new(b"systemd-network"), || None));
    }

    #[test]
    fn an_unknown_pid_or_cgroup_matches_none_that_was_asked_for() {
        let unknown = |filter: OwnerFilter| filter.matches(None, &Comm::new(b"nginx"), || None);
        assert!(unknown(filter(&[], &["nginx"], &[])));
        assert!(!unknown(filter(&[812], &[], &[])) && !unknown(filter(&[], &[], &["/"])));
    }
}
