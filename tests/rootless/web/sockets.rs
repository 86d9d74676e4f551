//! Unix sockets.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use bpf_metrics_exporter::web::Listener;
use test_support::golden::snapshot;

use super::source;

#[test]
fn a_unix_socket_serves_any_host_and_is_removed_at_the_end() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("metrics.sock");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let listener = Listener::unix(&path, 0o640).expect("the folder is ours");
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (server, _readings) = source(super::settings(), snapshot, super::Selected::all);
    let task = runtime.spawn(server.serve(listener, stopped));
    let mut stream = UnixStream::connect(&path).expect("it listens");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("bpf_program_info{"), "{answer}");
    stop.send_replace(true);
    runtime.block_on(task).expect("it does not panic").expect("it was task");
    assert!(!path.exists());
}
