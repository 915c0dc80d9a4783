//! The JSON object of a process or a group of processes.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::model::owner_group::OwnerGroup;

/// `{"pid":812,"comm":"nginx"}`, `{"cgroup":"/web"}`, `{"container":"ID"}` or `{"pod":"UID","pod_name":"shop/cart-0"}`. The container or
/// pod is `""` for all processes that are in none.
pub(super) struct GroupObject<'a>(pub(super) &'a OwnerGroup);

impl Serialize for GroupObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.0 {
            OwnerGroup::Process(_) | OwnerGroup::Comm(_) => {
                let process = self.0.process();
                map.serialize_entry("pid", &process.and_then(|process| process.pid))?;
                map.serialize_entry("comm", &process.map(|process| process.comm))?;
            }
            OwnerGroup::Cgroup(cgroup) => map.serialize_entry("cgroup", &cgroup.path)?,
            OwnerGroup::Container(container) => {
                let id = container.as_ref().map_or("", |container| &container.id);
                map.serialize_entry("container", id)?;
            }
            OwnerGroup::Pod(pod) => {
                map.serialize_entry("pod", pod.as_ref().map_or("", |pod| &pod.uid))?;
                map.serialize_entry("pod_name", &pod.as_ref().and_then(|pod| pod.name.as_deref()))?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::input::container::{Cgroup, Pod};
    use crate::input::owner::{Comm, Process};

    #[test]
    fn each_kind_has_its_keys() {
        let pod = Pod {
            name: Some("shop/cart-0".into()),
            uid: "26ab0db3".into(),
        };
        let process = Process {
            pid: None,
            comm: Comm::new(b"nginx"),
        };
        for (group, json) in [
            (OwnerGroup::from(process), r#"{"pid":null,"comm":"nginx"}"#),
            (OwnerGroup::Comm(process.comm), r#"{"pid":null,"comm":"nginx"}"#),
            (
                OwnerGroup::Cgroup(Arc::new(Cgroup::from("/web".to_owned()))),
                r#"{"cgroup":"/web"}"#,
            ),
            (OwnerGroup::Container(None), r#"{"container":""}"#),
            (
                OwnerGroup::Pod(Some(Arc::new(pod))),
                r#"{"pod":"26ab0db3","pod_name":"shop/cart-0"}"#,
            ),
            (OwnerGroup::Pod(None), r#"{"pod":"","pod_name":null}"#),
        ] {
            assert_eq!(serde_json::to_string(&GroupObject(&group)).unwrap(), json);
        }
    }
}
