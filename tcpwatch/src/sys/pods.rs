//! The names of Kubernetes pods, by the folders in which kubelet keeps their logs: `/var/log/pods/NAMESPACE_NAME_UID`
//! (`BuildPodLogsDirectory`, pkg/kubelet/kuberuntime/helpers.go).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hashbrown::HashMap;

use crate::input::container::Cgroup;

/// Where kubelet keeps the logs of pods.
const FOLDER: &str = "var/log/pods";

/// The names of the pods of this host. They are read again when the folder has changed.
#[derive(Debug)]
pub struct PodNames {
    folder: PathBuf,
    /// When the folder had changed last, at the last read; `None` before the first.
    changed: Option<SystemTime>,
    names: HashMap<String, String>,
}

impl PodNames {
    /// The pods of the host whose files are under `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            folder: root.join(FOLDER),
            changed: None,
            names: HashMap::new(),
        }
    }

    /// Namespace and name of the pod with the UID `uid`, as `shop/cart-0`; `None` if kubelet keeps no logs of it.
    pub fn get(&mut self, uid: &str) -> Option<String> {
        if !self.names.contains_key(uid) {
            self.read();
        }
        self.names.get(uid).cloned()
    }

    /// The cgroup of `path`, with the name of its pod.
    pub fn cgroup(&mut self, path: String) -> Cgroup {
        Cgroup::with_pod_names(path, |uid| self.get(uid))
    }

    /// Reads the folder, if it has changed. A host without Kubernetes has none.
    fn read(&mut self) {
        let changed = fs::metadata(&self.folder).and_then(|folder| folder.modified()).ok();
        if changed.is_none() || changed == self.changed {
            return;
        }
        let folders = fs::read_dir(&self.folder)
            .inspect_err(|error| log::warn!("the names of pods are unknown: {}: {error}", self.folder.display()))
            .into_iter()
            .flatten()
            .flatten();
        self.names = folders
            .filter_map(|folder| parse(folder.file_name().to_str()?))
            .collect();
        // A folder that comes within a tick of the clock does not change the time again.
        let is_old = |changed: &SystemTime| changed.elapsed().is_ok_and(|age| age > Duration::from_secs(1));
        self.changed = changed.filter(is_old);
    }
}

/// UID, and namespace and name, of the folder `NAMESPACE_NAME_UID`. None of the three contains `_`.
fn parse(folder: &str) -> Option<(String, String)> {
    let mut parts = folder.split('_');
    let (namespace, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
    let is_whole = parts.next().is_none() && ![namespace, name, uid].contains(&"");
    is_whole.then(|| (uid.to_owned(), format!("{namespace}/{name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "26ab0db3-9bd5-4e11-b5e6-04aa4d0c6a1d";

    #[test]
    fn a_pod_has_the_name_of_its_folder_also_when_it_came_later() {
        let root = tempfile::tempdir().unwrap();
        let mut names = PodNames::new(root.path());
        assert_eq!(names.get(UID), None, "no Kubernetes");
        let folder = root.path().join(FOLDER);
        fs::create_dir_all(folder.join("kube-system_etcd-node1_5c8b3d3a1f0d4f9c8f5e2b7a9d0c1e2f")).unwrap();
        assert_eq!(names.get(UID), None);
        let etcd = names.get("5c8b3d3a1f0d4f9c8f5e2b7a9d0c1e2f");
        assert_eq!(etcd.as_deref(), Some("kube-system/etcd-node1"));
        fs::create_dir(folder.join(format!("shop_cart-0_{UID}"))).unwrap();
        assert_eq!(names.get(UID).as_deref(), Some("shop/cart-0"));
    }

    #[test]
    fn other_folders_are_no_pods() {
        for folder in ["", "a", "a_b", "_b_c", "a__c", "a_b_", "a_b_c_d"] {
            assert_eq!(parse(folder), None, "{folder}");
        }
    }
}
