//! Paths of cgroups: of /proc/PID/cgroup, and what they say of containers.

use std::num::NonZeroU32;

use tcpwatch::input::container::{Cgroup, Container, Runtime};
use tcpwatch::sys::cgroup;

use crate::tree::with_tree;

/// The file that is read.
const FILE: &str = "proc/1/cgroup";

pub(crate) fn run(input: &[u8]) {
    with_tree!(|tree| tree.write(FILE, b""), |tree| {
        tree.write(FILE, input);
        if let Some(path) = cgroup::path(tree.path(), NonZeroU32::MIN) {
            assert!(!path.contains('\n'), "a path is of one line");
            check(path);
        }
    });
    check(String::from_utf8_lossy(input).into_owned());
}

/// Checks what is said of the cgroup `path`.
fn check(path: String) {
    let cgroup = Cgroup::from(path);
    let shown = cgroup.to_string();
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    let Some(container) = &cgroup.container else {
        return;
    };
    let Container { runtime, id, pod } = &**container;
    // systemd writes a dash of a machine's name as `\\x2d`.
    assert!(*runtime == Some(Runtime::Nspawn) || cgroup.path.contains(id));
    let has_name = matches!(
        runtime,
        Some(Runtime::Ecs | Runtime::Lxc | Runtime::Nspawn | Runtime::Garden | Runtime::Nomad)
    );
    assert!(
        has_name && !id.is_empty() || id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    assert!(
        pod.as_ref().is_none_or(|pod| matches!(pod.uid.len(), 32 | 36)),
        "{pod:?}"
    );
}
