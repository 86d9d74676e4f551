//! Names of pods and containers from the names that the kubelet gives to their logs. Opens no log.
//! Begin at [`look`].

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Failure, Found};
use crate::enrich::cgroup;
use crate::enrich::names::{ContainerName, Missing, PodName};

/// A directory for each pod, `NAMESPACE_NAME_UID`.
/// Source: Kubernetes, `pkg/kubelet/kuberuntime/helpers.go`, `BuildPodLogsDirectory`.
pub(super) const PODS: &str = "var/log/pods";

/// A link for each container to its log, `POD_NAMESPACE_CONTAINER-ID.log`.
/// Source: Kubernetes, `pkg/kubelet/kuberuntime/legacy.go`, `legacyLogSymlink`.
const CONTAINERS: &str = "var/log/containers";

/// Looks for names of what is missing. `None` where no kubelet writes logs.
pub(super) async fn look(root: PathBuf, missing: Missing) -> Result<Option<Found>, Failure> {
    let look = tokio::task::spawn_blocking(move || read(&root, &missing));
    look.await.unwrap_or_else(|error| Err(Failure::Call(error.to_string())))
}

fn read(root: &Path, missing: &Missing) -> Result<Option<Found>, Failure> {
    let is_missing = |ids: &[String], id: &str| ids.binary_search_by(|other| (**other).cmp(id)).is_ok();
    let mut found = Found::default();
    let pods = each(&root.join(PODS), |_, name| {
        if let Some((key, name)) = pod(name)
            && is_missing(&missing.pods, key)
        {
            found.pods.push((key.to_owned(), name));
        }
    })?;
    let containers = each(&root.join(CONTAINERS), |directory, name| {
        if let Some((id, container)) = container(name)
            && is_missing(&missing.containers, id)
        {
            // The link may be gone by now, and then so is the container.
            let pod = fs::read_link(directory.join(name)).ok().as_deref().and_then(pod_of_log);
            let name = Some(container.to_owned());
            found.containers.push((id.to_owned(), ContainerName { name, pod }));
        }
    })?;
    Ok((pods || containers).then_some(found))
}

/// Does something with each name in a directory. Says whether there is such a directory.
fn each(directory: &Path, mut with: impl FnMut(&Path, &str)) -> Result<bool, Failure> {
    let failed = |error| Failure::Read { path: directory.to_owned(), error };
    let entries = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(false);
        }
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        // What is not text is not the kubelet's.
        if let Some(name) = entry.map_err(failed)?.file_name().to_str() {
            with(directory, name);
        }
    }
    Ok(true)
}

/// What stands for the pod of a directory of logs, and its name. Neither a namespace nor a name has an underscore.
fn pod(directory: &str) -> Option<(&str, PodName)> {
    let mut parts = directory.splitn(3, '_');
    let (namespace, name, key) = (parts.next()?, parts.next()?, parts.next()?);
    if [namespace, name, key].contains(&"") {
        return None;
    }
    Some((key, PodName { namespace: namespace.to_owned(), name: name.to_owned() }))
}

/// The id and the name of the container of a link.
fn container(link: &str) -> Option<(&str, &str)> {
    let (names, id) = link.strip_suffix(".log")?.rsplit_once('-')?;
    let (_, container) = names.rsplit_once('_')?;
    (cgroup::is_container_id(id) && !container.is_empty()).then_some((id, container))
}

/// What stands for the pod that a log is of: `.../NAMESPACE_NAME_UID/CONTAINER/0.log`.
fn pod_of_log(log: &Path) -> Option<String> {
    let directory = log.parent()?.parent()?.file_name().and_then(OsStr::to_str)?;
    pod(directory).map(|(key, _)| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "2fc932ce-fdcc-454b-97bd-aadfdeb4c340";
    const HASH: &str = "36b6d6be73b1065af369b3985edafa09";
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn names_of_directories() {
        let table = [
            (format!("shop_cart-7c5d-x2x_{UID}"), Some((UID, "shop", "cart-7c5d-x2x"))),
            (format!("kube-system_etcd-n1.example_{HASH}"), Some((HASH, "kube-system", "etcd-n1.example"))),
            ("a_b_an_odd_uid".to_owned(), Some(("an_odd_uid", "a", "b"))),
            ("a_b".to_owned(), None),
            ("a__c".to_owned(), None),
            ("_b_c".to_owned(), None),
            ("a_b_".to_owned(), None),
            ("lost+found".to_owned(), None),
            (String::new(), None),
        ];
        for (directory, expected) in table {
            let expected = expected.map(|(key, namespace, name)| {
                (key, PodName { namespace: namespace.to_owned(), name: name.to_owned() })
            });
            assert_eq!(pod(&directory), expected, "{directory}");
        }
    }

    #[test]
    fn names_of_links() {
        let table = [
            (format!("cart-7c5d-x2x_shop_web-{ID}.log"), Some((ID, "web"))),
            (format!("cart_shop_side-car-2-{ID}.log"), Some((ID, "side-car-2"))),
            (format!("cart_shop_-{ID}.log"), None),
            (format!("cart-{ID}.log"), None),
            (format!("cart_shop_web-{ID}"), None),
            (format!("cart_shop_web-{}.log", &ID[1..]), None),
            (String::new(), None),
        ];
        for (link, expected) in &table {
            assert_eq!(container(link), *expected, "{link}");
        }
    }

    #[test]
    fn where_links_lead() {
        let leads = |path: &str| pod_of_log(Path::new(path));
        assert_eq!(leads(&format!("/var/log/pods/shop_cart_{UID}/web/0.log")), Some(UID.to_owned()));
        assert_eq!(leads(&format!("../pods/shop_cart_{HASH}/web/0.log")), Some(HASH.to_owned()));
        for path in ["", "/", "0.log", "/var/lib/docker/containers/abc/abc-json.log"] {
            assert_eq!(leads(path), None, "{path}");
        }
    }
}
