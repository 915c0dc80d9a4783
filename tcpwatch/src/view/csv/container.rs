//! The columns of a cgroup and its container.

use crate::input::container::Cgroup;
use crate::input::escaped::Escaped;
use crate::input::escaped::escape_formula;

/// Names of the columns.
pub(super) const COLUMNS: [&str; 3] = ["cgroup", "container", "pod"];

/// The fields of `cgroup`; unknown or missing values are empty. Control characters are escaped.
pub(super) fn fields(cgroup: Option<&Cgroup>) -> [String; 3] {
    let container = cgroup.and_then(|cgroup| cgroup.container.as_ref());
    let fields = [
        cgroup.map_or_else(String::new, |cgroup| Escaped(cgroup.path.as_bytes()).to_string()),
        container.map_or_else(String::new, |container| Escaped(container.id.as_bytes()).to_string()),
        container
            .and_then(|container| container.pod.clone())
            .unwrap_or_default(),
    ];
    fields.map(escape_formula)
}
