//! Where events are pushed as logs, by flags and variables.

use super::*;
use crate::export::otlp::settings::TlsFiles;

/// The receivers of logs.
fn logs_with(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<Destination> {
    export_with(arguments, variables).push.map_or_else(Vec::new, |push| push.logs)
}

fn urls(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    logs_with(arguments, variables).iter().map(|destination| destination.endpoint.url()).collect()
}

/// The only receiver of logs.
fn log_destination(arguments: &[&str], variables: &[(&str, &str)]) -> Destination {
    let [destination] = &logs_with(arguments, variables)[..] else { panic!("one receiver of logs") };
    destination.clone()
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const OF_LOGS: &str = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT";
const OF_METRICS: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
const HTTP: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");

#[test]
fn the_receivers_of_metrics_take_logs_at_the_path_beside() {
    assert_eq!(urls(&[], &[]), ["http://localhost:4317"]);
    assert!(!log_destination(&[], &[]).configured);
    assert_eq!(urls(&[], &[HTTP]), ["http://localhost:4318/v1/logs"]);
    let flags = ["--otlp-grpc=a", "--otlp-http=http://b", "--otlp-http=https://c/otlp/v1/metrics"];
    assert_eq!(urls(&flags, &[]), ["http://a:4317", "http://b:4318/v1/logs", "https://c:443/otlp/v1/logs"]);
    assert!(logs_with(&flags, &[]).iter().all(|destination| destination.configured));
    assert_eq!(urls(&["--otlp-http=http://b/ingest"], &[]), [""; 0], "where it takes logs is not known");
    assert_eq!(urls(&[], &[(ENDPOINT, "http://a")]), ["http://a:4317"]);
    assert_eq!(urls(&[], &[HTTP, (ENDPOINT, "http://a/base/")]), ["http://a:80/base/v1/logs"]);
}

#[test]
fn a_receiver_of_metrics_only_gets_no_logs() {
    assert_eq!(urls(&[], &[(OF_METRICS, "http://a")]), [""; 0]);
    assert_eq!(urls(&[], &[(OF_METRICS, "http://a"), (ENDPOINT, "http://b")]), ["http://b:4317"]);
    let by_specification = [(OF_METRICS, "http://a"), ("OTEL_LOGS_EXPORTER", "otlp")];
    assert_eq!(urls(&[], &by_specification), ["http://localhost:4317"]);
}

#[test]
fn a_receiver_of_logs_wins_and_leaves_metrics_where_they_are() {
    for (arguments, variables, metrics) in [
        (&[][..], &[][..], "http://localhost:4317"),
        (&[], &[(ENDPOINT, "http://b")], "http://b:4317"),
        (&["--otlp-grpc=c"], &[], "http://c:4317"),
    ] {
        let variables = [variables, &[(OF_LOGS, "http://a:1")]].concat();
        assert_eq!(urls(arguments, &variables), ["http://a:1"]);
        assert_eq!(receivers(arguments, &variables), [metrics]);
        assert_eq!(warnings(arguments, &variables), [""; 0]);
        assert!(log_destination(arguments, &variables).configured);
    }
    let http = ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/protobuf");
    let destination = log_destination(&[], &[(OF_LOGS, "http://a/insert"), http]);
    assert_eq!(destination.endpoint.url(), "http://a:80/insert", "it is used as it is");
    assert_eq!(destination.protocol, Protocol::HttpProtobuf);
    let socket = log_destination(&[], &[(OF_LOGS, "unix:/s"), http]);
    assert_eq!(socket.endpoint, Endpoint::Unix { socket: "/s".into(), path: "/v1/logs".to_owned() });
    let lines = errors(&[], &[(OF_LOGS, "ftp://a")]);
    assert!(lines.len() == 1 && lines[0].starts_with(&format!("{OF_LOGS}: ")), "{lines:?}");
}

#[test]
fn logs_alone_are_something_to_push() {
    let variables = [("OTEL_METRICS_EXPORTER", "none"), (OF_LOGS, "http://a:1")];
    let push = push_with(&["--web.listen-address=none"], &variables);
    assert_eq!((push.destinations.len(), push.logs.len()), (0, 1));
}

#[test]
fn no_push_is_no_push_of_logs() {
    for off in ["--otlp-grpc=none", "--otlp-http=none"] {
        assert!(export_with(&[off], &[]).push.is_none());
        let warnings = warnings(&[off], &[(OF_LOGS, "http://a")]);
        assert!(warnings.len() == 1 && warnings[0].contains("disables the push"), "{warnings:?}");
        assert!(export_with(&[off], &[(OF_LOGS, "http://a")]).push.is_none());
    }
    let disabled = [("OTEL_SDK_DISABLED", "true"), (OF_LOGS, "http://a")];
    assert!(export_with(&[], &disabled).push.is_none());
    assert_eq!(urls(&["--no-event-logs"], &[(OF_LOGS, "http://a")]), [""; 0]);
    assert_eq!(push_with(&["--no-event-logs"], &[]).destinations.len(), 1, "metrics stay");
}

/// Checks that the variant for logs of a variable has its effect on logs and none on metrics, whose own has none on logs.
fn assert_logs_win<T: PartialEq + std::fmt::Debug>(
    arguments: &[&str],
    more: &[(&str, &str)],
    name: &str,
    [general, special]: [&str; 2],
    read: impl Fn(&Destination) -> T,
) {
    let [of_metrics, of_logs] = ["METRICS", "LOGS"].map(|of| name.replace("OTLP_", &format!("OTLP_{of}_")));
    let both = |variables: &[(&str, &str)]| {
        let variables = [more, variables].concat();
        let push = push_with(arguments, &variables);
        let [metrics, logs] = [push.destinations, push.logs].map(|destinations| read(&destinations[0]));
        (metrics, logs)
    };
    let [(_, of_general), (_, of_special)] = [general, special].map(|value| both(&[(name, value)]));
    assert_ne!(of_general, of_special, "{name}");
    let (metrics, logs) = both(&[(name, general), (&of_logs, special)]);
    assert_eq!((&metrics, &logs), (&of_general, &of_special), "{of_logs}");
    let (metrics, logs) = both(&[(name, general), (&of_metrics, special)]);
    assert_eq!((&metrics, &logs), (&of_special, &of_general), "{of_metrics}");
}

#[test]
fn each_variant_for_logs_has_its_effect() {
    let https = ["--otlp-grpc=https://a"];
    assert_logs_win(&https, &[], "OTEL_EXPORTER_OTLP_HEADERS", ["a=1", "b=2"], |logs| logs.headers.0.clone());
    assert_logs_win(&https, &[], "OTEL_EXPORTER_OTLP_TIMEOUT", ["1", "2"], |logs| logs.timeout);
    assert_logs_win(&https, &[], "OTEL_EXPORTER_OTLP_COMPRESSION", ["none", "zstd"], |logs| logs.compression);
    assert_logs_win(&https, &[], "OTEL_EXPORTER_OTLP_CERTIFICATE", ["/a", "/b"], |logs| logs.tls.clone());
    let (key, certificate) = ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE");
    assert_logs_win(&https, &[(certificate, "/c")], key, ["/a", "/b"], |logs| logs.tls.key.clone());
    assert_logs_win(&https, &[(key, "/k")], certificate, ["/a", "/b"], |logs| logs.tls.certificate.clone());
    assert_logs_win(&[], &[], "OTEL_EXPORTER_OTLP_PROTOCOL", ["grpc", "http/protobuf"], |logs| logs.protocol);
    assert_logs_win(&[], &[], ENDPOINT, ["http://a", "http://b"], |logs| logs.endpoint.clone());
    let bare = [(ENDPOINT, "a:1")];
    assert_logs_win(&[], &bare, "OTEL_EXPORTER_OTLP_INSECURE", ["true", "false"], |logs| {
        logs.endpoint.clone()
    });
    let flag = log_destination(
        &["--otlp-grpc=a", "--otlp-compression=zstd"],
        &[("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "none")],
    );
    assert_eq!(flag.compression, Compression::Zstd.into(), "the flag wins");
    assert_eq!(flag.tls, TlsFiles::default());
}

#[test]
fn what_is_wrong_with_a_variable_is_said_once() {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "broken"),
        ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "broken"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "thrift"),
        ("OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY", "/key"),
        ("OTEL_EXPORTER_OTLP_LOGS_CLIENT_CERTIFICATE", "/certificate"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "lz4"),
        ("OTEL_EXPORTER_OTLP_LOGS_INSECURE", "yes"),
    ] {
        let warnings = warnings(&[], &[(name, value)]);
        assert!(warnings.len() == 1 && warnings[0].starts_with(name), "{name}={value}: {warnings:?}");
    }
    let endpoint = errors(&[], &[(ENDPOINT, "ftp://a")]);
    assert_eq!(endpoint.len(), 1, "{endpoint:?}");
}

#[test]
fn credentials_of_logs_are_not_sent_without_tls_either() {
    let headers = ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "api-key=hunter2");
    let lines = errors(&[], &[(OF_LOGS, "http://a"), headers]);
    assert!(lines.len() == 1 && lines[0].contains("is reached without TLS"), "{lines:?}");
    assert_eq!(urls(&[], &[(OF_LOGS, "https://a"), headers]).len(), 1);
    let insecure = ("OTEL_EXPORTER_OTLP_LOGS_INSECURE", "true");
    assert_eq!(urls(&[], &[(OF_LOGS, "http://a"), headers, insecure]).len(), 1, "it is allowed");
    let general = ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2");
    let lines = errors(&["--otlp-http=http://a"], &[general]);
    assert_eq!(lines.len(), 1, "one mistake is one line: {lines:?}");
}
