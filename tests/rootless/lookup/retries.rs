//! How often sources are queried, and what a source that does not respond means for the others.

use std::time::{Duration, Instant};

use bpf_metrics_exporter::lookup::{Settings, Sockets};
use tonic::Code;

use super::fake::{Fake, http, no_response, one_container, status};
use super::{WEB, no_runtime, only_cri, only_docker, unknown};
use tempfile::TempDir;
use test_support::background_lookup::BackgroundLookup;

/// Takes readings for a while, each of which queries a new container. Returns their number.
fn query_new_ids(lookup: &BackgroundLookup, duration: Duration) -> u32 {
    let (start, mut readings) = (Instant::now(), 0);
    lookup.until("the time is over", || {
        readings += 1;
        let _missing = lookup.names.container(&unknown(readings));
        (start.elapsed() >= duration).then_some(())
    });
    readings
}

#[test]
fn a_failed_source_is_not_queried_for_new_ids() {
    let directory = TempDir::with_prefix("pace-").expect("the test directory is writable");
    let runtime = Fake::grpc(&directory.path().join("cri.sock"), |_| status(Code::Internal));
    let lookup = BackgroundLookup::start(only_cri(directory.path(), &runtime.socket));
    let readings = query_new_ids(&lookup, Duration::from_secs(2));
    let queries = runtime.requests().len();
    // The first delay is at least half a second, the second at least one: three queries in two seconds.
    assert!((1..=3).contains(&queries) && readings > 30, "{queries} requests in {readings} readings");
    assert_eq!(lookup.count_logged("WARN"), 1);
}

#[test]
fn unknown_ids_are_queried_with_backoff() {
    let directory = TempDir::with_prefix("pace-").expect("the test directory is writable");
    let docker = Fake::http(&directory.path().join("docker.sock"), |_| http(200, "[]"));
    let lookup = BackgroundLookup::start(only_docker(directory.path(), &docker.socket));
    let (start, mut readings) = (Instant::now(), 0);
    lookup.until("the time is over", || {
        readings += 1;
        let _missing = lookup.names.container(WEB);
        (start.elapsed() >= Duration::from_secs(2)).then_some(())
    });
    let queries = docker.docker_queries();
    assert!((2..=4).contains(&queries) && readings > 30, "{queries} requests in {readings} readings");
    docker.respond(one_container);
    assert_eq!(lookup.container(WEB).name.as_deref(), Some("web"));
    let queries = docker.requests().len();
    query_known_ids(&lookup);
    assert_eq!(docker.requests().len(), queries, "no name is missing");
    assert_eq!(lookup.log(), "");
}

/// Takes readings that query a cached name.
fn query_known_ids(lookup: &BackgroundLookup) {
    for _ in 0..100 {
        assert!(lookup.names.container(WEB).is_some());
        lookup.names.end_reading();
    }
}

#[test]
fn a_source_that_does_not_respond_does_not_block_others() {
    let directory = TempDir::with_prefix("pace-").expect("the test directory is writable");
    let stuck = Fake::grpc(&directory.path().join("cri.sock"), |_| no_response());
    let docker = Fake::http(&directory.path().join("docker.sock"), one_container);
    let settings = Settings {
        cri: Sockets::Given(vec![stuck.socket.clone()]),
        docker: Sockets::Given(vec![docker.socket.clone()]),
        ..no_runtime(directory.path())
    };
    let lookup = BackgroundLookup::start(settings);
    assert_eq!(lookup.container(WEB).name.as_deref(), Some("web"));
    assert!(lookup.log().contains("within 5s"), "{}", lookup.log());
    assert_eq!(stuck.requests().len(), 1);
}

#[test]
fn lookups_stop_at_once_even_during_a_query() {
    let directory = TempDir::with_prefix("pace-").expect("the test directory is writable");
    let stuck = Fake::grpc(&directory.path().join("cri.sock"), |_| no_response());
    let lookup = BackgroundLookup::start(only_cri(directory.path(), &stuck.socket));
    lookup.until("the runtime is queried", || {
        let _missing = lookup.names.container(WEB);
        (!stuck.requests().is_empty()).then_some(())
    });
    let start = Instant::now();
    drop(lookup);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}
