//! The columns of what stands for the processes that own connections, beside those of a process.

use super::container;
use crate::input::escaped::{Escaped, escape_formula};
use crate::model::owner_group::OwnerGroup;

/// Writes the fields of [`container::COLUMNS`] for `group`. They are empty where it is unknown, or a process; `-` is none.
pub(super) fn fields(line: &mut String, group: Option<&OwnerGroup>) {
    let text = |text: &str| escape_formula(Escaped(text.as_bytes()).to_string());
    let [mut container_id, mut pod_uid, mut pod_name] = [const { String::new() }; 3];
    let cgroup = match group {
        Some(OwnerGroup::Cgroup(cgroup)) => Some(&**cgroup),
        Some(OwnerGroup::Container(container)) => {
            container_id = container
                .as_ref()
                .map_or_else(|| "-".into(), |container| text(&container.id));
            None
        }
        Some(OwnerGroup::Pod(pod)) => {
            pod_uid = pod.as_ref().map_or_else(|| "-".into(), |pod| text(&pod.uid));
            let name = pod.as_ref().and_then(|pod| pod.name.as_deref());
            pod_name = name.map_or_else(String::new, text);
            None
        }
        Some(OwnerGroup::Process(_) | OwnerGroup::Comm(_)) | None => None,
    };
    let others = [String::new(), container_id, pod_uid, pod_name];
    for (one, other) in container::fields(cgroup).into_iter().zip(others) {
        line.push(',');
        super::field::quoted(line, if one.is_empty() { &other } else { &one });
    }
}

/// The name of `group` in one field: `nginx[812]`, `nginx`, a path, the ID of a container, the name or else the UID of a pod; `-` is none.
pub(super) fn name(group: &OwnerGroup) -> String {
    let name = match group {
        OwnerGroup::Comm(comm) => comm.to_string(),
        OwnerGroup::Cgroup(cgroup) => Escaped(cgroup.path.as_bytes()).to_string(),
        OwnerGroup::Container(Some(container)) => Escaped(container.id.as_bytes()).to_string(),
        OwnerGroup::Process(_) | OwnerGroup::Pod(Some(_)) => group.to_string(),
        OwnerGroup::Container(None) | OwnerGroup::Pod(None) => return "-".into(),
    };
    escape_formula(name)
}
