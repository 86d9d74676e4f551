//! Paths of sockets.

use std::fs;
use std::os::unix::fs::symlink;

use bpf_metrics_exporter::lookup::{Settings, Sockets};

use super::fake::{Fake, http, one_container};
use super::{SIDECAR, WEB, only_docker};
use tempfile::TempDir;
use test_support::looking_up::LookingUp;

#[test]
fn well_known_sockets_may_appear_later_and_have_two_paths() {
    let root = TempDir::with_prefix("places-").expect("the test directory is writable");
    let settings =
        Settings { root: root.path().to_owned(), cri: Sockets::WellKnown, docker: Sockets::WellKnown };
    let looking_up = LookingUp::start(settings);
    assert_eq!(looking_up.names.container(WEB), None);
    looking_up.names.end_reading();
    fs::create_dir_all(root.path().join("run/podman")).expect("the test directory is writable");
    fs::create_dir(root.path().join("var")).expect("the test directory is writable");
    symlink("../run", root.path().join("var/run")).expect("the test directory is writable");
    // Not a socket, so it is skipped.
    fs::create_dir(root.path().join("run/crio")).expect("the test directory is writable");
    fs::write(root.path().join("run/crio/crio.sock"), "").expect("the test directory is writable");
    let docker = Fake::http(&root.path().join("run/docker.sock"), one_container);
    assert_eq!(looking_up.container(WEB).name.as_deref(), Some("web"));
    // For an unknown id it is queried as often as the next runtime, not once per path.
    let podman = Fake::http(&root.path().join("run/podman/podman.sock"), one_container);
    let before = docker.requests().len();
    let others = looking_up.until("the next runtime is queried", || {
        assert_eq!(looking_up.names.container(SIDECAR), None);
        Some(podman.requests().len()).filter(|requests| *requests >= 3)
    });
    let requests = docker.requests().len() - before;
    assert!((others..=others + 1).contains(&requests), "{requests}, and {others} to the next runtime");
    assert_eq!(looking_up.log(), "", "a missing well-known socket is not an error");
}

#[test]
fn a_missing_configured_socket_is_an_error() {
    let root = TempDir::with_prefix("places-").expect("the test directory is writable");
    let socket = root.path().join("docker.sock");
    let looking_up = LookingUp::start(only_docker(root.path(), &socket));
    looking_up.until("the query fails", || {
        let _missing = looking_up.names.container(WEB);
        (looking_up.said("WARN") > 0).then_some(())
    });
    assert!(looking_up.log().contains("docker.sock") && looking_up.log().contains("No such file"));
    let _docker = Fake::http(&socket, one_container);
    assert_eq!(looking_up.container(WEB).name.as_deref(), Some("web"));
    assert_eq!((looking_up.said("WARN"), looking_up.said("INFO")), (1, 1), "{}", looking_up.log());
}

#[test]
fn a_well_known_socket_that_failed_may_vanish() {
    let root = TempDir::with_prefix("places-").expect("the test directory is writable");
    fs::create_dir(root.path().join("run")).expect("the test directory is writable");
    let socket = root.path().join("run/docker.sock");
    let settings =
        Settings { root: root.path().to_owned(), cri: Sockets::WellKnown, docker: Sockets::WellKnown };
    let failing = Fake::http(&socket, |_| http(500, ""));
    let looking_up = LookingUp::start(settings);
    looking_up.until("the query fails", || {
        let _missing = looking_up.names.container(WEB);
        (looking_up.said("WARN") > 0).then_some(())
    });
    drop(failing);
    fs::remove_file(&socket).expect("it is our own");
    let podman = root.path().join("run/podman");
    fs::create_dir(&podman).expect("the test directory is writable");
    let other = Fake::http(&podman.join("podman.sock"), |_| http(200, "[]"));
    looking_up.until("the other runtime is queried", || {
        let _missing = looking_up.names.container(WEB);
        other.requests().first().cloned()
    });
    let _docker = Fake::http(&socket, one_container);
    assert_eq!(looking_up.container(WEB).name.as_deref(), Some("web"));
    assert_eq!((looking_up.said("WARN"), looking_up.said("INFO")), (1, 1), "{}", looking_up.log());
}
