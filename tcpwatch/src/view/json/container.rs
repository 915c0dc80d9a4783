//! Which container a cgroup belongs to.

use serde::Serialize;

use crate::input::container::Cgroup;

/// Id of the container and uid of its pod; null for none, and where the cgroup is not known.
#[derive(Serialize)]
pub(super) struct Inside<'a> {
    container: Option<&'a str>,
    pod: Option<&'a str>,
}

impl<'a> Inside<'a> {
    /// What is known of `cgroup`.
    pub(super) fn of(cgroup: Option<&'a Cgroup>) -> Self {
        let container = cgroup.and_then(|cgroup| cgroup.container.as_ref());
        Self {
            container: container.map(|container| container.id.as_str()),
            pod: container.and_then(|container| container.pod.as_deref()),
        }
    }
}
