//! Finds the container of a cgroup by the cgroup names that container runtimes use.
//!
//! Compare cAdvisor (`container/*/factory.go`), Falco (`plugins/container/src/matchers`) and the container detectors of
//! OpenTelemetry. As they do, tcpwatch takes any 64 hex digits for a container; the runtime is known only by a name around them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

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
    /// ECS on Fargate. Elsewhere, ECS starts containers of Docker.
    Ecs,
    /// LXC, LXD or Incus.
    Lxc,
    /// systemd-nspawn.
    Nspawn,
    /// Garden, of Cloud Foundry.
    Garden,
    /// Nomad, by its exec driver. By others it starts containers of Docker or Podman.
    Nomad,
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
            Self::Ecs => "ecs",
            Self::Lxc => "lxc",
            Self::Nspawn => "nspawn",
            Self::Garden => "garden",
            Self::Nomad => "nomad",
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
    pub container: Option<Arc<Container>>,
}

impl From<String> for Cgroup {
    fn from(path: String) -> Self {
        Self::with_pod_names(path, |_| None)
    }
}

impl Cgroup {
    /// The cgroup of `path`. `name` finds namespace and name of the pod with a UID.
    pub fn with_pod_names(path: String, name: impl FnOnce(&str) -> Option<String>) -> Self {
        let mut container = Container::from_path(&path);
        if let Some(pod) = container.as_mut().and_then(|container| container.pod.as_mut()) {
            let name = name(&pod.uid);
            *pod = Arc::new(Pod {
                uid: pod.uid.clone(),
                name,
            });
        }
        Self {
            path,
            container: container.map(Arc::new),
        }
    }

    /// The pod, if its name is known: the word that people use for it, so text output shows it and not the container.
    #[must_use]
    pub fn named_pod(&self) -> Option<&Arc<Pod>> {
        self.pod().filter(|pod| pod.name.is_some())
    }

    /// The pod; `None` if the path names no pod.
    #[must_use]
    pub fn pod(&self) -> Option<&Arc<Pod>> {
        self.container.as_ref()?.pod.as_ref()
    }
}

impl fmt::Display for Cgroup {
    /// For text output, escaped: the path, or the container and the cgroup below it: `docker:0123456789ab/init.scope`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((container, below)) = find(&self.path) else {
            return Escaped(self.path.as_bytes()).fmt(f);
        };
        write!(f, "{container}{}", Escaped(below.as_bytes()))
    }
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Container {
    /// The runtime; `None` if the cgroup's name does not show it.
    pub runtime: Option<Runtime>,
    /// The ID, 64 hexadecimal digits; the name of a container that has a name instead.
    pub id: String,
    /// Its Kubernetes pod; `None` if it is in no pod.
    pub pod: Option<Arc<Pod>>,
}

/// A Kubernetes pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pod {
    /// Namespace and name, as `shop/cart-0`; `None` if kubelet keeps no logs of it here.
    pub name: Option<String>,
    /// The UID, with dashes; the hash of a static pod.
    pub uid: String,
}

impl Pod {
    /// Whether `asked` is its name, with or without the namespace, or its UID.
    #[must_use]
    pub fn is_called(&self, asked: &str) -> bool {
        let name = self.name.as_deref();
        let without_namespace = name.and_then(|name| name.split_once('/')).map(|(_, name)| name);
        self.uid == asked || name == Some(asked) || without_namespace == Some(asked)
    }
}

impl fmt::Display for Pod {
    /// The name, else the UID, escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(self.name.as_ref().unwrap_or(&self.uid).as_bytes()).fmt(f)
    }
}

impl Container {
    /// Finds the innermost container in the cgroup path `path` (as in /proc/PID/cgroup); `None` if there is no known container.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        find(path).map(|(container, _)| container)
    }

    /// Whether `asked` is its ID or name, the first 12 digits of its ID or more, what kubectl calls it (`containerd://ID`), or what text
    /// output calls it.
    #[must_use]
    pub fn is_called(&self, asked: &str) -> bool {
        let asked = asked.split_once("://").map_or(asked, |(_, id)| id);
        let is_part = is_container_id(&self.id) && asked.len() >= SHORT && self.id.starts_with(asked);
        self.id == asked || is_part || self.to_string() == asked
    }

    /// The short ID, or the name, escaped.
    #[must_use]
    pub fn short(&self) -> String {
        let short = if is_container_id(&self.id) {
            &self.id[..SHORT]
        } else {
            &self.id
        };
        Escaped(short.as_bytes()).to_string()
    }
}

impl fmt::Display for Container {
    /// `docker:0123456789ab`, or `container:0123456789ab` if the runtime is unknown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.runtime.map_or("container", Runtime::key), self.short())
    }
}

/// The innermost container in the cgroup path `path`, and the path below it.
fn find(path: &str) -> Option<(Container, &str)> {
    let (mut found, mut pod) = (None, None);
    // The two names above, the nearer one first, and where the name begins.
    let (mut above, mut start) = (["", ""], 0);
    for name in path.split('/') {
        let end = start + name.len();
        pod = pod_of(name).map(|uid| Arc::new(Pod { uid, name: None })).or(pod);
        let of_digits = named(name).or_else(|| bare(name, above[0], path));
        let of_digits = of_digits.map(|(runtime, id)| (runtime, id.into()));
        if let Some((runtime, id)) = of_digits.or_else(|| by_name(name, above)) {
            let container = Container {
                runtime,
                id: id.into_owned(),
                pod: pod.clone(),
            };
            found = Some((container, &path[end..]));
        }
        above = [name, above[0]];
        start = end + 1;
    }
    found
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

/// Parses a cgroup name that is only an ID: `docker/ID`, `ecs/TASK/ID`, `podUID/ID`, or below a parent that somebody chose
/// (`docker run --cgroup-parent`).
fn bare<'a>(name: &'a str, above: &str, path: &str) -> Option<(Option<Runtime>, &'a str)> {
    let is_dockers = above == "docker" || path.starts_with("/ecs/");
    is_container_id(name).then_some((is_dockers.then_some(Runtime::Docker), name))
}

/// Parses the name of a cgroup whose container has a name, or an ID of another form.
fn by_name<'a>(name: &'a str, above: [&str; 2]) -> Option<(Option<Runtime>, Cow<'a, str>)> {
    let (runtime, id) = match above {
        // ecs/TASK/TASK-NUMBER
        [task, "ecs"] => {
            let number = name.strip_prefix(task)?.strip_prefix('-')?;
            let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            (Runtime::Ecs, is_number.then_some(name)?.into())
        }
        // nomad.slice/share.slice/ALLOCATION.TASK.scope
        ["share.slice" | "reserve.slice", "nomad.slice"] => (Runtime::Nomad, name.strip_suffix(".scope")?.into()),
        ["lxc" | "lxc.payload", _] => (Runtime::Lxc, name.into()),
        ["garden", _] => (Runtime::Garden, name.into()),
        ["machine.slice", _] => (Runtime::Nspawn, machine(name)?),
        _ => (Runtime::Lxc, name.strip_prefix("lxc.payload.")?.into()),
    };
    (!id.is_empty()).then_some((Some(runtime), id))
}

/// The machine in the name of a unit of systemd-nspawn: `machine-NAME.scope`, or `systemd-nspawn@NAME.service`. Virtual machines have such
/// units too.
fn machine(unit: &str) -> Option<Cow<'_, str>> {
    let scope = || unit.strip_prefix("machine-")?.strip_suffix(".scope");
    let service = || unit.strip_prefix("systemd-nspawn@")?.strip_suffix(".service");
    let name = scope().or_else(service)?;
    // As systemd-escape(1) writes a dash.
    let name = name.replace("\\x2d", "-");
    // libvirt names machines DRIVER-NUMBER-NAME.
    let mut words = name.splitn(3, '-').skip(1);
    let number = words.next().filter(|_| words.next().is_some());
    let is_of_libvirt = number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    (!is_of_libvirt).then_some(name.into())
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
        Some((container.to_string(), container.pod.map(|pod| pod.uid.clone())))
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
            // ECS, by each of its agents, and a parent that somebody chose.
            ("/ecs/UID/A", docker, None),
            ("/ecs/web/HASH/A", docker, None),
            (
                "/ecs/HASH/HASH-1234567890",
                "ecs:5c8b3d3a1f0d4f9c8f5e2b7a9d0c1e2f-1234567890",
                None,
            ),
            ("/web-tier/A", unknown, None),
            ("/default/A", unknown, None),
            ("/lxc.payload.web01/system.slice/a.service", "lxc:web01", None),
            ("/lxc/web01/a.service", "lxc:web01", None),
            ("/lxc.payload/web01", "lxc:web01", None),
            ("/lxc.payload.web01/docker/A", docker, None),
            ("/machine.slice/machine-web.scope/payload/a.service", "nspawn:web", None),
            ("/machine.slice/machine-web\\x2d1.scope", "nspawn:web-1", None),
            ("/machine.slice/machine-lxc\\x2dweb.scope", "nspawn:lxc-web", None),
            ("/machine.slice/systemd-nspawn@web.service/payload", "nspawn:web", None),
            (
                "/system.slice/garden.service/garden/6f265890-18d1",
                "garden:6f265890-18d1",
                None,
            ),
            (
                "/nomad.slice/share.slice/UID.web.scope",
                "nomad:26ab0db3-9bd5-4e11-b5e6-04aa4d0c6a1d.web",
                None,
            ),
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
            ("/lxc/web\x1b/a/web\x1b", "lxc:web\\u{1b}/a/web\\u{1b}"),
            ("/machine.slice/machine-web\\x2d1.scope/payload", "nspawn:web-1/payload"),
            ("/", "/"),
        ] {
            assert_eq!(shown(path), text);
        }
    }

    #[test]
    fn a_pod_is_called_by_its_name_else_by_its_uid() {
        let path = format!("/kubepods/pod{POD}/{A}");
        let named = Cgroup::with_pod_names(path.clone(), |uid| (uid == POD).then(|| "shop/cart-0".into()));
        let pod = named.pod().unwrap();
        assert_eq!((pod.to_string(), pod.uid.as_str()), ("shop/cart-0".into(), POD));
        assert!(["shop/cart-0", "cart-0", POD].iter().all(|asked| pod.is_called(asked)));
        assert!(!["shop", "cart", "shop/", ""].iter().any(|asked| pod.is_called(asked)));
        assert_eq!(Cgroup::from(path).pod().unwrap().to_string(), POD);
    }

    #[test]
    fn a_container_is_called_by_its_id_or_a_part_of_it_or_its_name() {
        let docker = Container::from_path(&format!("/docker/{A}")).unwrap();
        for asked in [A, &A[..12], &A[..20], "docker:0a1b2c3d4e5f", &format!("docker://{A}")] {
            assert!(docker.is_called(asked), "{asked}");
        }
        assert!(![&A[..11], B, "docker", ""].iter().any(|asked| docker.is_called(asked)));
        let lxc = Container::from_path("/lxc/web01").unwrap();
        assert!(lxc.is_called("web01") && lxc.is_called("lxc:web01") && !lxc.is_called("web"));
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
            "/default/web/nginx",
            "/kubepods/burstable/podUID",
            "/machine.slice/machine-qemu\\x2d3\\x2dvm.scope",
            "/machine.slice/machine-ch\\x2d3\\x2dvm.scope",
            "/machine.slice/machine-.scope",
            "/ecs/HASH/HASH-",
            "/ecs/HASH/other-1",
            "/ecs/HASH",
            "/lxc.monitor.web01",
            "/lxc.payload.",
            "/lxc/",
            "/nomad.slice/share.slice",
            "/nomad.slice/share.slice/web",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_ID.slice",
            "/user.slice/user-1000.slice/session-3.scope",
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
