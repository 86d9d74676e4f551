//! Names from the paths of log files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use bpf_metrics_exporter::enrich::names::{ContainerName, PodName};

use super::{CART, ETCD, SANDBOX, STATIC, WEB, no_runtime};
use tempfile::TempDir;
use test_support::background_lookup::BackgroundLookup;

/// Makes the log directories and the link that a kubelet makes for a container.
fn container(root: &Path, pod: &str, namespace: &str, key: &str, container: &str, id: &str) {
    let log = format!("/var/log/pods/{namespace}_{pod}_{key}/{container}/0.log");
    fs::create_dir_all(root.join(&log[1..]).parent().expect("it has one"))
        .expect("the test directory is writable");
    let links = root.join("var/log/containers");
    fs::create_dir_all(&links).expect("the test directory is writable");
    symlink(log, links.join(format!("{pod}_{namespace}_{container}-{id}.log")))
        .expect("the test directory is writable");
}

#[test]
fn pods_and_containers_are_named_by_log_paths() {
    let root = TempDir::with_prefix("logs-").expect("the test directory is writable");
    container(root.path(), "cart-7c5d", "shop", CART, "web-1", WEB);
    container(root.path(), "etcd-node", "kube-system", STATIC, "etcd", ETCD);
    fs::create_dir(root.path().join("var/log/pods/lost+found")).expect("the test directory is writable");
    let lookup = BackgroundLookup::start(no_runtime(root.path()));
    let pod = PodName { namespace: "shop".into(), name: "cart-7c5d".into() };
    assert_eq!(lookup.pod(CART), pod);
    let pod = PodName { namespace: "kube-system".into(), name: "etcd-node".into() };
    assert_eq!(lookup.pod(STATIC), pod);
    let name = |name: &str, pod: &str| ContainerName { name: Some(name.into()), pod: Some(pod.into()) };
    assert_eq!(lookup.container(WEB), name("web-1", CART));
    assert_eq!(lookup.container(ETCD), name("etcd", STATIC));
    assert_eq!(lookup.names.container(SANDBOX), None, "a sandbox has no log");
    assert_eq!(lookup.log(), "");
}

#[test]
fn logs_that_appear_later_are_found() {
    let root = TempDir::with_prefix("logs-").expect("the test directory is writable");
    let lookup = BackgroundLookup::start(no_runtime(root.path()));
    // No source has it, and no reading queries a new id that would start another round.
    assert_eq!(lookup.names.pod(CART), None);
    lookup.names.end_reading();
    container(root.path(), "cart", "shop", CART, "web", WEB);
    assert_eq!(lookup.pod(CART).name, "cart");
    assert_eq!(lookup.log(), "", "missing log directories are not an error");
}

#[test]
fn an_unreadable_directory_is_logged_once() {
    let root = TempDir::with_prefix("logs-").expect("the test directory is writable");
    fs::create_dir_all(root.path().join("var/log")).expect("the test directory is writable");
    // A link to itself cannot be followed, not even by root.
    let pods = root.path().join("var/log/pods");
    symlink(&pods, &pods).expect("the test directory is writable");
    let lookup = BackgroundLookup::start(no_runtime(root.path()));
    lookup.until("the query fails", || {
        let _missing = lookup.names.pod(CART);
        (lookup.count_logged("WARN") > 0).then_some(())
    });
    fs::remove_file(&pods).expect("it is our own");
    container(root.path(), "cart", "shop", CART, "web", WEB);
    assert_eq!(lookup.pod(CART).name, "cart");
    assert_eq!((lookup.count_logged("WARN"), lookup.count_logged("INFO")), (1, 1), "{}", lookup.log());
}
