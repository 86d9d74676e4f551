//! Paths of sockets.

use std::fs;
use std::os::unix::fs::symlink;

use bpf_metrics_exporter::lookup::{Settings, Sockets};

use super::fake::{Fake, http, one_container};
use super::{SIDECAR, WEB, only_docker};
use tempfile::TempDir;
use test_support::background_lookup::BackgroundLookup;

#[test]
fn well_known_sockets_may_appear_later_and_have_two_paths() {
    let root = TempDir::with_prefix("places-").expect("the test directory is writable");
    let settings =
        Settings { root: root.path().to_owned(), cri: Sockets::WellKnown, docker: Sockets::WellKnown };
    let lookup = BackgroundLookup::start(settings);
    assert_eq!(lookup.names.container(WEB), None);
    lookup.names.end_reading();
    fs::create_dir_all(root.path().join("run/podman")).expect("the test directory is writable");
    fs::create_dir(root.path().join("var")).expect("the test directory is writable");
    symlink("../run", root.path().join("var/run")).expect("the test directory is writable");
    // Not a socket, so it is skipped.
    fs::create_dir(root.path().join("run/crio")).expect("the test directory is writable");
    fs::write(root.path().join("run/crio/crio.sock"), "").expect("the test directory is writable");
    let docker = Fake::http(&root.path().join("run/docker.sock"), one_container);
    assert_eq!(lookup.container(WEB).name.as_deref(), Some("web"));
    // For an unknown id it is queried as often as the next runtime, not once per path.
    let podman = Fake::http(&root.path().join("run/podman/podman.sock"), one_container);
    let before = docker.docker_queries();
    let others = lookup.until("the next runtime is queried", || {
        assert_eq!(lookup.names.container(SIDECAR), None);
        Some(podman.docker_queries()).filter(|requests| *requests >= 3)
    });
    let requests = docker.docker_queries() - before;
    assert!((others..=others + 1).contains(&requests), "{requests}, and {others} to the next runtime");
    assert_eq!(lookup.log(), "", "a missing well-known socket is not an error");
}

#[test]
fn a_missing_configured_socket_is_an_error() {
    let root = TempDir::with_prefix("places-").expect("the test directory is writable");
    let socket = root.path().join("docker.sock");
    let lookup = BackgroundLookup::start(only_docker(root.path(), &socket));
    lookup.until("the query fails", || {
        let _missing = lookup.names.container(WEB);
        (lookup.count_logged("WARN") > 0).then_some(())
    });
    assert!(lookup.log().contains("docker.sock") && lookup.log().contains("No such file"));
    let _docker = Fake::http(&socket, one_container);
    assert_eq!(lookup.container(WEB).name.as_deref(), Some("web"));
    assert_eq!((lookup.count_logged("WARN"), lookup.count_logged("INFO")), (1, 1), "{}", lookup.log());
}

#[test]
fn a_well_known_socket_that_failed_may_vanish() {
    let root = TempDir::with_prefix("places-").expect("the test directory is writable");
    fs::create_dir(root.path().join("run")).expect("the test directory is writable");
    let socket = root.path().join("run/docker.sock");
    let settings =
        Settings { root: root.path().to_owned(), cri: Sockets::WellKnown, docker: Sockets::WellKnown };
    let failing = Fake::http(&socket, |_| http(500, ""));
    let lookup = BackgroundLookup::start(settings);
    lookup.until("the query fails", || {
        let _missing = lookup.names.container(WEB);
        (lookup.count_logged("WARN") > 0).then_some(())
    });
    drop(failing);
    fs::remove_file(&socket).expect("it is our own");
    let podman = root.path().join("run/podman");
    fs::create_dir(&podman).expect("the test directory is writable");
    let other = Fake::http(&podman.join("podman.sock"), |_| http(200, "[]"));
    lookup.until("the other runtime is queried", || {
        let _missing = lookup.names.container(WEB);
        other.requests().first().cloned()
    });
    let _docker = Fake::http(&socket, one_container);
    assert_eq!(lookup.container(WEB).name.as_deref(), Some("web"));
    assert_eq!((lookup.count_logged("WARN"), lookup.count_logged("INFO")), (1, 1), "{}", lookup.log());
}
