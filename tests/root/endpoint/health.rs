//! `healthy` against a running exporter, by the flags and variables that the exporter has.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use tempfile::TempDir;

use super::served::{config, folder};
use super::{Exporter, replace};

/// Runs `healthy` without an environment. Returns its exit code and the line that it prints.
fn healthy(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    command.env_clear().envs(variables.iter().copied()).arg("healthy").args(arguments);
    let output = command.output().expect("it starts");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).expect("text");
    assert_eq!(text.lines().count(), 1, "{text}");
    (output.status.code().expect("it exits"), text.trim_end().to_owned())
}

fn is_healthy() -> (i32, String) {
    (0, "healthy".to_owned())
}

pub(super) fn by_address() {
    let tcp = Exporter::with(&["--web.listen-address", "127.0.0.1:0", "--web.telemetry-path", "/scrape"]);
    let port = tcp.port();
    let variable = "BPF_METRICS_EXPORTER_WEB_LISTEN_ADDRESS";
    assert_eq!(healthy(&[], &[(variable, &format!(":{port}"))]), is_healthy());
    assert_eq!(healthy(&["--web.listen-address", &format!("0.0.0.0:{port}")], &[]), is_healthy());
    assert_eq!(
        healthy(&["--url", &format!("http://localhost:{port}/")], &[(variable, "none")]),
        is_healthy()
    );
    let (code, text) = healthy(&["--url", &format!("http://localhost:{port}/prefix")], &[]);
    assert!(code == 1 && text.contains("status 404: there is nothing here"), "{text}");
    drop(tcp);
    let (code, text) = healthy(&["--web.listen-address", &format!("127.0.0.1:{port}")], &[]);
    assert!(code == 1 && text.contains("unhealthy: ") && text.contains("refused"), "{text}");

    let folder = TempDir::new().expect("a folder");
    let socket = format!("unix:{}", folder.path().join("metrics.sock").to_str().expect("UTF-8"));
    let (code, text) = healthy(&["--web.listen-address", &socket], &[]);
    assert!(code == 1 && text.contains("No such file"), "{text}");
    let unix = Exporter::with(&["--web.listen-address", &socket]);
    unix.says("serving Prometheus metrics on unix:");
    assert_eq!(healthy(&["--web.listen-address", &socket], &[]), is_healthy());
    assert_eq!(healthy(&["--url", &socket], &[]), is_healthy());
}

pub(super) fn with_tls_and_passwords() {
    let folder = folder();
    let file = folder.path().join("web.yml");
    let path = file.to_str().expect("UTF-8");
    replace(&file, "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n");
    let serve = || Exporter::with(&["--web.listen-address", "127.0.0.1:0", "--web.config.file", path]);
    let encrypted = serve();
    let port = encrypted.port();
    let address = format!("127.0.0.1:{port}");
    let own = ["--web.listen-address", &address, "--web.config.file", path];
    // The certificate is signed by itself, and for another name than the address.
    assert_eq!(healthy(&own, &[]), is_healthy());
    let authority = folder.path().join("server.crt");
    let trusted = [("SSL_CERT_FILE", authority.to_str().expect("UTF-8"))];
    let by_name = format!("https://localhost:{port}");
    assert_eq!(healthy(&["--url", &by_name], &trusted), is_healthy());
    let (code, text) = healthy(&["--url", &format!("https://{address}")], &trusted);
    assert!(code == 1 && text.contains("certificate"), "another exporter has to prove its name: {text}");
    drop(encrypted);
    let socket = format!("unix:{}", folder.path().join("metrics.sock").to_str().expect("UTF-8"));
    let on_socket = ["--web.listen-address", &socket, "--web.config.file", path];
    let encrypted = Exporter::with(&on_socket);
    encrypted.says("serving Prometheus metrics on unix:");
    assert_eq!(healthy(&on_socket, &[]), is_healthy());
    drop(encrypted);

    replace(&file, &config("secret"));
    let with_users = serve();
    let port = with_users.port();
    let (code, text) =
        healthy(&["--web.listen-address", &format!("127.0.0.1:{port}"), "--web.config.file", path], &[]);
    assert!(
        code == 0 && text.contains("readiness is unknown, since the endpoint demands a password"),
        "{text}"
    );
    let own = ["--live", "--web.listen-address", &format!("127.0.0.1:{port}"), "--web.config.file", path];
    assert_eq!(healthy(&own, &[]), (0, "alive".to_owned()), "a password decides nothing about that");
    let as_ann = |password| {
        let url = format!("https://ann:{password}@localhost:{port}");
        healthy(&[], &[("BPF_METRICS_EXPORTER_URL", &url), trusted[0]])
    };
    assert_eq!(as_ann("secret"), is_healthy());
    let (code, text) = as_ann("wrong");
    assert!(code == 1 && text.contains("status 401") && !text.contains("wrong@"), "{text}");
    let (code, text) = healthy(&["--url", &format!("https://localhost:{port}")], &trusted);
    assert!(code == 1 && text.contains("status 401"), "anything may demand a password: {text}");
    drop(with_users);

    let text = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  client_auth_type: RequireAnyClientCert\n";
    replace(&file, text);
    let with_clients = serve();
    let port = with_clients.port();
    let address = format!("127.0.0.1:{port}");
    let own = ["--web.listen-address", &address, "--web.config.file", path];
    let (code, text) = healthy(&own, &[]);
    assert!(code == 0 && text.contains("demands a client certificate"), "{text}");
    let (code, text) = healthy(&["--url", &format!("https://localhost:{port}")], &trusted);
    assert!(code == 1 && text.contains("demands a client certificate"), "{text}");
    drop(with_clients);
    let with_clients = Exporter::with(&on_socket);
    with_clients.says("serving Prometheus metrics on unix:");
    let (code, text) = healthy(&on_socket, &[]);
    assert!(code == 0 && text.contains("demands a client certificate"), "{text}");
    assert_eq!(healthy(&[&["--live"], &on_socket[..]].concat(), &[]), (0, "alive".to_owned()));
}

pub(super) fn with_another_file() {
    let folder = folder();
    let file = folder.path().join("web.yml");
    let path = file.to_str().expect("UTF-8");
    let encrypted = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";
    for served in [encrypted, ""] {
        replace(&file, served);
        let exporter = Exporter::with(&["--web.listen-address", "127.0.0.1:0", "--web.config.file", path]);
        let address = format!("127.0.0.1:{}", exporter.port());
        let own = ["--web.listen-address", &address, "--web.config.file", path];
        assert_eq!(healthy(&own, &[]), is_healthy(), "{served:?}");
        replace(&file, "tls_server_config: {");
        assert_eq!(healthy(&own, &[]), is_healthy(), "a file that is broken by now, {served:?}");
        fs::remove_file(&file).expect("it is there");
        assert_eq!(healthy(&own, &[]), is_healthy(), "no file, {served:?}");
        replace(&file, "");
        assert_eq!(healthy(&own, &[]), is_healthy(), "a file without TLS, {served:?}");
        drop(exporter);
        let (code, text) = healthy(&own, &[]);
        assert!(code == 1 && text.contains("https://") && text.contains("refused"), "{text}");
    }
}

pub(super) fn without_an_answer() {
    // It accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("it is bound").to_string();
    let (code, text) = healthy(&["--web.listen-address", &address, "--timeout", "200ms"], &[]);
    assert_eq!((code, &*text), (1, "bpf-metrics-exporter: unhealthy: no answer within 200ms"));
    let live = healthy(&["--live", "--web.listen-address", &address, "--timeout", "200ms"], &[]);
    assert_eq!(live, (code, text));
    let (code, text) = healthy(&["--web.listen-address", "none"], &[]);
    assert!(code == 1 && text.contains("nothing is served"), "{text}");
    let (code, text) = healthy(&[], &[("BPF_METRICS_EXPORTER_WEB_SYSTEMD_SOCKET", "true")]);
    assert!(code == 1 && text.contains("--url"), "{text}");
    let (code, text) = healthy(&["--url", "ftp://node-1"], &[]);
    assert!(code == 2 && text.contains("unknown scheme"), "{text}");
}
