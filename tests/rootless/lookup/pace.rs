//! How often somebody is asked, and what becomes of the others when one does not answer.

use std::time::{Duration, Instant};

use bpf_metrics_exporter::lookup::{Settings, Sockets};
use tonic::Code;

use super::fake::{Fake, http, one_container, silence, status};
use super::{WEB, no_runtime, only_cri, only_docker, unknown};
use tempfile::TempDir;
use test_support::looking_up::LookingUp;

/// Readings, each of which asks for a container that no other asked for, for a while. Says how many.
fn ask_for_new_ones(looking_up: &LookingUp, lasting: Duration) -> u32 {
    let (start, mut readings) = (Instant::now(), 0);
    looking_up.until("it is over", || {
        readings += 1;
        let _asked_for = looking_up.names.container(&unknown(readings));
        (start.elapsed() >= lasting).then_some(())
    });
    readings
}

#[test]
fn one_that_failed_is_left_alone_however_much_is_asked_for() {
    let directory = TempDir::with_prefix("pace-").expect("there is room");
    let runtime = Fake::grpc(&directory.path().join("cri.sock"), |_| status(Code::Internal));
    let looking_up = LookingUp::start(only_cri(directory.path(), &runtime.socket));
    let readings = ask_for_new_ones(&looking_up, Duration::from_secs(2));
    let asked = runtime.requests().len();
    // After half a second at the earliest, and after that one more: three times in two seconds.
    assert!((1..=3).contains(&asked) && readings > 30, "{asked} requests in {readings} readings");
    assert_eq!(looking_up.said("WARN"), 1);
}

#[test]
fn what_nobody_knows_is_asked_for_ever_less_often() {
    let directory = TempDir::with_prefix("pace-").expect("there is room");
    let docker = Fake::http(&directory.path().join("docker.sock"), |_| http(200, "[]"));
    let looking_up = LookingUp::start(only_docker(directory.path(), &docker.socket));
    let (start, mut readings) = (Instant::now(), 0);
    looking_up.until("it is over", || {
        readings += 1;
        let _asked_for = looking_up.names.container(WEB);
        (start.elapsed() >= Duration::from_secs(2)).then_some(())
    });
    let asked = docker.requests().len();
    assert!((2..=4).contains(&asked) && readings > 30, "{asked} requests in {readings} readings");
    docker.answer(one_container);
    assert_eq!(looking_up.container(WEB).name.as_deref(), Some("web"));
    let asked = docker.requests().len();
    ask_for_nothing_new(&looking_up);
    assert_eq!(docker.requests().len(), asked, "nothing is missing");
    assert_eq!(looking_up.log(), "");
}

/// Readings that ask for what is known already.
fn ask_for_nothing_new(looking_up: &LookingUp) {
    for _ in 0..100 {
        assert!(looking_up.names.container(WEB).is_some());
        looking_up.names.end_reading();
    }
}

#[test]
fn one_that_does_not_answer_keeps_nobody_else_from_answering() {
    let directory = TempDir::with_prefix("pace-").expect("there is room");
    let silent = Fake::grpc(&directory.path().join("cri.sock"), |_| silence());
    let docker = Fake::http(&directory.path().join("docker.sock"), one_container);
    let settings = Settings {
        cri: Sockets::Given(vec![silent.socket.clone()]),
        docker: Sockets::Given(vec![docker.socket.clone()]),
        ..no_runtime(directory.path())
    };
    let looking_up = LookingUp::start(settings);
    assert_eq!(looking_up.container(WEB).name.as_deref(), Some("web"));
    assert!(looking_up.log().contains("within 5s"), "{}", looking_up.log());
    assert_eq!(silent.requests().len(), 1);
}

#[test]
fn it_ends_at_once_when_it_is_told_to_even_while_somebody_does_not_answer() {
    let directory = TempDir::with_prefix("pace-").expect("there is room");
    let silent = Fake::grpc(&directory.path().join("cri.sock"), |_| silence());
    let looking_up = LookingUp::start(only_cri(directory.path(), &silent.socket));
    looking_up.until("somebody is asked", || {
        let _asked_for = looking_up.names.container(WEB);
        (!silent.requests().is_empty()).then_some(())
    });
    let start = Instant::now();
    drop(looking_up);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}
