//! Finds the container of a cgroup by the cgroup names that container runtimes use.
//!
//! Compare cAdvisor (`container/*/factory.go`), Falco (`plugins/container/src/matchers`) and the container detectors of
//! OpenTelemetry. They accept any 64 hex digits as a container; tcpwatch also requires a known name around the digits.

use std::fmt;

use super::escaped::Escaped;

/// Length of a container ID, in hex digits.
const ID: usize = 64;
/// Length of the short ID, as in `docker ps`.
const SHORT: usize = 12;

/// A container runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Runtime {
    /// Docker.
    Docker,
    /// containerd, under Kubernetes or nerdctl.
    Containerd,
    /// CRI-O.
    CriO,
    /// Podman, or another user of libpod.
    Podman,
}

impl Runtime {
    /// The name in all outputs.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
        }
    }
}

/// The prefixes before the ID, in `PREFIX-ID.scope`, `PREFIX-ID` and `SLICE:PREFIX:ID`.
const PREFIXES: [(&str, Runtime); 6] = [
    ("docker", Runtime::Docker),
    ("cri-containerd", Runtime::Containerd),
    ("nerdctl", Runtime::Containerd),
    ("crio", Runtime::CriO),
    ("libpod", Runtime::Podman),
    // With `--cgroups=split`, the mode of Quadlet.
    ("libpod-payload", Runtime::Podman),
];

/// A cgroup, and the container it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cgroup {
    /// The path, as in /proc/PID/cgroup.
    pub path: String,
    /// The container; `None` if the path names no known container.
    pub container: Option<Container>,
}

impl From<String> for Cgroup {
    fn from(path: String) -> Self {
        let container = Container::from_path(&path);
        Self { path, container }
    }
}

impl fmt::Display for Cgroup {
    /// For text output, escaped: the path, or the container and the cgroup below it: `docker:0123456789ab/init.scope`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(container) = &self.container else {
            return Escaped(self.path.as_bytes()).fmt(f);
        };
        let after = self.path.rsplit_once(&container.id).map_or("", |(_, after)| after);
        let below = after.find('/').and_then(|at| after.get(at..)).unwrap_or_default();
        let name = format!("{container}{below}");
        Escaped(name.as_bytes()).fmt(f)
    }
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Container {
    /// The runtime; `None` if the cgroup's name does not show it.
    pub runtime: Option<Runtime>,
    /// The ID, 64 hexadecimal digits.
    pub id: String,
    /// The UID of its Kubernetes pod, with dashes; `None` if it is in no pod.
    pub pod: Option<String>,
}

impl Container {
    /// Finds the innermost container in the cgroup path `path` (as in /proc/PID/cgroup); `None` if there is no known container.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        let (mut found, mut pod, mut above) = (None, None, "");
        for name in path.split('/') {
            pod = pod_of(name).or(pod);
            if let Some((runtime, id)) = named(name).or_else(|| bare(name, above)) {
                found = Some(Self {
                    runtime,
                    id: id.to_owned(),
                    pod: pod.clone(),
                });
            }
            above = name;
        }
        found
    }

    /// The short ID.
    #[must_use]
    pub fn short(&self) -> &str {
        self.id.get(..SHORT).unwrap_or(&self.id)
    }
}

impl fmt::Display for Container {
    /// `docker:0123456789ab`, or `container:0123456789ab` if the runtime is unknown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.runtime.map_or("container", Runtime::key), self.short())
    }
}

fn is_container_id(text: &str) -> bool {
    text.len() == ID && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Parses a cgroup name with a runtime: `docker-ID.scope`, `crio-ID` or `SLICE:cri-containerd:ID` (a systemd name on a host
/// without systemd).
fn named(name: &str) -> Option<(Option<Runtime>, &str)> {
    let (prefix, id) = match name.rsplit_once(':') {
        Some((rest, id)) => (rest.rsplit_once(':')?.1, id),
        None => name.strip_suffix(".scope").unwrap_or(name).rsplit_once('-')?,
    };
    let &(_, runtime) = PREFIXES.iter().find(|&&(known, _)| known == prefix)?;
    is_container_id(id).then_some((Some(runtime), id))
}

/// Parses a cgroup name that is only an ID, below a parent that shows the kind: `docker/ID`, `podUID/ID`.
fn bare<'a>(name: &'a str, above: &str) -> Option<(Option<Runtime>, &'a str)> {
    let runtime = match above {
        "docker" => Some(Runtime::Docker),
        _ if pod_of(above).is_some() => None,
        _ => return None,
    };
    is_container_id(name).then_some((runtime, name))
}

/// The UID in the name of a pod's cgroup: `podUID`, or `kubepods-burstable-podUID.slice` with `_` instead of `-`, also before a
/// colon.
fn pod_of(name: &str) -> Option<String> {
    let slice = name.split(':').next()?;
    let uid = match slice.strip_suffix(".slice") {
        Some(name) if name.contains("kubepods") => name.rsplit_once("-pod")?.1,
        Some(_) => return None,
        None => slice.strip_prefix("pod")?,
    };
    // A UID, or the hash of a static pod.
    let is_uid = matches!(uid.len(), 32 | 36)
        && uid
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || b"-_".contains(&byte));
    is_uid.then(|| uid.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
    const B: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    const POD: &str = "26ab0db3-9bd5-4e11-b5e6-04aa4d0c6a1d";
    const POD_OF_A_FILE: &str = "5c8b3d3a1f0d4f9c8f5e2b7a9d0c1e2f";

    /// What is found in `path`, in which A and B stand for ids, UID for a pod's and `U_ID` for the same in a slice.
    fn found(path: &str) -> Option<(String, Option<String>)> {
        let path = path
            .replace("UID", POD)
            .replace("U_ID", &POD.replace('-', "_"))
            .replace("HASH", POD_OF_A_FILE)
            .replace('A', A)
            .replace('B', B);
        let container = Container::from_path(&path)?;
        assert!(is_container_id(&container.id));
        Some((container.to_string(), container.pod))
    }

    #[test]
    fn the_names_that_runtimes_give_are_known() {
        let (docker, containerd, crio) = ("docker:0a1b2c3d4e5f", "containerd:0a1b2c3d4e5f", "cri-o:0a1b2c3d4e5f");
        let (podman, unknown) = ("podman:0a1b2c3d4e5f", "container:0a1b2c3d4e5f");
        for (path, name, pod) in [
            ("/docker/A", docker, None),
            ("/docker/A/system.slice/nginx.service", docker, None),
            ("/system.slice/docker-A.scope", docker, None),
            ("/system.slice/docker-A.scope/init.scope", docker, None),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-A.scope",
                docker,
                None,
            ),
            ("/system.slice:docker:A", docker, None),
            ("/../docker-A.scope", docker, None),
            ("/../../docker/A", docker, None),
            ("/kubepods/burstable/podUID/A", unknown, Some(POD)),
            ("/kubepods/podUID/A", unknown, Some(POD)),
            ("/kubepods/besteffort/podHASH/A", unknown, Some(POD_OF_A_FILE)),
            ("/kubepods/burstable/podUID/crio-A", crio, Some(POD)),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_ID.slice/cri-containerd-A.scope",
                containerd,
                Some(POD),
            ),
            (
                "/kubepods.slice/kubepods-podU_ID.slice/docker-A.scope",
                docker,
                Some(POD),
            ),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU_ID.slice/crio-A.scope/container",
                crio,
                Some(POD),
            ),
            (
                "/system.slice/containerd.service/kubepods-burstable-podU_ID.slice:cri-containerd:A",
                containerd,
                Some(POD),
            ),
            ("/crio-A", crio, None),
            ("/default/nerdctl-A.scope", containerd, None),
            ("/libpod-A.scope", podman, None),
            ("/machine.slice/libpod-A.scope/container", podman, None),
            ("/machine.slice/machine-libpod_pod_B.slice/libpod-A.scope", podman, None),
            ("/libpod_parent/libpod-A", podman, None),
            ("/system.slice/web.service/libpod-payload-A", podman, None),
            // Docker in docker, and Kubernetes in docker.
            ("/docker/B/docker/A", docker, None),
            ("/system.slice/docker-B.scope/docker/A", docker, None),
            (
                "/docker/B/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podU_ID.slice/cri-containerd-A.scope",
                containerd,
                Some(POD),
            ),
            ("/kubepods/podUID/B/docker/A", docker, Some(POD)),
            ("/docker/A/system.slice/docker.service", docker, None),
            ("/docker/A/machine.slice/libpod-conmon-B.scope", docker, None),
        ] {
            let wanted = Some((name.to_owned(), pod.map(str::to_owned)));
            assert_eq!(found(path), wanted, "{path}");
        }
    }

    #[test]
    fn people_see_the_container_and_what_is_below_it() {
        let shown = |path: &str| Cgroup::from(path.replace('A', A).replace('B', B)).to_string();
        for (path, text) in [
            ("/docker/A", "docker:0a1b2c3d4e5f"),
            (
                "/system.slice/docker-A.scope/init.scope",
                "docker:0a1b2c3d4e5f/init.scope",
            ),
            ("/docker/B/docker/A/a\nb", "docker:0a1b2c3d4e5f/a\\nb"),
            ("/system.slice/web\x1b.service", "/system.slice/web\\u{1b}.service"),
            ("/", "/"),
        ] {
            assert_eq!(shown(path), text);
        }
    }

    #[test]
    fn what_is_not_recognised_is_no_container() {
        for path in [
            "",
            "/",
            "/..",
            "/init.scope",
            "/docker",
            "/docker/",
            "/docker/web",
            "/docker/buildkit/k3x9",
            "/system.slice/docker.service",
            "/system.slice/docker-A.mount",
            "/system.slice/docker-A.scope.d",
            "/system.slice/docker-0a1b2c3d4e5f.scope",
            "/system.slice/containerd.service",
            "/system.slice/crio-conmon-A.scope",
            "/kubepods/burstable/podUID/crio-conmon-A",
            "/machine.slice/libpod-conmon-A.scope",
            "/machine.slice/machine-libpod_pod_A.slice",
            "/default/web",
            "/default/A",
            "/A",
            "/kubepods/burstable/podUID",
            "/podman/A",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_ID.slice",
            "/user.slice/user-1000.slice/session-3.scope",
            "/lxc.payload.web",
            "::",
            "/:docker:",
            "/-",
            "/docker-.scope",
        ] {
            assert_eq!(found(path), None, "{path}");
        }
        assert_eq!(Container::from_path(&format!("/docker/{}", A.to_uppercase())), None);
        assert_eq!(Container::from_path(&format!("/docker/{}é", &A[..62])), None);
    }
}
