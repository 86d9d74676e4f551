//! A test for each variable of the OpenTelemetry specification, by its name.

use super::*;
use crate::cli::otel::{ALL, Variable};
use crate::export::otlp::settings::{Temporality, TlsFiles};

/// A variable, and its variant for metrics.
fn both(name: &str) -> [String; 2] {
    [name.to_owned(), name.replace("OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_METRICS_")]
}

/// Checks that values of a variable are each one warning with this text, and change nothing.
fn assert_ignored(name: &str, values: &[&str], part: &str) {
    let settings = |variables: &[(&str, &str)]| format!("{:?}", export_with(&[], variables));
    for value in values {
        let warnings = warnings(&[], &[(name, value)]);
        let [warning] = &warnings[..] else { panic!("{name}={value}: one warning: {warnings:?}") };
        assert!(warning.starts_with(name) && warning.contains(part), "{value}: {warning}");
        assert_eq!(settings(&[(name, value)]), settings(&[]), "{name}={value}");
    }
    assert_eq!(warnings(&[], &[(name, "")]), [""; 0], "an empty {name} is not set");
    assert_eq!(settings(&[(name, "")]), settings(&[]), "an empty {name} is not set");
}

/// Checks that the variant for metrics of a variable wins over the general one, unless it is empty.
fn assert_metrics_win<T: PartialEq + std::fmt::Debug>(
    name: &str,
    [general, special]: [&str; 2],
    read: impl Fn(&[(&str, &str)]) -> T,
) {
    let [name, for_metrics] = both(name);
    let [of_general, of_special] = [general, special].map(|value| read(&[(&name, value)]));
    assert_ne!(of_general, of_special, "{name}");
    assert_eq!(read(&[(&for_metrics, special)]), of_special, "{for_metrics} alone");
    assert_eq!(read(&[(&name, general), (&for_metrics, special)]), of_special, "{for_metrics}");
    assert_eq!(read(&[(&name, general), (&for_metrics, "")]), of_general, "{for_metrics} is empty");
}

/// Checks that values have neither an effect nor a warning.
fn assert_silent(name: &str, values: &[&str]) {
    let all = |variables: &[(&str, &str)]| format!("{:?}", parse_with(&[], variables));
    for value in values {
        assert_eq!(all(&[(name, value)]), all(&[]), "{name}={value}");
    }
}

fn endpoint(variables: &[(&str, &str)]) -> Endpoint {
    destination_with(&[], variables).endpoint
}

#[test]
fn every_variable_has_a_test_by_its_name() {
    let tests = include_str!("otel.rs");
    for variable in &ALL {
        let test = format!("fn {}()", variable.name.to_lowercase());
        assert!(tests.contains(&test) || tests.contains(&format!("\"{}\",", variable.name)), "{test}");
        for name in variable.names() {
            let count = ALL.iter().flat_map(Variable::names).filter(|other| *other == name).count();
            assert_eq!(count, 1, "{name} is in the table once");
        }
    }
}

#[test]
fn otel_sdk_disabled() {
    let off = ("OTEL_SDK_DISABLED", "True");
    let export = export_with(&[], &[off, ("OTEL_METRICS_EXPORTER", "otlp,console")]);
    assert!(export.push.is_none() && export.console.is_none());
    assert_eq!(export.web.listen.len(), 1, "the Prometheus endpoint stays");
    assert_eq!(warnings(&[], &[off]), [""; 0]);
    assert!(export_with(&["--otlp-grpc=a"], &[off]).push.is_none(), "flags give way");
    assert!(warnings(&["--otlp-grpc=a"], &[off])[0].contains("nothing is pushed"));
    assert_silent("OTEL_SDK_DISABLED", &["false", "FALSE", ""]);
    assert_ignored("OTEL_SDK_DISABLED", &["1", "yes", "on"], "neither true nor false");
}

#[test]
fn otel_metrics_exporter() {
    let export = |list, arguments: &[&str]| {
        let export = export_with(arguments, &[("OTEL_METRICS_EXPORTER", list)]);
        (export.push.is_some(), export.console.is_some(), export.web.listen.len())
    };
    for (list, expected) in [
        ("otlp", (true, false, 1)),
        ("OTLP", (true, false, 1)),
        ("none", (false, false, 1)),
        ("prometheus", (false, false, 1)),
        ("prometheus,otlp", (true, false, 1)),
        ("console", (false, true, 1)),
        (" console , otlp,", (true, true, 1)),
    ] {
        assert_eq!(export(list, &[]), expected, "{list}");
        assert_eq!(warnings(&[], &[("OTEL_METRICS_EXPORTER", list)]), [""; 0]);
    }
    assert_eq!(export("none", &["--otlp-grpc=a"]), (true, false, 1), "a flag wins");
    assert_eq!(
        export("console", &["--web.listen-address=none"]),
        (false, true, 0),
        "that is something to do"
    );
    assert_eq!(errors(&["--web.listen-address=none"], &[("OTEL_METRICS_EXPORTER", "none")]).len(), 1);
    assert_ignored(
        "OTEL_METRICS_EXPORTER",
        &["jaeger", "logging"],
        "there are otlp, console, prometheus, none",
    );
    assert_eq!(export("console,zipkin", &[]), (false, true, 1), "what is known holds");
    assert_eq!(warnings(&[], &[("OTEL_METRICS_EXPORTER", "console,zipkin")]).len(), 1);
}

#[test]
fn otel_logs_exporter() {
    let logs = |list, arguments: &[&str], variables: &[(&str, &str)]| {
        let variables = [variables, &[("OTEL_LOGS_EXPORTER", list)]].concat();
        export_with(arguments, &variables).push.map_or(0, |push| push.logs.len())
    };
    for (list, expected) in [("otlp", 1), ("OTLP,none", 1), (" none ", 0), ("", 1), (",", 1)] {
        assert_eq!(logs(list, &[], &[]), expected, "{list}");
        assert_eq!(logs(list, &["--otlp-grpc=a"], &[]), expected, "{list} with a flag");
        assert_eq!(warnings(&[], &[("OTEL_LOGS_EXPORTER", list)]), [""; 0]);
    }
    assert_eq!(logs("otlp", &["--no-event-logs"], &[]), 0, "the flag wins");
    let none = [("OTEL_METRICS_EXPORTER", "none")];
    assert_eq!((logs("", &[], &none), logs("otlp", &[], &none)), (0, 1), "the default one is of metrics");
    let general = [none[0], ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a")];
    assert_eq!((logs("", &[], &general), logs("none", &[], &general)), (1, 0), "it is given for logs, too");
    assert_ignored("OTEL_LOGS_EXPORTER", &["console", "jaeger"], "there are otlp, none");
}

#[test]
fn otel_resource_attributes() {
    let attributes = |value| export_with(&[], &[("OTEL_RESOURCE_ATTRIBUTES", value)]).resource.attributes;
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        attributes("k8s.node.name=node-1, team = a%2Cb%3D,empty="),
        [pair("k8s.node.name", "node-1"), pair("team", "a,b="), pair("empty", "")]
    );
    // The specification: "In case of any error […] the entire environment variable value SHOULD be discarded".
    assert_ignored("OTEL_RESOURCE_ATTRIBUTES", &["a=b,broken,c=d", "a=%ff"], "is ignored: it");
    assert_ignored("OTEL_RESOURCE_ATTRIBUTES", &["=b"], "has no name");
}

#[test]
fn otel_service_name() {
    let name = |value| export_with(&[], &[("OTEL_SERVICE_NAME", value)]).resource.service_name;
    assert_eq!(name("mine").as_deref(), Some("mine"));
    assert_eq!(name(""), None);
    let latin = OsString::from_vec(b"m\xfcsli".to_vec());
    let parsed = parse(vec![PROGRAM.into()], [("OTEL_SERVICE_NAME".into(), latin)]);
    let Ok(Invocation::Run { command: Command::Export(export), warnings, .. }) = parse_ok(parsed) else {
        panic!("it runs");
    };
    assert_eq!(export.resource.service_name, None);
    assert_eq!(warnings, ["OTEL_SERVICE_NAME is ignored: the value is not UTF-8"]);
}

fn parse_ok(parsed: Result<Invocation, ConfigErrors>) -> Result<Invocation, ConfigErrors> {
    assert!(parsed.is_ok(), "{parsed:?}");
    parsed
}

#[test]
fn otel_log_level() {
    let level = |arguments: &[&str], value| match parse_with(arguments, &[("OTEL_LOG_LEVEL", value)]) {
        Ok(Invocation::Run { log, .. }) => log.level,
        other => panic!("nothing to run: {other:?}"),
    };
    for (value, expected) in [
        ("DEBUG", LogLevel::Debug),
        ("trace", LogLevel::Debug),
        ("info", LogLevel::Info),
        ("warn", LogLevel::Warn),
        ("warning", LogLevel::Warn),
        ("error", LogLevel::Error),
        ("fatal", LogLevel::Error),
        ("", LogLevel::Info),
    ] {
        assert_eq!(level(&[], value), expected, "{value}");
        assert_eq!(level(&["snapshot"], value), expected, "{value}");
    }
    assert_eq!(level(&["--log.level=error"], "debug"), LogLevel::Error);
    assert_ignored("OTEL_LOG_LEVEL", &["loud", "none", "7"], "none of error, warn, info, debug");
}

#[test]
fn otel_metric_export_interval() {
    let interval = |value| push_with(&[], &[("OTEL_METRIC_EXPORT_INTERVAL", value)]).interval;
    assert_eq!(interval("60000"), Duration::from_mins(1));
    assert_eq!(interval(" 1000 "), Duration::from_secs(1));
    assert_ignored("OTEL_METRIC_EXPORT_INTERVAL", &["-1", "soon", "1.5", "10s"], "not a whole number");
    assert_ignored("OTEL_METRIC_EXPORT_INTERVAL", &["0", "999"], "too short");
    assert_ignored("OTEL_METRIC_EXPORT_INTERVAL", &["86400001", "99999999999999"], "too long");
}

#[test]
fn otel_metric_export_timeout() {
    let timeout = |value| push_with(&[], &[("OTEL_METRIC_EXPORT_TIMEOUT", value)]).interval_timeout;
    assert_eq!(timeout("30000"), Some(Duration::from_secs(30)));
    assert_eq!(timeout("0"), None, "no limit");
    assert_ignored("OTEL_METRIC_EXPORT_TIMEOUT", &["-1", "soon"], "not a whole number");
}

#[test]
fn otel_exporter_otlp_endpoint() {
    let [general, special] = both("OTEL_EXPORTER_OTLP_ENDPOINT");
    let quiet = ("OTEL_EXPORTER_OTLP_INSECURE", "false");
    // Over gRPC.
    for (value, expected) in [
        ("http://collector", "http://collector:4317"),
        ("HTTP://collector:1/", "http://collector:1"),
        ("https://collector", "https://collector:443"),
        ("Https://Collector:1", "https://Collector:1"),
        ("collector:1", "https://collector:1"),
        ("collector", "https://collector:4317"),
        ("localhost:4317", "https://localhost:4317"),
        ("[::1]:1", "https://[::1]:1"),
        ("http://[fe80::1%25eth0]:1", "http://[fe80::1%eth0]:1"),
        ("http://[::1%25lo]:1", "http://[::1%lo]:1"),
        ("unix:/run/otlp.sock", "unix:/run/otlp.sock"),
        ("unix:///run/otlp.sock", "unix:/run/otlp.sock"),
        ("dns:collector:1", "https://collector:1"),
        ("dns:///collector:1", "https://collector:1"),
        ("http://collector:", "http://collector:4317"),
    ] {
        for name in [&general, &special] {
            let variables = [(name.as_str(), value), quiet];
            assert_eq!(endpoint(&variables).url(), expected, "{name}={value}");
            assert_eq!(warnings(&[], &variables), [""; 0], "{name}={value}");
        }
    }
    // What has no effect is a warning.
    for (value, part) in [
        ("http://a:1/v1/metrics", "the path \"/v1/metrics\" is ignored"),
        ("dns://8.8.8.8/a:1", "not at the server of the dns: URL"),
        ("http://a:1?x=hunter2", "query"),
        ("http://a:4318", "usual port of OTLP over HTTP"),
    ] {
        let warnings = warnings(&[], &[(&general, value), quiet]);
        let [warning] = &warnings[..] else { panic!("{value}: {warnings:?}") };
        assert!(warning.contains(part) && !warning.contains("hunter2"), "{warning}");
    }
    assert!(warnings(&[], &[(&general, "a:1")])[0].contains("has no scheme, which means TLS"));
    // Over HTTP: a base, and an URL as it is.
    for (value, of_general, of_special) in [
        ("http://a", "http://a:80/v1/metrics", "http://a:80/"),
        ("http://a:4318/", "http://a:4318/v1/metrics", "http://a:4318/"),
        ("https://a/mycollector/", "https://a:443/mycollector/v1/metrics", "https://a:443/mycollector/"),
        ("https://a/v1/metrics/", "https://a:443/v1/metrics/v1/metrics", "https://a:443/v1/metrics/"),
        ("a:1", "https://a:1/v1/metrics", "https://a:1/"),
    ] {
        let http = [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), quiet];
        for (name, expected) in [(&general, of_general), (&special, of_special)] {
            let variables = [&http[..], &[(name, value)]].concat();
            assert_eq!(endpoint(&variables).url(), expected, "{name}={value}");
            assert_eq!(warnings(&[], &variables), [""; 0], "{name}={value}");
        }
        let socket = [&http[..], &[(&special, "unix:/s")]].concat();
        assert_eq!(endpoint(&socket), Endpoint::Unix { socket: "/s".into(), path: "/v1/metrics".to_owned() });
    }
    // What cannot be understood is no other receiver.
    for value in ["ftp://a", "http://", "::1:4317", "http://user:hunter2@a", "http://a:port", "unix:"] {
        let lines = errors(&[], &[(&general, value)]);
        assert!(lines.len() == 1 && lines[0].starts_with(&format!("{general}: ")), "{lines:?}");
        assert!(!lines[0].contains("hunter2"), "{lines:?}");
    }
    assert_metrics_win("OTEL_EXPORTER_OTLP_ENDPOINT", ["http://a", "http://b"], endpoint);
    assert_eq!(endpoint(&[(&general, " ")]).to_string(), "http://localhost:4317");
}

#[test]
fn otel_exporter_otlp_protocol() {
    let protocol = |variables: &[(&str, &str)]| {
        let Destination { protocol, endpoint, configured, .. } = destination_with(&[], variables);
        assert!(!configured);
        (protocol, endpoint.url())
    };
    let grpc = (Protocol::Grpc, "http://localhost:4317".to_owned());
    let http = (Protocol::HttpProtobuf, "http://localhost:4318/v1/metrics".to_owned());
    for name in both("OTEL_EXPORTER_OTLP_PROTOCOL") {
        assert_eq!(protocol(&[(&name, "grpc")]), grpc);
        assert_eq!(protocol(&[(&name, "http/protobuf")]), http);
        assert_eq!(protocol(&[(&name, "http/json")]), http);
        assert_eq!(warnings(&[], &[(&name, "http/protobuf")]), [""; 0]);
        assert_eq!(
            warnings(&[], &[(&name, "http/json")]),
            [format!("{name}=http/json is not supported: http/protobuf is used")]
        );
        assert_ignored(&name, &["http", "thrift"], "none of grpc, http/protobuf");
    }
    assert_metrics_win("OTEL_EXPORTER_OTLP_PROTOCOL", ["grpc", "http/protobuf"], protocol);
    let garbage =
        [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "x")];
    assert_eq!(protocol(&garbage), http, "the variant counts as unset");
}

#[test]
fn otel_exporter_otlp_insecure() {
    let with = |insecure| {
        endpoint(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "a:1"), ("OTEL_EXPORTER_OTLP_INSECURE", insecure)])
    };
    for (value, expected) in [
        ("true", "http://a:1"),
        ("TRUE", "http://a:1"),
        ("false", "https://a:1"),
        ("", "https://a:1"),
        ("1", "https://a:1"),
    ] {
        assert_eq!(with(value).url(), expected, "{value}");
    }
    for url in ["http://a:1", "https://a:1"] {
        for value in ["true", "false"] {
            let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", url), ("OTEL_EXPORTER_OTLP_INSECURE", value)];
            assert_eq!(endpoint(&variables).to_string(), url, "a scheme wins");
        }
    }
    assert_metrics_win("OTEL_EXPORTER_OTLP_INSECURE", ["true", "false"], |variables| {
        endpoint(&[&[("OTEL_EXPORTER_OTLP_ENDPOINT", "a:1")], variables].concat())
    });
    for name in both("OTEL_EXPORTER_OTLP_INSECURE") {
        assert_ignored(&name, &["1", "yes"], "neither true nor false: it counts as false");
    }
    // Of a flag.
    assert_eq!(receivers(&["--otlp-grpc=a:1"], &[("OTEL_EXPORTER_OTLP_INSECURE", "false")]), ["http://a:1"]);
}

#[test]
fn credentials_without_tls_are_refused_beyond_this_host() {
    const HEADERS: (&str, &str) = ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2");
    const INSECURE: (&str, &str) = ("OTEL_EXPORTER_OTLP_INSECURE", "true");
    let mtls = [("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key"), ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/crt")];
    for credentials in [&[HEADERS][..], &mtls] {
        for flag in ["--otlp-grpc=collector:4317", "--otlp-http=http://10.0.0.1"] {
            let lines = errors(&[flag], credentials);
            let [line] = &lines[..] else { panic!("one mistake: {lines:?}") };
            assert!(
                line.contains("is reached without TLS") && line.contains("OTEL_EXPORTER_OTLP_INSECURE=true"),
                "{line}"
            );
            assert!(!line.contains("hunter2"), "{line}");
            assert_eq!(receivers(&[flag], &[credentials, &[INSECURE]].concat()).len(), 1, "it is allowed");
        }
        for flag in [
            "--otlp-grpc=https://collector",
            "--otlp-grpc=localhost",
            "--otlp-grpc=unix:/s",
            "--otlp-http=[::1]",
        ] {
            assert_eq!(receivers(&[flag], credentials).len(), 1, "{flag}");
        }
    }
    let lines = errors(&[], &[HEADERS, ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")]);
    assert_eq!(lines.len(), 1);
    assert_eq!(
        receivers(&[], &[HEADERS, ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:1")]),
        ["https://collector:1"]
    );
}

#[test]
fn otel_exporter_otlp_certificate() {
    let tls = |variables: &[(&str, &str)]| destination_with(&["--otlp-grpc=https://a"], variables).tls;
    let expected = TlsFiles { authorities: Some("/ca.pem".into()), ..TlsFiles::default() };
    assert_eq!(tls(&[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem")]), expected);
    assert_metrics_win("OTEL_EXPORTER_OTLP_CERTIFICATE", ["/a", "/b"], tls);
    let warnings = warnings(&["--otlp-grpc=b"], &[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem")]);
    assert!(warnings.len() == 1 && warnings[0].contains("no effect there"), "{warnings:?}");
}

/// Checks one half of a client's certificate and key.
fn assert_half(name: &str, other: &str) {
    let https = ["--otlp-grpc=https://a"];
    let tls = |variables: &[(&str, &str)]| destination_with(&https, variables).tls;
    assert_eq!(tls(&[(name, "/pem")]), TlsFiles::default(), "half is no use");
    assert_eq!(warnings(&https, &[(name, "/pem")]), [format!("{name} is ignored: {other} is not set")]);
    assert_ne!(tls(&[(name, "/pem"), (other, "/other")]), TlsFiles::default());
    assert_eq!(warnings(&https, &[(name, "/pem"), (other, "/other")]), [""; 0]);
    assert_metrics_win(name, ["/a", "/b"], |variables| tls(&[variables, &[(other, "/other")]].concat()));
}

#[test]
fn otel_exporter_otlp_client_key() {
    assert_half("OTEL_EXPORTER_OTLP_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE");
}

#[test]
fn otel_exporter_otlp_client_certificate() {
    assert_half("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_KEY");
}

#[test]
fn otel_exporter_otlp_headers() {
    let headers = |variables: &[(&str, &str)]| destination_with(&[], variables).headers.0;
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let [name, _] = both("OTEL_EXPORTER_OTLP_HEADERS");
    let good = "Authorization=Basic%20abc%3D%3D, x-tenant = a,,empty=";
    let all = [pair("authorization", "Basic abc=="), pair("x-tenant", "a"), pair("empty", "")];
    assert_eq!(headers(&[(&name, good)]), all);
    assert_eq!(warnings(&[], &[(&name, good)]), [""; 0]);
    assert_metrics_win(&name, ["a=1", "b=2"], headers);
    // A malformed member is left out, and no message shows what may be a secret.
    for (member, part) in [
        ("hunter2", "no '='"),
        ("=hunter2", "its name has other characters"),
        ("hunter 2=x", "its name has other characters"),
        ("x=%ffhunter2", "not UTF-8"),
        ("x=hunter2%0a", "\"x\" has characters"),
        ("content-type=hunter2", "\"content-type\" cannot be set"),
        ("grpc-timeout=hunter2", "cannot be set"),
        ("x-bin=hunter2", "cannot be set"),
        ("te=hunter2", "cannot be set"),
    ] {
        let value = format!("a=1,{member},b=2");
        assert_eq!(headers(&[(&name, &value)]), [pair("a", "1"), pair("b", "2")], "{member}");
        let warnings = warnings(&[], &[(&name, &value)]);
        assert!(warnings.len() == 1 && warnings[0].contains(part), "{member}: {warnings:?}");
        assert!(!warnings[0].contains("hunter"), "{warnings:?}");
    }
}

#[test]
fn otel_exporter_otlp_compression() {
    let compression =
        |variables: &[(&str, &str)]| destination_with(&["--otlp-grpc=a"], variables).compression;
    let [name, _] = both("OTEL_EXPORTER_OTLP_COMPRESSION");
    for (value, expected) in [
        ("none", Compression::None.into()),
        ("gzip", Compression::Gzip.into()),
        ("GZIP", Compression::Gzip.into()),
        ("zstd", Compression::Zstd.into()),
        ("", CompressionPolicy::Negotiated),
    ] {
        assert_eq!(compression(&[(&name, value)]), expected, "{value}");
    }
    assert_metrics_win(&name, ["none", "zstd"], compression);
    assert_ignored(&name, &["deflate", "1"], "none of none, gzip, zstd");
    let flag = destination_with(&["--otlp-grpc=a", "--otlp-compression=zstd"], &[(&name, "none")]);
    assert_eq!(flag.compression, Compression::Zstd.into());
}

#[test]
fn otel_exporter_otlp_timeout() {
    let timeout = |variables: &[(&str, &str)]| destination_with(&[], variables).timeout;
    let [name, for_metrics] = both("OTEL_EXPORTER_OTLP_TIMEOUT");
    assert_eq!(timeout(&[(&name, "2500")]), Duration::from_millis(2500));
    for no_limit in ["0", "18446744073709551615"] {
        assert!(timeout(&[(&name, no_limit)]) > Duration::from_hours(24 * 40), "{no_limit}");
    }
    assert_metrics_win(&name, ["1", "2"], timeout);
    for name in [&name, &for_metrics] {
        assert_ignored(name, &["-1", "soon", "2.5", "10s", "18446744073709551616"], "not a whole number");
    }
    assert_eq!(timeout(&[(&name, "5"), (&for_metrics, "x")]), Duration::from_millis(5), "it counts as unset");
}

#[test]
fn otel_exporter_otlp_metrics_temporality_preference() {
    const NAME: &str = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
    for (value, expected) in [
        ("cumulative", Temporality::Cumulative),
        ("Delta", Temporality::Delta),
        ("DELTA", Temporality::Delta),
        ("LowMemory", Temporality::Cumulative),
    ] {
        assert_eq!(destination_with(&[], &[(NAME, value)]).temporality, expected, "{value}");
        assert_eq!(warnings(&[], &[(NAME, value)]), [""; 0]);
    }
    assert_ignored(NAME, &["stateless"], "none of cumulative, delta, lowmemory");
}

#[test]
fn otel_exporter_otlp_metrics_default_histogram_aggregation() {
    const NAME: &str = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
    assert_silent(NAME, &["base2_exponential_bucket_histogram", "Base2_Exponential_Bucket_Histogram"]);
    assert_ignored(NAME, &["Explicit_Bucket_Histogram"], "histograms are base2_exponential_bucket_histogram");
    assert_ignored(NAME, &["linear"], "none of explicit_bucket_histogram");
}

#[test]
fn otel_metrics_exemplar_filter() {
    assert_silent("OTEL_METRICS_EXEMPLAR_FILTER", &["always_on", "always_off", "TRACE_BASED"]);
    assert_ignored("OTEL_METRICS_EXEMPLAR_FILTER", &["sometimes"], "none of always_on");
}

/// The address that is listened on, with these variables for host and port.
fn listening(host: &str, port: &str) -> String {
    let variables = [("OTEL_EXPORTER_PROMETHEUS_HOST", host), ("OTEL_EXPORTER_PROMETHEUS_PORT", port)];
    let [address] = &export_with(&[], &variables).web.listen[..] else { panic!("one address") };
    let ListenAddress::Tcp { host, port } = address else { panic!("a port") };
    format!("{} {port}", host.as_deref().unwrap_or("any"))
}

#[test]
fn otel_exporter_prometheus_host() {
    for (host, expected) in [
        ("0.0.0.0", "0.0.0.0 10048"),
        ("::", ":: 10048"),
        ("[::1]", "::1 10048"),
        ("localhost", "localhost 10048"),
        ("", "127.0.0.1 10048"),
    ] {
        assert_eq!(listening(host, ""), expected, "{host}");
    }
    assert_ignored("OTEL_EXPORTER_PROMETHEUS_HOST", &["a b"], "a space");
    let flag =
        export_with(&["--web.listen-address=:1"], &[("OTEL_EXPORTER_PROMETHEUS_HOST", "h")]).web.listen;
    assert_eq!(flag, [ListenAddress::Tcp { host: None, port: 1 }]);
}

#[test]
fn otel_exporter_prometheus_port() {
    assert_eq!(listening("", "9464"), "127.0.0.1 9464");
    assert_eq!(listening("h", "9464"), "h 9464");
    assert_ignored("OTEL_EXPORTER_PROMETHEUS_PORT", &["-1", "65536", "http"], "not a port");
}

#[test]
fn otel_config_file() {
    assert_ignored("OTEL_CONFIG_FILE", &["/etc/otel.yaml"], "no configuration file is read");
}

#[test]
fn otel_experimental_config_file() {
    assert_ignored("OTEL_EXPERIMENTAL_CONFIG_FILE", &["/etc/otel.yaml"], "no configuration file is read");
}

#[test]
fn what_changes_nothing_is_a_warning_also_where_nothing_is_pushed() {
    for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_METRICS_EXPORTER", "none")] {
        for ignored in
            ["OTEL_CONFIG_FILE", "OTEL_EXPORTER_OTLP_METRIC_INSECURE", "OTEL_METRICS_EXEMPLAR_FILTER"]
        {
            let warnings = warnings(&[], &[off, (ignored, "x")]);
            assert!(warnings.iter().any(|warning| warning.contains(ignored)), "{off:?}: {warnings:?}");
        }
    }
}

#[test]
fn otel_exporter_otlp_metric_insecure() {
    assert_ignored(
        "OTEL_EXPORTER_OTLP_METRIC_INSECURE",
        &["true"],
        "set OTEL_EXPORTER_OTLP_METRICS_INSECURE",
    );
}

#[test]
fn variables_of_other_signals_are_ignored_without_a_warning() {
    for name in [
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_PROPAGATORS",
        "OTEL_TRACES_SAMPLER",
        "OTEL_TRACES_SAMPLER_ARG",
        "OTEL_TRACES_EXPORTER",
        "OTEL_BSP_SCHEDULE_DELAY",
        "OTEL_BSP_EXPORT_TIMEOUT",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "OTEL_BLRP_SCHEDULE_DELAY",
        "OTEL_BLRP_EXPORT_TIMEOUT",
        "OTEL_BLRP_MAX_QUEUE_SIZE",
        "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_SPAN_EVENT_COUNT_LIMIT",
        "OTEL_SPAN_LINK_COUNT_LIMIT",
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_EXPORTER_ZIPKIN_ENDPOINT",
        "OTEL_EXPORTER_ZIPKIN_TIMEOUT",
        "OTEL_EXPORTER_OTLP_SPAN_INSECURE",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_PROFILES_PROTOCOL",
        "OTEL_GO_X_EXEMPLAR",
    ] {
        assert_silent(name, &["whatever"]);
    }
}

#[test]
fn unknown_names_are_a_warning_with_the_nearest_one() {
    for (name, near) in [
        ("OTEL_EXPORTER_OTLP_ENDPOIT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESION", "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESION", "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION"),
        ("OTEL_LOGS_EXPORTERS", "OTEL_LOGS_EXPORTER"),
        ("OTEL_METRICS_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_INTERVAL"),
        ("OTEL_EXPORTER_PROMETHEUS_PROT", "OTEL_EXPORTER_PROMETHEUS_PORT"),
    ] {
        let expected = format!("unknown environment variable {name} is ignored; did you mean {near}?");
        assert_eq!(warnings(&[], &[(name, "x")]), [expected]);
    }
}

#[test]
fn subcommands_ignore_the_variables_without_noise() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://x"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "broken"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_ENDPOIT", "x"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "soon"),
        ("OTEL_RESOURCE_ATTRIBUTES", "broken"),
        ("OTEL_SDK_DISABLED", "perhaps"),
        ("OTEL_CONFIG_FILE", "/x"),
        ("OTEL_LOG_LEVEL", "loud"),
        ("HTTPS_PROXY", "socks5://x"),
    ];
    assert_eq!(warnings(&["snapshot"], &variables), [""; 0]);
    assert!(matches!(parse_with(&["completions", "bash"], &variables), Ok(Invocation::Print(_))));
}

#[test]
fn proxies_are_for_receivers_beyond_this_host() {
    let proxy = |receiver: &str, variables: &[(&str, &str)]| {
        destination_with(&["--otlp-grpc", receiver], variables).proxy.map(|proxy| proxy.0.to_string())
    };
    let (https, http, all) =
        (("HTTPS_PROXY", "http://s:1"), ("HTTP_PROXY", "http://p:2"), ("ALL_PROXY", "a:3"));
    let is = |url: &str| Some(url.to_owned());
    assert_eq!(proxy("https://c", &[https, http, all]), is("http://s:1/"));
    assert_eq!(proxy("http://c", &[https, http, all]), is("http://p:2/"));
    assert_eq!(proxy("http://c", &[https, all]), is("http://a:3/"));
    assert_eq!(proxy("https://c", &[https, ("https_proxy", "l:4")]), is("http://l:4/"), "lower case wins");
    assert_eq!(proxy("https://c", &[https, ("https_proxy", "")]), is("http://s:1/"), "empty is not set");
    assert_eq!(proxy("https://c.example", &[https, ("NO_PROXY", "example")]), None);
    assert_eq!(proxy("https://c.example", &[https, ("no_proxy", "x"), ("NO_PROXY", "*")]), is("http://s:1/"));
    for local in ["https://localhost", "127.0.0.1", "unix:/s"] {
        assert_eq!(proxy(local, &[https, http, all]), None, "{local}");
    }
    let secret = ("HTTPS_PROXY", "socks5://user:hunter2@x");
    let warnings = warnings(&["--otlp-grpc=https://a", "--otlp-grpc=https://b"], &[secret]);
    assert_eq!(warnings, ["HTTPS_PROXY is ignored: only HTTP proxies are supported; give http://HOST:PORT"]);
}
