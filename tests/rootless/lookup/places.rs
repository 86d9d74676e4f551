//! Where those who are asked are looked for.

use std::fs;
use std::os::unix::fs::symlink;

use bpf_metrics_exporter::lookup::{Settings, Sockets};

use super::fake::{Fake, http, one_container};
use super::{SIDECAR, WEB, only_docker};
use tempfile::TempDir;
use test_support::looking_up::LookingUp;

#[test]
fn well_known_sockets_that_come_late_and_have_two_names() {
    let root = TempDir::with_prefix("places-").expect("there is room");
    let settings =
        Settings { root: root.path().to_owned(), cri: Sockets::WellKnown, docker: Sockets::WellKnown };
    let looking_up = LookingUp::start(settings);
    assert_eq!(looking_up.names.container(WEB), None);
    looking_up.names.end_reading();
    fs::create_dir_all(root.path().join("run/podman")).expect("there is room");
    fs::create_dir(root.path().join("var")).expect("there is room");
    symlink("../run", root.path().join("var/run")).expect("there is room");
    // What is no socket is not asked.
    fs::create_dir(root.path().join("run/crio")).expect("there is room");
    fs::write(root.path().join("run/crio/crio.sock"), "").expect("there is room");
    let docker = Fake::http(&root.path().join("run/docker.sock"), one_container);
    assert_eq!(looking_up.container(WEB).name.as_deref(), Some("web"));
    // For one that it does not know it is asked as often as the next one is, and not for each of its names.
    let podman = Fake::http(&root.path().join("run/podman/podman.sock"), one_container);
    let before = docker.requests().len();
    let others = looking_up.until("the next one is asked", || {
        assert_eq!(looking_up.names.container(SIDECAR), None);
        Some(podman.requests().len()).filter(|requests| *requests >= 3)
    });
    let requests = docker.requests().len() - before;
    assert!((others..=others + 1).contains(&requests), "{requests}, and {others} of the next one");
    assert_eq!(looking_up.log(), "", "what is well-known need not be there");
}

#[test]
fn a_socket_that_the_user_names_should_be_there() {
    let root = TempDir::with_prefix("places-").expect("there is room");
    let socket = root.path().join("docker.sock");
    let looking_up = LookingUp::start(only_docker(root.path(), &socket));
    looking_up.until("it fails", || {
        let _asked_for = looking_up.names.container(WEB);
        (looking_up.said("WARN") > 0).then_some(())
    });
    assert!(looking_up.log().contains("docker.sock") && looking_up.log().contains("No such file"));
    let _docker = Fake::http(&socket, one_container);
    assert_eq!(looking_up.container(WEB).name.as_deref(), Some("web"));
    assert_eq!((looking_up.said("WARN"), looking_up.said("INFO")), (1, 1), "{}", looking_up.log());
}

#[test]
fn a_well_known_one_that_failed_and_went_away() {
    let root = TempDir::with_prefix("places-").expect("there is room");
    fs::create_dir(root.path().join("run")).expect("there is room");
    let socket = root.path().join("run/docker.sock");
    let settings =
        Settings { root: root.path().to_owned(), cri: Sockets::WellKnown, docker: Sockets::WellKnown };
    let failing = Fake::http(&socket, |_| http(500, ""));
    let looking_up = LookingUp::start(settings);
    looking_up.until("it fails", || {
        let _asked_for = looking_up.names.container(WEB);
        (looking_up.said("WARN") > 0).then_some(())
    });
    drop(failing);
    fs::remove_file(&socket).expect("it is ours");
    let podman = root.path().join("run/podman");
    fs::create_dir(&podman).expect("there is room");
    let other = Fake::http(&podman.join("podman.sock"), |_| http(200, "[]"));
    looking_up.until("the other is asked", || {
        let _asked_for = looking_up.names.container(WEB);
        other.requests().first().cloned()
    });
    let _docker = Fake::http(&socket, one_container);
    assert_eq!(looking_up.container(WEB).name.as_deref(), Some("web"));
    assert_eq!((looking_up.said("WARN"), looking_up.said("INFO")), (1, 1), "{}", looking_up.log());
}
