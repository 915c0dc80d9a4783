//! What people call network namespaces: the name that `ip netns` knows, else the pod or container of a process in it, else that process.

use std::collections::BTreeMap;
use std::path::Path;

use crate::input::namespace::NamespaceNames;
use crate::sys::cgroup;
use crate::sys::netns::{Namespace, names};
use crate::sys::pods::PodNames;
use crate::sys::procs::process;

/// The names of `namespaces`. One whose process is gone has none.
#[must_use]
pub fn name_all(root: &Path, namespaces: &[Namespace]) -> NamespaceNames {
    let given = names(root);
    let mut pods = PodNames::new(root);
    let name = |namespace: &Namespace| {
        let name = given.get(&namespace.inode).cloned();
        let name = name.or_else(|| name_of_process(root, namespace, &mut pods));
        Some((namespace.inode, name?))
    };
    namespaces.iter().filter_map(name).collect::<BTreeMap<_, _>>().into()
}

/// The pod, or the container, of the process by which `namespace` was found, else that process.
fn name_of_process(root: &Path, namespace: &Namespace, pods: &mut PodNames) -> Option<String> {
    let pid = namespace.process()?;
    let found = process(root, pid)?;
    let cgroup = cgroup::path(root, pid).map(|path| pods.cgroup(path));
    let place = cgroup.and_then(|cgroup| match (cgroup.pod(), &cgroup.container) {
        (Some(pod), _) => Some(pod.to_string()),
        (None, container) => Some(container.as_ref()?.to_string()),
    });
    Some(place.unwrap_or_else(|| format!("{}[{pid}]", found.comm)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::netns_selector::NetnsSelector;
    use crate::sys::netns::resolve;

    #[test]
    fn a_namespace_of_a_process_has_its_name_and_ours_has_none() {
        let all = resolve(Path::new("/"), &NetnsSelector::Own).unwrap();
        let names = name_all(Path::new("/"), &all);
        assert_eq!(names.get(all[0].inode), all[0].inode.to_string());
    }
}
