//! The JSON fields of the container that a cgroup belongs to.

use serde::Serialize;

use crate::input::container::Cgroup;

/// Id of the container, and uid and name of its pod; null where there is none, or where the cgroup is unknown.
#[derive(Serialize)]
pub(super) struct ContainerFields<'a> {
    container: Option<&'a str>,
    pod: Option<&'a str>,
    pod_name: Option<&'a str>,
}

impl<'a> ContainerFields<'a> {
    /// The fields of the container of `cgroup`.
    pub(super) fn new(cgroup: Option<&'a Cgroup>) -> Self {
        let container = cgroup.and_then(|cgroup| cgroup.container.as_ref());
        let pod = cgroup.and_then(Cgroup::pod);
        Self {
            container: container.map(|container| container.id.as_str()),
            pod: pod.map(|pod| pod.uid.as_str()),
            pod_name: pod.and_then(|pod| pod.name.as_deref()),
        }
    }
}
