use std::collections::HashMap;

use super::*;

fn parse_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Asked, Mistakes> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    let arguments =
        std::iter::once("bpf-metrics-exporter").chain(arguments.iter().copied()).map(OsString::from);
    parse(arguments.collect(), |name| variables.get(name).map(OsString::from))
}

fn export_with(arguments: &[&str], variables: &[(&str, &str)]) -> Export {
    match parse_with(arguments, variables) {
        Ok(Asked::Do { command: Command::Export(export), .. }) => *export,
        other => panic!("not settings to export by: {other:?}"),
    }
}

fn otlp_with(arguments: &[&str], variables: &[(&str, &str)]) -> Otlp {
    export_with(arguments, variables).otlp.expect("it pushes")
}

fn mistakes(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    parse_with(arguments, variables).expect_err("there are mistakes").lines
}

#[test]
fn without_arguments_everything_has_a_value() {
    let export = export_with(&[], &[]);
    assert_eq!(export.listen, [ListenAddress { host: Some("127.0.0.1".into()), port: 10048 }]);
    let otlp = export.otlp.expect("it pushes");
    assert_eq!(otlp.endpoint, "http://localhost:4317");
    assert_eq!((otlp.interval, otlp.timeout), (Duration::from_secs(10), Duration::from_secs(10)));
    assert_eq!(otlp.max_request, 3_670_016, "3.5 MiB");
}

#[test]
fn a_receiver_is_a_host_or_a_url() {
    for (given, endpoint) in [
        ("collector", "http://collector:4317/"),
        ("collector:1234", "http://collector:1234/"),
        ("[::1]:4317", "http://[::1]:4317/"),
        ("http://collector:4317", "http://collector:4317/"),
        ("http://collector:4317/", "http://collector:4317/"),
        ("https://collector", "https://collector:443/"),
    ] {
        for flag in ["--otlp-grpc", "--otel-grpc"] {
            assert_eq!(otlp_with(&[flag, given], &[]).endpoint, endpoint, "{flag} {given}");
        }
        assert_eq!(otlp_with(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", given)]).endpoint, endpoint, "{given}");
    }
    assert!(export_with(&["--otlp-grpc", "none"], &[]).otlp.is_none());
}

#[test]
fn flags_win_over_variables_and_special_variables_over_general_ones() {
    let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:1");
    let special = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://special:2");
    assert_eq!(otlp_with(&["--otlp-grpc", "flag:3"], &[general, special]).endpoint, "http://flag:3/");
    assert_eq!(otlp_with(&[], &[general, special]).endpoint, "http://special:2/");
    assert_eq!(otlp_with(&[], &[general, (special.0, "")]).endpoint, "http://general:1/", "empty is not set");
    let interval = [("OTEL_METRIC_EXPORT_INTERVAL", "60000")];
    assert_eq!(otlp_with(&[], &interval).interval, Duration::from_mins(1));
    assert_eq!(otlp_with(&["--interval", "1m 30s"], &interval).interval, Duration::from_secs(90));
}

#[test]
fn variables_are_read_as_the_specification_says() {
    let otlp = otlp_with(
        &[],
        &[
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20abc%3D%3D, x-tenant = a"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
            ("OTEL_SERVICE_NAME", "mine"),
            ("OTEL_RESOURCE_ATTRIBUTES", "k8s.node.name=node-1,team=a%2Cb"),
        ],
    );
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(otlp.headers, [pair("authorization", "Basic abc=="), pair("x-tenant", "a")]);
    assert_eq!(otlp.timeout, Duration::from_millis(2500));
    assert_eq!(otlp.service_name.as_deref(), Some("mine"));
    assert_eq!(otlp.resource, [pair("k8s.node.name", "node-1"), pair("team", "a,b")]);
}

#[test]
fn every_mistake_is_reported_at_once_a_line_each() {
    let lines = mistakes(
        &[
            "--otlp-grpc",
            "ftp://x",
            "--interval=0s",
            "--web.listen-address=nowhere",
            "--web.listen-address=[::1]:70000",
            "--log.level=loud",
            "--otlp-max-request-bytes=1",
            "--unknown",
            "value",
            "--unknwon=2",
        ],
        &[
            ("OTEL_EXPORTER_OTLP_HEADERS", "no-equals-sign"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
        ],
    );
    for part in [
        "unexpected argument '--unknown'",
        "unexpected argument '--unknwon'",
        "--otlp-grpc: unknown scheme \"ftp\"",
        "--interval: \"0s\" is too short",
        "malformed address \"nowhere\"",
        "\"70000\" is not a port",
        "--log.level: \"loud\"",
        "--otlp-max-request-bytes: \"1\"",
        "OTEL_EXPORTER_OTLP_HEADERS: a member has no '='",
        "OTEL_EXPORTER_OTLP_TIMEOUT: \"soon\"",
        "OTEL_RESOURCE_ATTRIBUTES: the attribute",
    ] {
        assert_eq!(lines.iter().filter(|line| line.contains(part)).count(), 1, "{part} in {lines:#?}");
    }
    assert_eq!(lines.len(), 11, "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains('\n')));
}

#[test]
fn malformed_receivers_are_told_apart() {
    for (given, part) in [
        ("", "the host is missing"),
        (":4317", "the host is missing"),
        ("host:port", "\"port\" is not a port"),
        ("host:", "\"\" is not a port"),
        ("http://host:4318/v1/metrics", "takes no path"),
        ("http://user:secret@host", "credentials"),
        ("::1:4317", "IPv6 address stands in brackets"),
        ("a host:1", "has a space"),
        ("grpc://host:1", "unknown scheme"),
    ] {
        let lines = mistakes(&["--otlp-grpc", given], &[]);
        assert!(lines.len() == 1 && lines[0].contains(part), "{given}: {lines:?}");
    }
}

#[test]
fn an_interval_is_a_duration_of_a_second_or_more() {
    for (given, part) in
        [("10", "not a duration"), ("-5s", "negative"), ("999ms", "too short"), ("0s", "too short")]
    {
        let lines = mistakes(&["--interval", given], &[]);
        assert!(lines.len() == 1 && lines[0].contains(part), "{given}: {lines:?}");
    }
    assert_eq!(otlp_with(&["--interval", "1s"], &[]).interval, Duration::from_secs(1));
}

#[test]
fn runs_are_counted_always_never_or_in_samples() {
    let sample = |lasting, every| RunStats::Sample {
        lasting: Duration::from_millis(lasting),
        every: Duration::from_millis(every),
    };
    assert_eq!(export_with(&[], &[]).run_stats, RunStats::On);
    for (given, run_stats) in [
        ("on", RunStats::On),
        ("off", RunStats::Off),
        ("sample", sample(1_000, 10_000)),
        ("sample=1s/10s", sample(1_000, 10_000)),
        ("sample=100ms/101ms", sample(100, 101)),
        ("sample=2s/1m 30s", sample(2_000, 90_000)),
    ] {
        assert_eq!(export_with(&["--run-stats", given], &[]).run_stats, run_stats, "{given}");
    }
    for (given, part) in [
        ("", "none of on, off, sample, sample=LASTING/EVERY"),
        ("yes", "none of on, off, sample, sample=LASTING/EVERY"),
        ("sample=", "not LASTING/EVERY"),
        ("sample=1s", "not LASTING/EVERY"),
        ("sample=1/10", "not a duration"),
        ("sample=1s/10s/20s", "not a duration"),
        ("sample=99ms/10s", "too short"),
        ("sample=0s/10s", "too short"),
        ("sample=-1s/10s", "negative"),
        ("sample=10s/1s", "leaves no pause"),
        ("sample=10s/10s", "leaves no pause"),
    ] {
        let lines = mistakes(&["--run-stats", given], &[]);
        assert!(lines.len() == 1 && lines[0].contains(part), "{given}: {lines:?}");
    }
}

#[test]
fn a_secret_in_a_bad_header_list_is_not_shown() {
    let lines = mistakes(&[], &[("OTEL_EXPORTER_OTLP_HEADERS", "ok=1,hunter2")]);
    assert!(!lines.concat().contains("hunter2"), "{lines:?}");
}

#[test]
fn nothing_to_do_is_a_mistake() {
    let lines = mistakes(&["--otlp-grpc=none", "--web.listen-address=none"], &[]);
    assert!(lines[0].contains("nothing to do"), "{lines:?}");
    assert_eq!(mistakes(&["--web.listen-address=none", "--web.listen-address=:1"], &[]).len(), 1);
}

#[test]
fn what_cannot_be_had_is_a_warning() {
    let warnings = |variables: &[(&str, &str)]| match parse_with(&[], variables) {
        Ok(Asked::Do { warnings, .. }) => warnings,
        other => panic!("not something to do: {other:?}"),
    };
    let protocol = warnings(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]);
    assert_eq!(protocol, ["OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf is not supported: grpc is used"]);
    let certificate = warnings(&[("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "/ca.pem")]);
    assert_eq!(
        certificate,
        ["OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE=/ca.pem is not supported: it is ignored"]
    );
    assert!(warnings(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).is_empty());
}

#[test]
fn a_snapshot_has_a_format_and_a_file() {
    let asked = parse_with(&["snapshot", "--format", "json", "--from", "x.json"], &[]).expect("no mistake");
    let Asked::Do { command: Command::Snapshot { format, from, .. }, .. } = asked else {
        panic!("{asked:?}")
    };
    assert_eq!((format, from), (SnapshotFormat::Json, Some("x.json".into())));
    assert!(mistakes(&["snapshot", "--format=xml"], &[])[0].contains("none of table, json, prometheus"));
    assert!(mistakes(&["snapshto"], &[])[0].contains("snapshot"));
}

#[test]
fn help_and_version_are_said() {
    assert!(matches!(parse_with(&["--help"], &[]), Ok(Asked::Say(text)) if text.contains("--otlp-grpc")));
    assert!(
        matches!(parse_with(&["--version"], &[]), Ok(Asked::Say(text)) if text.contains(env!("CARGO_PKG_VERSION")))
    );
}

fn selection_with(arguments: &[&str]) -> Selection {
    export_with(arguments, &[]).selection
}

#[test]
fn rules_are_terms_that_all_hold() {
    let everything = Selection { only: vec![], except: vec![], per_object: true, max_series: None };
    assert_eq!(selection_with(&[]), everything);
    let term = |key, pattern: &str| (key, pattern.to_owned());
    let given = selection_with(&[
        "--only=kind=map,type=lru_hash",
        "--only",
        "owner=kube-system/*,owner_kind=pod",
        "--except",
        "name=",
        "--per-object=on",
        "--max-series=5000",
    ]);
    let expected = Selection {
        only: vec![
            vec![term(RuleKey::Kind, "map"), term(RuleKey::Type, "lru_hash")],
            vec![term(RuleKey::Owner, "kube-system/*"), term(RuleKey::OwnerKind, "pod")],
        ],
        except: vec![vec![term(RuleKey::Name, "")]],
        per_object: true,
        max_series: Some(5000),
    };
    assert_eq!(given, expected);
    let pattern_with_equals_sign = selection_with(&["--only=owner=a=b,kind=m*"]).only;
    assert_eq!(pattern_with_equals_sign, [[term(RuleKey::Owner, "a=b"), term(RuleKey::Kind, "m*")]]);
    assert!(!selection_with(&["--per-object", "off"]).per_object);
}

#[test]
fn every_bad_term_is_a_line() {
    let words = "kind, type, name, owner, owner_kind";
    for (arguments, expected) in [
        (&["--only="][..], vec![format!("--only: the term \"\" is not KEY=PATTERN, with one of {words} for KEY")]),
        (
            &["--only=kind=map,", "--except=maps"],
            vec![
                format!("--only: the term \"\" is not KEY=PATTERN, with one of {words} for KEY"),
                format!("--except: the term \"maps\" is not KEY=PATTERN, with one of {words} for KEY"),
            ],
        ),
        (&["--only", "id=3"], vec![format!("--only: \"id\" is none of {words}")]),
        (
            &["--only=kind=maps,owner_kind=Pod"],
            vec![
                "--only: kind=maps means nothing, since \"maps\" is none of program, map, link, btf"
                    .to_owned(),
                "--only: owner_kind=Pod means nothing, since \"Pod\" is none of pod, container, unit, process, pin, kernel"
                    .to_owned(),
            ],
        ),
        (
            &["--per-object=no", "--max-series=0"],
            vec![
                "--per-object: \"no\" is neither on nor off".to_owned(),
                "--max-series: \"0\" is not a number of series, 1 or more".to_owned(),
            ],
        ),
        (&["--max-series", "-5"], vec!["--max-series: \"-5\" is not a number of series, 1 or more".to_owned()]),
        (&["--max-series=5k"], vec!["--max-series: \"5k\" is not a number of series, 1 or more".to_owned()]),
    ] {
        assert_eq!(mistakes(arguments, &[]), expected);
        let of_snapshot: Vec<&str> = std::iter::once("snapshot").chain(arguments.iter().copied()).collect();
        assert_eq!(mistakes(&of_snapshot, &[]), expected, "the same of snapshot");
    }
}

#[test]
fn rules_without_objects_are_a_warning() {
    let warnings = |arguments: &[&str]| match parse_with(arguments, &[]) {
        Ok(Asked::Do { warnings, .. }) => warnings,
        other => panic!("not something to do: {other:?}"),
    };
    let odd = warnings(&["--per-object=off", "--except=kind=map"]);
    assert_eq!(odd, ["--only and --except change nothing: --per-object off leaves out all objects"]);
    assert!(warnings(&["--per-object=off", "--max-series=10"]).is_empty());
}
