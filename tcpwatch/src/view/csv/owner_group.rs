//! The CSV columns of a group of processes, other than the PID and the name of a process.

use super::container;
use super::field::quoted;
use crate::input::escaped::{Escaped, escape_formula};
use crate::model::owner_group::OwnerGroup;

/// Writes the fields of [`container::COLUMNS`] for `group`. They are empty where it is unknown, or a process; `-` is none.
pub(super) fn fields(line: &mut String, group: Option<&OwnerGroup>) {
    let text = |text: &str| escape_formula(Escaped(text.as_bytes()).to_string());
    let (none, empty) = (|| "-".to_owned(), String::new);
    let fields = match group {
        Some(OwnerGroup::Cgroup(cgroup)) => container::fields(Some(cgroup)),
        Some(OwnerGroup::Container(container)) => {
            let id = container.as_ref().map_or_else(none, |container| text(&container.id));
            [empty(), id, empty(), empty()]
        }
        Some(OwnerGroup::Pod(pod)) => {
            let uid = pod.as_ref().map_or_else(none, |pod| text(&pod.uid));
            let name = pod.as_ref().and_then(|pod| pod.name.as_deref());
            [empty(), empty(), uid, name.map_or_else(empty, text)]
        }
        Some(OwnerGroup::Process(_) | OwnerGroup::Comm(_)) | None => container::fields(None),
    };
    for field in fields {
        line.push(',');
        quoted(line, &field);
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
