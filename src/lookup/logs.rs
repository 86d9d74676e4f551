//! Pod and container names from the paths of the kubelet's log files. Opens no log.
//!
//! Entry point: [`query`].

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{LookupError, LookupResult};
use crate::enrich::cgroup;
use crate::enrich::names::{ContainerName, MissingNames, PodName};
use crate::worker::Worker;

/// Has a directory for each pod, `NAMESPACE_NAME_UID`.
/// Source: Kubernetes, `pkg/kubelet/kuberuntime/helpers.go`, `BuildPodLogsDirectory`.
pub(super) const PODS: &str = "var/log/pods";

/// Has a link to the log of each container, `POD_NAMESPACE_CONTAINER-ID.log`.
/// Source: Kubernetes, `pkg/kubelet/kuberuntime/legacy.go`, `legacyLogSymlink`.
const CONTAINERS: &str = "var/log/containers";

/// Returns the names that are missing and those of their pods; `None` on a host without logs of a kubelet. Directories are listed on the
/// thread of `files`.
pub(super) async fn query(
    root: PathBuf,
    missing: MissingNames,
    files: &Worker,
) -> Result<Option<LookupResult>, LookupError> {
    files.run(move || read(&root, &missing)).await
}

fn read(root: &Path, missing: &MissingNames) -> Result<Option<LookupResult>, LookupError> {
    let mut result = LookupResult::default();
    let mut keys = HashSet::new();
    let has_containers = for_each_name(&root.join(CONTAINERS), |directory, name| {
        if let Some((id, container)) = parse_link(name)
            && missing.has_container(id)
        {
            // The link vanishes together with its container.
            let pod = fs::read_link(directory.join(name)).ok().as_deref().and_then(pod_of_log);
            keys.extend(pod.clone());
            let name = Some(container.to_owned());
            result.containers.push((id.to_owned(), ContainerName { name, pod }));
        }
    })?;
    let has_pods = for_each_name(&root.join(PODS), |_, name| {
        if let Some((key, name)) = parse_directory(name)
            && (missing.has_pod(key) || keys.contains(key))
        {
            result.pods.push((key.to_owned(), name));
        }
    })?;
    Ok((has_pods || has_containers).then_some(result))
}

/// Calls `visit` with the directory and the name of each of its entries. Returns false if there is no such directory.
fn for_each_name(directory: &Path, mut visit: impl FnMut(&Path, &str)) -> Result<bool, LookupError> {
    let failed = |error| LookupError::Read { path: directory.to_owned(), error };
    let entries = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(false);
        }
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        // The kubelet makes only names that are UTF-8.
        if let Some(name) = entry.map_err(failed)?.file_name().to_str() {
            visit(directory, name);
        }
    }
    Ok(true)
}

/// Returns the key and the name of the pod of a log directory. Namespaces and names have no underscores; the key is the UID, or
/// the hash of the configuration for a static pod.
fn parse_directory(directory: &str) -> Option<(&str, PodName)> {
    let mut parts = directory.splitn(3, '_');
    let (namespace, name, key) = (parts.next()?, parts.next()?, parts.next()?);
    if [namespace, name, key].contains(&"") {
        return None;
    }
    Some((key, PodName { namespace: namespace.to_owned(), name: name.to_owned() }))
}

/// Returns the id and the name of the container of a link.
fn parse_link(link: &str) -> Option<(&str, &str)> {
    let (names, id) = link.strip_suffix(".log")?.rsplit_once('-')?;
    let (_, container) = names.rsplit_once('_')?;
    (cgroup::is_container_id(id) && !container.is_empty()).then_some((id, container))
}

/// Returns the key of the pod of a log file: `.../NAMESPACE_NAME_UID/CONTAINER/0.log`.
fn pod_of_log(log: &Path) -> Option<String> {
    let directory = log.parent()?.parent()?.file_name().and_then(OsStr::to_str)?;
    parse_directory(directory).map(|(key, _)| key.to_owned())
}

/// Entry point of a fuzzer: parses any bytes as each name.
pub(crate) fn fuzz(bytes: &[u8]) {
    let name = String::from_utf8_lossy(bytes);
    if let Some((key, PodName { namespace, name: pod })) = parse_directory(&name) {
        assert_eq!(format!("{namespace}_{pod}_{key}"), *name);
    }
    if let Some((id, container)) = parse_link(&name) {
        assert!(name.ends_with(&format!("_{container}-{id}.log")));
    }
    let _key = pod_of_log(Path::new(OsStr::from_bytes(bytes)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_name_of_the_kubelet_is_parsed(
            namespace in "[a-z0-9-]{1,63}",
            pod in "[a-z0-9.-]{1,80}",
            key in "[0-9a-f-]{1,36}",
            container in "[a-z0-9-]{1,63}",
            id in "[0-9a-f]{64}",
        ) {
            let directory = format!("{namespace}_{pod}_{key}");
            let name = PodName { namespace: namespace.clone(), name: pod.clone() };
            prop_assert_eq!(parse_directory(&directory), Some((&*key, name)));
            let log = PathBuf::from(format!("/var/log/pods/{directory}/{container}/0.log"));
            prop_assert_eq!(pod_of_log(&log), Some(key));
            let link = format!("{pod}_{namespace}_{container}-{id}.log");
            prop_assert_eq!(parse_link(&link), Some((&*id, &*container)));
        }
    }

    const UID: &str = "2fc932ce-fdcc-454b-97bd-aadfdeb4c340";
    const HASH: &str = "36b6d6be73b1065af369b3985edafa09";
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn directories_have_pod_names() {
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
            assert_eq!(parse_directory(&directory), expected, "{directory}");
        }
    }

    #[test]
    fn links_have_container_names() {
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
            assert_eq!(parse_link(link), *expected, "{link}");
        }
    }

    #[test]
    fn log_paths_have_pod_keys() {
        let pod = |path: &str| pod_of_log(Path::new(path));
        assert_eq!(pod(&format!("/var/log/pods/shop_cart_{UID}/web/0.log")), Some(UID.to_owned()));
        assert_eq!(pod(&format!("../pods/shop_cart_{HASH}/web/0.log")), Some(HASH.to_owned()));
        for path in ["", "/", "0.log", "/var/lib/docker/containers/abc/abc-json.log"] {
            assert_eq!(pod(path), None, "{path}");
        }
    }
}
