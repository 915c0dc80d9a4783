//! The filter on owners: what `--pid`, `--comm`, `--cgroup`, `--container` and `--pod` mean.

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
    /// Containers: IDs or their first 12 digits, or names; empty for any.
    pub containers: Vec<String>,
    /// Pods: names with or without their namespace, or UIDs; empty for any.
    pub pods: Vec<String>,
}

impl OwnerFilter {
    /// Whether every process matches.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.pids.is_empty() && self.comms.is_empty() && !self.needs_cgroup()
    }

    /// Whether the cgroup of a process decides whether it matches.
    #[must_use]
    pub fn needs_cgroup(&self) -> bool {
        !(self.cgroups.is_empty() && self.containers.is_empty() && self.pods.is_empty())
    }

    /// Whether a process matches. An unknown PID or cgroup does not match a PID or cgroup that was asked for. `cgroup` is called only if
    /// the result depends on it.
    pub fn matches(&self, pid: Option<NonZeroU32>, comm: &Comm, cgroup: impl FnOnce() -> Option<Arc<Cgroup>>) -> bool {
        (self.pids.is_empty() || pid.is_some_and(|pid| self.pids.contains(&pid)))
            && (self.comms.is_empty() || self.comms.contains(comm))
            && (!self.needs_cgroup() || cgroup().is_some_and(|cgroup| self.matches_cgroup(&cgroup)))
    }

    /// The options of this filter, quoted for a shell, with a space before each: ` --pid 812 --comm nginx`.
    #[must_use]
    pub fn flags(&self) -> String {
        let pids = self.pids.iter().map(|pid| format!(" --pid {pid}"));
        let comms = self
            .comms
            .iter()
            .map(|comm| format!(" --comm {}", shell_quoted(comm.as_bytes())));
        let named = [
            ("cgroup", &self.cgroups),
            ("container", &self.containers),
            ("pod", &self.pods),
        ];
        let named = named.into_iter().flat_map(|(option, values)| {
            let flag = move |value: &String| format!(" --{option} {}", shell_quoted(value.as_bytes()));
            values.iter().map(flag)
        });
        pids.chain(comms).chain(named).collect()
    }

    /// Whether the path, the container or the pod of `cgroup` matches.
    fn matches_cgroup(&self, cgroup: &Cgroup) -> bool {
        let is_container = |asked: &String| cgroup.container.as_ref().is_some_and(|one| one.is_called(asked));
        let is_pod = |asked: &String| cgroup.pod().is_some_and(|pod| pod.is_called(asked));
        // The path may spell a pod's uid with `_` for `-`, and a name with `\\x2d`.
        let is_any = |asked: &String| cgroup.path.contains(asked) || is_pod(asked) || is_container(asked);
        (self.cgroups.is_empty() || self.cgroups.iter().any(is_any))
            && (self.containers.is_empty() || self.containers.iter().any(is_container))
            && (self.pods.is_empty() || self.pods.iter().any(is_pod))
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
            ..OwnerFilter::default()
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
    fn a_container_or_a_pod_matches_by_its_own_names_alone() {
        let of = |containers: &[&str], pods: &[&str]| OwnerFilter {
            containers: containers.iter().map(|&asked| asked.to_owned()).collect(),
            pods: pods.iter().map(|&asked| asked.to_owned()).collect(),
            ..OwnerFilter::default()
        };
        assert!(nginx(&of(&["containerd:0a1b0a1b0a1b"], &[])) && nginx(&of(&[], &[POD])));
        assert!(nginx(&of(&["web", "0a1b0a1b0a1b"], &[POD])));
        assert!(!nginx(&of(&["kubepods"], &[])) && !nginx(&of(&[], &["kubepods"])));
        assert!(!nginx(&of(&["0a1b0a1b0a1b"], &["shop/cart"])));
        let flags = of(&["docker:0a1b0a1b0a1b"], &["shop/a b"]).flags();
        assert_eq!(flags, " --container docker:0a1b0a1b0a1b --pod 'shop/a b'");
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
