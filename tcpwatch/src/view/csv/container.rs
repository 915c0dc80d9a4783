//! The columns of a cgroup and its container.

use crate::input::container::Cgroup;
use crate::input::escaped::Escaped;
use crate::input::escaped::escape_formula;

/// Names of the columns.
pub(super) const COLUMNS: [&str; 4] = ["cgroup", "container", "pod", "pod_name"];

/// The fields of `cgroup`; unknown or missing values are empty. Control characters are escaped.
pub(super) fn fields(cgroup: Option<&Cgroup>) -> [String; 4] {
    let container = cgroup.and_then(|cgroup| cgroup.container.as_ref());
    let pod = cgroup.and_then(Cgroup::pod);
    let name = pod.and_then(|pod| pod.name.as_ref());
    let fields = [
        cgroup.map_or_else(String::new, |cgroup| Escaped(cgroup.path.as_bytes()).to_string()),
        container.map_or_else(String::new, |container| Escaped(container.id.as_bytes()).to_string()),
        pod.map_or_else(String::new, |pod| pod.uid.clone()),
        name.map_or_else(String::new, |name| Escaped(name.as_bytes()).to_string()),
    ];
    fields.map(escape_formula)
}
