//! What is served on which socket, as curl reads it.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::Command;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::{Exporter, curl, replace};

/// A folder with a certificate for `localhost` and its key.
pub(super) fn folder() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    fs::write(folder.path().join("server.crt"), certificate).expect("the folder is ours");
    fs::write(folder.path().join("server.key"), key.serialize_pem()).expect("the folder is ours");
    folder
}

pub(super) fn config(password: &str) -> String {
    let hash = bcrypt::hash(password, 4).expect("a hash");
    format!(
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\nbasic_auth_users:\n  ann: {hash}\n"
    )
}

pub(super) fn by_curl() {
    let folder = folder();
    let file = folder.path().join("web.yml");
    replace(&file, &config("secret"));
    let file = file.to_str().expect("UTF-8");
    let exporter = Exporter::with(&["--web.listen-address", "127.0.0.1:0", "--web.config.file", file]);
    let port = exporter.port();
    let url = format!("https://localhost:{port}/metrics");
    let resolve = format!("localhost:{port}:127.0.0.1");
    let authority = folder.path().join("server.crt");
    let tls = ["--cacert", authority.to_str().expect("UTF-8"), "--resolve", &resolve];
    let read = |more: &[&str]| curl(&[&tls[..], &["-f"], more, &[&url]].concat());
    let ann = ["-u", "ann:secret"];
    let text = String::from_utf8(read(&ann).expect("the password is right")).expect("text");
    assert!(text.contains("bpf_exporter_build_info"), "{text}");
    for refused in [&[][..], &["-u", "ann:wrong"], &["-u", "bob:secret"]] {
        assert!(read(refused).expect_err("the password is wrong").contains("401"), "{refused:?}");
    }
    let version =
        read(&[&ann[..], &["-o", "/dev/null", "-w", "%{http_version}"]].concat()).expect("it answers");
    assert!(["2", "1.1"].contains(&&*String::from_utf8_lossy(&version)), "{version:?}");
    let first = read(
        &[&ann[..], &["--http1.1", "--compressed", "-H", "Accept: application/openmetrics-text"]].concat(),
    );
    assert!(first.expect("it answers").ends_with(b"# EOF\n"));
    let protobuf =
        "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let protobuf = read(&[&ann[..], &["-H", protobuf]].concat()).expect("it answers");
    assert!(!protobuf.starts_with(b"#") && protobuf.windows(16).any(|bytes| bytes == b"bpf_program_info"));
    let plain = curl(&["-f", &format!("http://localhost:{port}/metrics")]);
    plain.expect_err("only TLS is served");
    let elsewhere =
        curl(&[&tls[..], &ann, &["-w", "%{http_code}", "-H", "Host: rebound.example", &url]].concat());
    assert!(String::from_utf8_lossy(&elsewhere.expect("it answers")).ends_with("421"));
}

pub(super) fn reloaded() {
    let folder = folder();
    let file = folder.path().join("web.yml");
    replace(&file, &config("first"));
    let path = file.to_str().expect("UTF-8");
    let exporter = Exporter::with(&["--web.listen-address", "127.0.0.1:0", "--web.config.file", path]);
    let url = format!("https://127.0.0.1:{}/-/healthy", exporter.port());
    let accepts = |password: &str| curl(&["-k", "-f", "-u", &format!("ann:{password}"), &url]).is_ok();
    assert!(accepts("first") && !accepts("second"));
    // With every layer of the sandbox: the new file is another inode.
    replace(&file, &config("second"));
    assert!(accepts("second") && !accepts("first"));
    replace(&file, "basic_auth_users: {}\n");
    exporter.signal(Signal::SIGHUP);
    exporter.says("the configuration before is used");
    assert!(accepts("second") && !accepts("first"), "nothing is opened by a mistake");
    replace(&file, &config("third"));
    exporter.signal(Signal::SIGHUP);
    exporter.says("was read again");
    assert!(accepts("third"));
}

pub(super) fn on_a_unix_socket() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("metrics.sock");
    let text = path.to_str().expect("UTF-8");
    let address = format!("unix:{text}");
    let mut exporter = Exporter::with(&["--web.listen-address", &address, "--web.socket-mode", "0640"]);
    exporter.says("serving Prometheus metrics on unix:");
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o640);
    let read = curl(&["-f", "--unix-socket", text, "http://any.name/metrics"]).expect("it serves");
    assert!(String::from_utf8_lossy(&read).contains("bpf_exporter_build_info"));
    let mut second = Exporter::with(&["--web.listen-address", &address]);
    second.says("is another instance running?");
    assert_eq!(second.child.wait().expect("it ends").code(), Some(1));
    assert!(exporter.stop().success());
    assert!(!path.exists(), "it is removed at the end");
}

pub(super) fn on_sockets_of_systemd() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("passed.sock");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let unix = UnixListener::bind(&path).expect("the folder is ours");
    let address = tcp.local_addr().expect("it is bound");
    // Copies without close on exec, with numbers that the shell does not use.
    let copy = |socket: std::os::fd::BorrowedFd<'_>| {
        fcntl(socket, FcntlArg::F_DUPFD(20)).expect("there is a number")
    };
    let (first, second) = (copy(tcp.as_fd()), copy(unix.as_fd()));
    // A shell puts them where systemd does, and its own pid, which exec keeps, into the variable.
    let script = format!(
        "exec 3<&{first} 4<&{second} {first}<&- {second}<&-; export LISTEN_PID=$$ LISTEN_FDS=2; exec \"$@\""
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script, "bash", env!("CARGO_BIN_EXE_bpf-metrics-exporter")]);
    let mut exporter = Exporter::start(command.args(["--otlp-grpc", "none", "--web.systemd-socket"]));
    for copy in [first, second] {
        nix::unistd::close(copy).expect("it is open");
    }
    let line = exporter.says("serving Prometheus metrics on ");
    assert!(line.contains(&address.to_string()) && line.contains("unix:"), "{line}");
    curl(&["-f", &format!("http://{address}/-/ready")]).expect("it serves");
    let path = path.to_str().expect("UTF-8");
    curl(&["-f", "--unix-socket", path, "http://localhost/-/ready"]).expect("it serves");
    assert!(exporter.stop().success());
    assert!(fs::exists(path).expect("the folder is ours"), "it is systemd's to remove");

    let mut without = Exporter::with(&["--web.systemd-socket"]);
    without.says("no socket was passed");
    assert_eq!(without.child.wait().expect("it ends").code(), Some(1));
}

pub(super) fn openness_is_logged() {
    let open = Exporter::with(&["--web.listen-address", "127.0.0.1:0"]);
    let line = open.says("every user of this host can read");
    assert!(line.contains("unix:/") && line.contains("--web.config.file"), "{line}");
    let folder = folder();
    let file = folder.path().join("web.yml");
    replace(&file, &config("secret"));
    let file = file.to_str().expect("UTF-8");
    let closed = Exporter::with(&["--web.listen-address", "127.0.0.1:0", "--web.config.file", file]);
    let port = closed.port();
    curl(&["-k", "-f", "-u", "ann:secret", &format!("https://127.0.0.1:{port}/-/ready")]).expect("it serves");
    let said: Vec<String> = closed.log.try_iter().collect();
    assert!(!said.iter().any(|line| line.contains("every user of this host")), "{said:#?}");
}
