mod logs;
mod otel;

use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use super::*;
use crate::export::otlp::settings::{Compression, CompressionPolicy, Destination, Endpoint, Protocol};
use crate::kernel::{ReaderChoice, RunStatsMode};
use crate::metrics::columns::{Filter, Sort, TableKind};
use crate::metrics::select::{Key, Rule};
use crate::model::ReaderKind;

fn parse_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, ConfigErrors> {
    let arguments = std::iter::once(PROGRAM).chain(arguments.iter().copied()).map(OsString::from);
    let parsed =
        parse(arguments.collect(), variables.iter().map(|&(name, value)| (name.into(), value.into())));
    // They name what has set them; the options are the same whatever that is.
    parsed.map(|invocation| match invocation {
        Invocation::Run { command, log, warnings, .. } => {
            Invocation::Run { command, log, warnings, settings: Vec::new() }
        }
        other @ Invocation::Print(_) => other,
    })
}

fn export_with(arguments: &[&str], variables: &[(&str, &str)]) -> Export {
    match parse_with(arguments, variables) {
        Ok(Invocation::Run { command: Command::Export(export), .. }) => *export,
        other => panic!("no exporter: {other:?}"),
    }
}

fn push_with(arguments: &[&str], variables: &[(&str, &str)]) -> Push {
    export_with(arguments, variables).push.expect("it pushes")
}

/// The only receiver.
fn destination_with(arguments: &[&str], variables: &[(&str, &str)]) -> Destination {
    let [destination] = &push_with(arguments, variables).destinations[..] else { panic!("one receiver") };
    destination.clone()
}

/// Every receiver as the log names it.
fn receivers(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    let destinations = push_with(arguments, variables).destinations;
    destinations.iter().map(|destination| destination.endpoint.url()).collect()
}

fn errors(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    parse_with(arguments, variables).expect_err("something is wrong").lines
}

#[test]
fn everything_has_a_default() {
    let export = export_with(&[], &[]);
    assert_eq!(export.web.listen, [ListenAddress::Tcp { host: Some("127.0.0.1".into()), port: 10048 }]);
    assert_eq!(export.console, None);
    let push = export.push.expect("it pushes");
    assert_eq!((push.interval, push.interval_timeout), (Duration::from_secs(10), None));
    assert_eq!((push.max_request, push.backlog_dir), (3_670_016, None), "3.5 MiB");
    let [destination] = &push.destinations[..] else { panic!("one receiver") };
    assert_eq!(destination.endpoint.url(), "http://localhost:4317");
    assert_eq!((destination.protocol, destination.configured), (Protocol::Grpc, false));
    assert_eq!(destination.timeout, Duration::from_secs(10));
    assert_eq!((destination.compression, &destination.proxy), (Compression::None.into(), &None));
}

#[test]
fn a_switch_with_a_value_has_that_value() {
    for flag in ["web.systemd-socket", "web.created-timestamps", "web.page", "least-privilege"] {
        let with = |given: String| format!("{:?}", export_with(&[&given], &[]));
        let (on, off) = (with(format!("--{flag}=true")), with(format!("--{flag}=false")));
        assert_ne!(on, off, "{flag}");
        assert_eq!(with(format!("--{flag}")), on, "{flag}");
        assert!([on, off].contains(&format!("{:?}", export_with(&[], &[]))), "{flag}");
    }
}

#[test]
fn a_receiver_over_grpc_is_a_host_a_url_or_a_socket() {
    for (given, endpoint) in [
        ("collector", "http://collector:4317"),
        ("collector:1234", "http://collector:1234"),
        ("[::1]:4317", "http://[::1]:4317"),
        ("http://collector:4317", "http://collector:4317"),
        ("HTTP://collector:4317/", "http://collector:4317"),
        ("https://collector", "https://collector:443"),
        ("http://[fe80::1%25eth0]:1", "http://[fe80::1%eth0]:1"),
        ("[fe80::1%eth0]:1", "http://[fe80::1%eth0]:1"),
        ("unix:/run/otlp.sock", "unix:/run/otlp.sock"),
        ("UNIX:///run/otlp.sock", "unix:/run/otlp.sock"),
        ("unix:otlp.sock", "unix:otlp.sock"),
        ("dns:collector:1", "http://collector:1"),
        ("dns:///collector", "http://collector:4317"),
    ] {
        for flag in ["--otlp-grpc", "--otel-grpc"] {
            let destination = destination_with(&[flag, given], &[]);
            assert_eq!(destination.endpoint.url(), endpoint, "{flag} {given}");
            assert_eq!((destination.protocol, destination.configured), (Protocol::Grpc, true));
        }
    }
    for none in ["--otlp-grpc", "--otlp-http"] {
        assert!(export_with(&[none, "none"], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x")]).push.is_none());
    }
}

#[test]
fn a_receiver_over_http_is_a_url_with_the_path_of_metrics_or_its_own() {
    for (given, endpoint) in [
        ("collector", "http://collector:4318/v1/metrics"),
        ("http://collector:1234/", "http://collector:1234/v1/metrics"),
        ("https://collector/otlp/v1/metrics", "https://collector:443/otlp/v1/metrics"),
        ("HTTPS://[::1]", "https://[::1]:443/v1/metrics"),
    ] {
        let destination = destination_with(&["--otlp-http", given], &[]);
        assert_eq!(destination.endpoint.url(), endpoint);
        assert_eq!((destination.protocol, destination.configured), (Protocol::HttpProtobuf, true));
    }
    let socket = Endpoint::Unix { socket: "/run/otlp.sock".into(), path: "/v1/metrics".to_owned() };
    assert_eq!(destination_with(&["--otlp-http=unix:/run/otlp.sock"], &[]).endpoint, socket);
}

#[test]
fn there_are_as_many_receivers_as_flags_give() {
    let flags = ["--otlp-grpc=a", "--otlp-http=http://b", "--otlp-grpc=https://c:1"];
    let all = ["http://a:4317", "https://c:1", "http://b:4318/v1/metrics"];
    assert_eq!(receivers(&flags, &[]), all);
    let variables =
        [("BPF_METRICS_EXPORTER_OTLP_GRPC", "a,https://c:1"), ("BPF_METRICS_EXPORTER_OTLP_HTTP", "http://b")];
    assert_eq!(receivers(&[], &variables), all);
    assert_eq!(receivers(&["--otlp-grpc=none", "--otlp-http=b"], &[]), ["http://b:4318/v1/metrics"]);
    assert_eq!(
        errors(&["--otlp-grpc=a", "--otlp-grpc=http://a:4317"], &[]),
        ["the receiver http://a:4317 is given twice"]
    );
    assert_eq!(
        errors(&["--otlp-grpc=a", "--otlp-grpc=none"], &[]),
        ["--otlp-grpc: none and another value exclude each other"]
    );
    let many: Vec<_> = (0..17).map(|number| format!("--otlp-grpc=host{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(errors(&many, &[]), ["17 receivers are more than 16"]);
    assert_eq!(receivers(&many[..16], &[]).len(), 16);
}

#[test]
fn a_receiver_is_configured_if_a_flag_or_a_variable_gives_it() {
    let is_configured = |arguments: &[&str], variables: &[(&str, &str)]| {
        let destination = destination_with(arguments, variables);
        assert_eq!(destination.endpoint.url(), "http://localhost:4317", "the same receiver in each case");
        destination.configured
    };
    assert!(!is_configured(&[], &[]));
    assert!(!is_configured(&["--interval", "5s"], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]));
    assert!(is_configured(&["--otlp-grpc", "localhost:4317"], &[]));
    for variable in [
        "BPF_METRICS_EXPORTER_OTLP_GRPC",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ] {
        assert!(is_configured(&[], &[(variable, "http://localhost:4317")]), "{variable}");
    }
}

#[test]
fn flags_win_over_variables_and_signal_specific_variables_over_general_ones() {
    let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:1");
    let special = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://special:2");
    assert_eq!(receivers(&["--otlp-grpc", "flag:3"], &[general, special]), ["http://flag:3"]);
    assert_eq!(receivers(&["--otlp-http", "flag:3"], &[general, special]), ["http://flag:3/v1/metrics"]);
    assert_eq!(receivers(&[], &[general, special]), ["http://special:2"]);
    assert_eq!(receivers(&[], &[general, (special.0, "")]), ["http://general:1"], "empty is not set");
    let interval = [("OTEL_METRIC_EXPORT_INTERVAL", "60000")];
    assert_eq!(push_with(&[], &interval).interval, Duration::from_mins(1));
    assert_eq!(push_with(&["--interval", "1m 30s"], &interval).interval, Duration::from_secs(90));
}

#[test]
fn requests_are_compressed_beyond_this_host() {
    let compression = |arguments: &[&str]| destination_with(arguments, &[]).compression;
    for local in
        ["localhost", "LOCALHOST:1", "a.localhost", "127.8.9.1", "[::1]", "[::ffff:127.0.0.1]:1", "unix:/s"]
    {
        assert_eq!(compression(&["--otlp-grpc", local]), Compression::None.into(), "{local}");
    }
    for remote in ["collector", "128.0.0.1", "[::2]", "localhost.example", "https://a"] {
        assert_eq!(compression(&["--otlp-grpc", remote]), CompressionPolicy::Negotiated, "{remote}");
    }
    assert_eq!(compression(&["--otlp-grpc=a", "--otlp-compression=none"]), Compression::None.into());
    assert_eq!(compression(&["--otlp-grpc=a", "--otlp-compression=gzip"]), Compression::Gzip.into());
    assert_eq!(compression(&["--otlp-grpc=[::1]", "--otlp-compression=zstd"]), Compression::Zstd.into());
}

#[test]
fn the_name_of_the_node_comes_from_the_flag_or_the_variables() {
    let node = |arguments: &[&str], variables: &[(&str, &str)]| {
        let Resource { node_name, default_node_name, .. } = export_with(arguments, variables).resource;
        (node_name, default_node_name)
    };
    let name = |name: &str| Some(name.to_owned());
    let (pod, own) = (("NODE_NAME", "pod"), ("BPF_METRICS_EXPORTER_NODE_NAME", "own"));
    assert_eq!(node(&[], &[]), (None, None));
    assert_eq!(node(&[], &[pod]), (None, name("pod")));
    assert_eq!(node(&[], &[pod, own]), (name("own"), name("pod")));
    assert_eq!(node(&["--node-name=flag"], &[own]), (name("flag"), None));
    let [line] = &errors(&["--host-root=/nowhere"], &[])[..] else { panic!("one mistake") };
    assert_eq!(line, "--host-root: /nowhere does not exist");
}

#[test]
fn all_wrong_values_are_reported_at_once() {
    let lines = errors(
        &[
            "--otlp-grpc",
            "ftp://x",
            "--interval=0s",
            "--web.listen-address=nowhere",
            "--web.listen-address=[::1]:70000",
            "--log.level=loud",
            "--otlp-max-request-bytes=1",
            "--kernel-reader=itre",
            "--netns=none",
            "--bpffs=/nowhere/bpf",
        ],
        &[
            ("BPF_METRICS_EXPORTER_OTLP_BACKLOG_BYTES", "much"),
            ("BPF_METRICS_EXPORTER_HOLDERS", "perhaps"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ],
    );
    for part in [
        "--kernel-reader: \"itre\" is none of auto, iter, walk; did you mean iter?",
        "--netns: \"none\" is none of own, all",
        "--bpffs: /nowhere/bpf does not exist",
        "BPF_METRICS_EXPORTER_OTLP_BACKLOG_BYTES: \"much\" is not a number of bytes",
        "BPF_METRICS_EXPORTER_HOLDERS: \"perhaps\" is neither true nor false",
        "--otlp-grpc: unknown scheme \"ftp\"",
        "--interval: \"0s\" is too short",
        "malformed address \"nowhere\"",
        "\"70000\" is not a port",
        "--log.level: \"loud\"",
        "--otlp-max-request-bytes: \"1\"",
    ] {
        assert_eq!(lines.iter().filter(|line| line.contains(part)).count(), 1, "{part} in {lines:#?}");
    }
    assert_eq!(lines.len(), 11, "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains('\n')));
}

#[test]
fn malformed_receivers_have_their_own_messages() {
    for (given, part) in [
        ("", "the host is missing"),
        (":4317", "the host is missing"),
        ("host:port", "\"port\" is not a port"),
        ("host:", "\"\" is not a port"),
        ("http://host:4318/v1/metrics", "takes no path"),
        ("http://user:hunter2@host", "credentials"),
        ("unix:", "the path of the socket is missing"),
        ("unix://run/otlp.sock", "begins with a slash"),
        ("dns://8.8.8.8", "the name after dns://SERVER/ is missing"),
        ("http://[fe80::1%25]:1", "not a zone"),
        ("http://[fe80::g]:1", "not an IPv6 address"),
        ("a&b:1", "characters that names have not"),
        ("http://host?token=hunter2", "takes no path"),
        ("::1:4317", "IPv6 address needs brackets"),
        ("a host:1", "contains a space"),
        ("grpc://host:1", "unknown scheme"),
    ] {
        let lines = errors(&["--otlp-grpc", given], &[]);
        assert!(lines.len() == 1 && lines[0].contains(part), "{given}: {lines:?}");
        assert!(!lines[0].contains("hunter2"), "{lines:?}");
    }
}

#[test]
fn an_interval_is_from_a_second_to_a_day() {
    for (given, message) in [
        ("10", "\"10\" has no unit: write 10s, or use another of ms, s, m, h"),
        ("-10", "\"-10\" has no unit: write 10s, or use another of ms, s, m, h"),
        ("soon", "\"soon\" is not a duration: write numbers with a unit of ms, s, m, h, as in 10s or 1m 30s"),
        ("3mo", "\"3mo\" is not a duration: write numbers with a unit of ms, s, m, h, as in 10s or 1m 30s"),
        ("-5s", "\"-5s\" is negative"),
        ("999ms", "\"999ms\" is too short: an interval is at least 1s"),
        ("0s", "\"0s\" is too short: an interval is at least 1s"),
        (
            "1000d",
            "\"1000d\" is too long: an interval is at most 24h, since objects that are loaded and unloaded within one are never \
             seen",
        ),
    ] {
        assert_eq!(errors(&["--interval", given], &[]), [format!("--interval: {message}")]);
        let hooks = format!("--hooks-interval={given}");
        assert_eq!(errors(&[&hooks], &[]), [format!("--hooks-interval: {message}")]);
    }
    for (given, seconds) in [("1s", 1), ("1m 30s", 90), ("24h", 86_400), ("1d", 86_400)] {
        assert_eq!(push_with(&["--interval", given], &[]).interval, Duration::from_secs(seconds));
    }
}

#[test]
fn run_statistics_are_on_off_or_sampled() {
    let sample = |window, period| RunStatsMode::Sample {
        window: Duration::from_millis(window),
        period: Duration::from_millis(period),
    };
    let run_stats = |arguments: &[&str]| export_with(arguments, &[]).collection.kernel.run_stats;
    assert_eq!(run_stats(&[]), RunStatsMode::On);
    for (given, expected) in [
        ("on", RunStatsMode::On),
        ("off", RunStatsMode::Off),
        ("sample", sample(1_000, 10_000)),
        ("sample=1s/10s", sample(1_000, 10_000)),
        ("sample=100ms/101ms", sample(100, 101)),
        ("sample=2s/1m 30s", sample(2_000, 90_000)),
    ] {
        assert_eq!(run_stats(&["--run-stats", given]), expected, "{given}");
    }
    for (given, part) in [
        ("", "none of on, off, sample, sample=WINDOW/PERIOD"),
        ("yes", "none of on, off, sample, sample=WINDOW/PERIOD"),
        ("sample=", "not WINDOW/PERIOD"),
        ("sample=1s", "not WINDOW/PERIOD"),
        ("sample=1/10", "has no unit"),
        ("sample=1s/10s/20s", "not a duration"),
        ("sample=99ms/10s", "too short"),
        ("sample=0s/10s", "too short"),
        ("sample=-1s/10s", "negative"),
        ("sample=10s/1s", "leaves no pause"),
        ("sample=10s/10s", "leaves no pause"),
        ("sample=1s/25h", "too long"),
    ] {
        let lines = errors(&["--run-stats", given], &[]);
        assert!(lines.len() == 1 && lines[0].contains(part), "{given}: {lines:?}");
    }
}

#[test]
fn paths_of_other_pages_are_not_for_metrics() {
    for (path, page) in [
        ("/-/metrics", "/-/ is for health"),
        ("/api/v1/events", "/api/ is for events"),
        ("/assets/metrics", "/assets/ is for the page"),
    ] {
        let errors = errors(&["--web.telemetry-path", path], &[]);
        assert!(errors.len() == 1 && errors[0].contains(page), "{errors:?}");
    }
}

#[test]
fn nothing_to_do_is_an_error() {
    let lines = errors(&["--otlp-grpc=none", "--web.listen-address=none"], &[]);
    assert!(lines[0].contains("nothing to do"), "{lines:?}");
    assert_eq!(errors(&["--web.listen-address=none", "--web.listen-address=:1"], &[]).len(), 1);
}

fn snapshot_with(arguments: &[&str], variables: &[(&str, &str)]) -> SnapshotCommand {
    match parse_with(arguments, variables) {
        Ok(Invocation::Run { command: Command::Snapshot(snapshot), .. }) => *snapshot,
        other => panic!("no snapshot: {other:?}"),
    }
}

fn printed(arguments: &[&str]) -> String {
    match parse_with(arguments, &[]) {
        Ok(Invocation::Print(text)) => text,
        other => panic!("no text: {other:?}"),
    }
}

fn warnings(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    match parse_with(arguments, variables) {
        Ok(Invocation::Run { warnings, .. }) => warnings,
        other => panic!("nothing to run: {other:?}"),
    }
}

#[test]
fn snapshot_has_a_format_and_a_file() {
    let SnapshotCommand { format, from, .. } =
        snapshot_with(&["snapshot", "--format", "json", "--from", "x.json"], &[]);
    assert_eq!((format, from), (SnapshotFormat::Json, Some("x.json".into())));
    assert!(
        errors(&["snapshot", "--format=xml"], &[])[0]
            .contains("none of table, json, ndjson, csv, prometheus, series")
    );
    assert!(errors(&["snapshto"], &[])[0].contains("snapshot"));
}

#[test]
fn snapshot_has_a_table_and_its_rows() {
    let SnapshotCommand { view, period, run_stats, recording, output, .. } = snapshot_with(
        &[
            "snapshot",
            "maps",
            "--sort=name:desc",
            "--limit=3",
            "--filter=a mem_bytes>7",
            "--no-own",
            "--wide",
        ],
        &[],
    );
    let name = TableKind::Maps.columns().iter().position(|column| column.field == "name");
    let expected = TableView {
        kind: Some(TableKind::Maps),
        sort: name.map(|column| Sort { column, descending: true }),
        filter: Filter::parse("a mem_bytes>7").without_own(),
        limit: Some(3),
        wide: true,
    };
    assert_eq!(view, expected);
    assert_eq!((period, run_stats, recording, output), (RatePeriod::Default, None, None, None));

    let SnapshotCommand { view, period, run_stats, .. } =
        snapshot_with(&["snapshot", "--for=none", "--run-stats=on"], &[]);
    let overview = TableView { kind: None, sort: None, filter: Filter::default(), limit: None, wide: false };
    assert_eq!((view, period, run_stats), (overview, RatePeriod::None, Some(RunStatsMode::On)));

    let SnapshotCommand { recording, output, .. } =
        snapshot_with(&["snapshot", "--every=200ms", "--count=60", "--format=json", "--output=x"], &[]);
    let every = Duration::from_millis(200);
    assert_eq!((recording, output), (Some(RecordingSettings { every, count: Some(60) }), Some("x".into())));
}

#[test]
fn the_help_of_snapshot_has_every_table() {
    let command = flags::command();
    let snapshot = command.find_subcommand("snapshot").expect("there is one");
    let table = snapshot.get_arguments().find(|arg| arg.get_id() == "TABLE").expect("there is one");
    let help = table.get_help().map(ToString::to_string).expect("it has a help text");
    for kind in TableKind::ALL {
        assert!(help.contains(kind.as_str()), "{help}");
    }
}

#[test]
fn flags_of_snapshot_that_exclude_each_other_are_one_line() {
    for (arguments, line) in [
        (&["progs"][..], "TABLE: \"progs\" is none of programs, maps, links, owners, hooks, orphans, btfs"),
        (&["programs", "maps"], "unexpected argument 'maps' found"),
        (
            &["programs", "--sort=memory"],
            "--sort: programs have no field \"memory\"; there are id, type, name, ",
        ),
        (&["programs", "--sort=name:up"], "--sort: \"up\" is no direction: write FIELD:asc or FIELD:desc"),
        (&["maps", "--filter=size>7"], "--filter: maps have no field \"size\"; there are id, type, name, "),
        (&["--sort=name"], "--sort needs a table: programs, maps, links, owners, hooks, orphans, btfs"),
        (&["--format=csv"], "--format csv needs a table: programs, maps, "),
        (&["maps", "--format=prometheus"], "--format prometheus has every metric; leave out maps, and"),
        (&["maps", "--format=series"], "--format series has every metric; leave out maps, and"),
        (
            &["--limit=3", "--format=json"],
            "--limit selects rows; with --format json it needs a table: programs, ",
        ),
        (
            &["--filter=x", "--format=prometheus"],
            "--filter selects rows; with --format prometheus it needs a",
        ),
        (&["--no-own", "--format=ndjson"], "--no-own selects rows; with --format ndjson it needs a table: "),
        (&["--limit=0"], "--limit: \"0\" is not a number, 1 or more"),
        (&["--limit=-1"], "--limit: \"-1\" is not a number, 1 or more"),
        (&["--every=1s"], "--every records as JSON; give --format json instead of table"),
        (&["maps", "--every=1s", "--format=json"], "--every records whole snapshots; leave out maps"),
        (&["--every=0s", "--format=json"], "--every: \"0s\" is no time at all"),
        (
            &["--every=1s", "--for=1s", "--format=json"],
            "the argument '--every <DURATION>' cannot be used with",
        ),
        (
            &["--every=1s", "--from=x", "--format=json"],
            "the argument '--every <DURATION>' cannot be used with",
        ),
        (&["--for=1s", "--from=x"], "the argument '--for <DURATION>' cannot be used with '--from <FILE>'"),
        (&["--for=0s"], "--for: \"0s\" is no time at all"),
        (&["--count=3"], "--every <DURATION> is missing"),
        (&["--baseline", "programs"], "--baseline is of all programs; leave out programs"),
        (&["--baseline", "--no-own"], "--no-own selects rows of tables; leave it out with --baseline"),
        (&["--baseline", "--for=1s"], "the argument '--baseline' cannot be used with '--for <DURATION>'"),
        (&["--baseline", "--limit=3"], "the argument '--baseline' cannot be used with '--limit <NUMBER>'"),
    ] {
        let errors = errors(&[&["snapshot"], arguments].concat(), &[]);
        assert!(errors.len() == 1 && errors[0].starts_with(line), "{arguments:?}: {errors:?}");
        assert!(!errors[0].contains('\n'), "{arguments:?}: {errors:?}");
    }
}

#[test]
fn snapshot_takes_all_flags_about_reading_on_either_side_of_its_name() {
    let flags = [
        "--kernel-reader=walk",
        "--run-stats=on",
        "--count-by-walking=5",
        "--bpffs=/proc",
        "--hooks-interval=none",
        "--netns=all",
        "--cri-socket=/a",
        "--docker-socket=none",
        "--only=kind=map",
        "--except=name=x",
        "--max-series=7",
        "--no-holders",
        "--no-program-maps",
        "--no-per-object",
        "--log.level=debug",
        "--log.format=json",
    ];
    for arguments in [[&["snapshot"], &flags[..]].concat(), [&flags[..], &["snapshot"]].concat()] {
        let SnapshotCommand { collection: Collection { kernel, enrich, lookup, selection, .. }, .. } =
            snapshot_with(&arguments, &[]);
        assert_eq!(kernel.reader, ReaderChoice::Only(ReaderKind::Walk));
        assert_eq!((kernel.run_stats, kernel.count_by_walking), (RunStatsMode::On, Some(5)));
        assert_eq!(enrich.bpffs, [PathBuf::from("/proc")]);
        assert!(
            enrich.hooks.is_none() && enrich.every_netns && enrich.wait_for_hooks && enrich.pins.is_zero()
        );
        assert_eq!(enrich.holders_share, None, "each reading searches for holders");
        assert_eq!((lookup.cri, lookup.docker), (Sockets::Given(vec!["/a".into()]), Sockets::Given(vec![])));
        assert_eq!((selection.max_series, selection.per_object), (Some(7), false));
    }
    assert_eq!(snapshot_with(&["snapshot"], &[]).collection.kernel.run_stats, RunStatsMode::Off);
}

fn events_with(arguments: &[&str], variables: &[(&str, &str)]) -> EventsCommand {
    match parse_with(&[&["events"], arguments].concat(), variables) {
        Ok(Invocation::Run { command: Command::Events(events), .. }) => *events,
        other => panic!("{other:?}"),
    }
}

#[test]
fn events_takes_flags_of_what_to_read_and_what_to_print() {
    let default = events_with(&[], &[]);
    assert_eq!((default.format, default.duration), (EventsFormat::Text, None));
    assert_eq!(default.filter, EventFilter::default());
    assert_eq!((default.interval, default.enrich.pins), (EVENTS_INTERVAL, EVENTS_INTERVAL));
    assert_eq!(default.kernel.run_stats, RunStatsMode::Off);
    let given = events_with(
        &[
            "--format=ndjson",
            "--for=90s",
            "--kind=bpf.map.*",
            "--kind=*.load",
            "--only=kind=map,name=a",
            "--except=owner=b",
            "--kernel-reader=walk",
            "--hooks-interval=none",
            "--cri-socket=none",
            "--log.level=debug",
        ],
        &[],
    );
    assert_eq!((given.format, given.duration), (EventsFormat::Ndjson, Some(Duration::from_secs(90))));
    assert_eq!(given.filter.kinds, ["bpf.map.*", "*.load"]);
    assert_eq!((given.filter.only.len(), given.filter.except.len()), (1, 1));
    assert_eq!(given.kernel.reader, ReaderChoice::Only(ReaderKind::Walk));
    assert_eq!((given.enrich.hooks, given.lookup.cri), (None, Sockets::Given(Vec::new())));
    let by_variable = events_with(&[], &[("BPF_METRICS_EXPORTER_FOR", "2m")]);
    assert_eq!(by_variable.duration, Some(Duration::from_mins(2)));
    for flag in ["--max-series=1", "--run-stats=on", "--min-age=1s", "--otlp-grpc=x"] {
        let errors = errors(&["events", flag], &[]);
        assert!(errors.len() == 1 && errors[0].starts_with("unexpected argument"), "{errors:?}");
    }
}

fn top_with(arguments: &[&str], variables: &[(&str, &str)]) -> TopCommand {
    match parse_with(&[&["top"], arguments].concat(), variables) {
        Ok(Invocation::Run { command: Command::Top(top), .. }) => *top,
        other => panic!("{other:?}"),
    }
}

#[test]
fn top_reads_the_host_a_recording_or_another_exporter() {
    let TopCommand { readings, every } = top_with(&["--kernel-reader=walk", "--every=3s"], &[]);
    let TopReadings::Host { kernel, enrich, .. } = readings else { panic!("{readings:?}") };
    assert_eq!((every, enrich.pins), (Duration::from_secs(3), Duration::from_secs(3)));
    assert_eq!((kernel.reader, kernel.run_stats), (ReaderChoice::Only(ReaderKind::Walk), RunStatsMode::On));
    assert!(kernel.events.is_some());
    let TopCommand { readings, every } = top_with(&["--from=host.ndjson"], &[]);
    assert!(matches!(readings, TopReadings::Recording(file) if file == Path::new("host.ndjson")));
    assert_eq!(every, Duration::from_secs(1));
    let exporter = |url: &str| match top_with(&[], &[("BPF_METRICS_EXPORTER_URL", url)]).readings {
        TopReadings::Exporter(destination) => (destination.endpoint.url(), destination.headers.0),
        other => panic!("{other:?}"),
    };
    for (url, expected) in [
        ("node-7", "http://node-7:10048/api/v1/snapshot"),
        ("https://node-7/", "https://node-7:10048/api/v1/snapshot"),
        ("http://[::1]:80/bpf/", "http://[::1]:80/bpf/api/v1/snapshot"),
        ("http://node-7:80/api/v1/snapshot", "http://node-7:80/api/v1/snapshot"),
        ("unix:/run/bpf.sock", "unix:/run/bpf.sock"),
    ] {
        assert_eq!(exporter(url), (expected.to_owned(), Vec::new()), "{url}");
    }
    let (url, headers) = exporter("https://Aladdin:open%20sesame@node-7:443");
    assert_eq!(url, "https://node-7:443/api/v1/snapshot");
    let basic = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned();
    assert_eq!(headers, [("authorization".to_owned(), basic)]);
    // The password is open@sesame?.
    for given in ["http://Aladdin:open@sesame?@node-7", "http://Aladdin:open%40sesame%3F@node-7"] {
        let basic = "Basic QWxhZGRpbjpvcGVuQHNlc2FtZT8=".to_owned();
        assert_eq!(exporter(given).1, [("authorization".to_owned(), basic)], "{given}");
    }
    assert_eq!(exporter("unix:/run/a@b.sock").0, "unix:/run/a@b.sock");
    for given in ["http://u:sec/ret@host", "u:sec/r@et@host", "https://u:/secret@host:80/path"] {
        let errors = errors(&["top", "--url", given], &[]);
        let [error] = &*errors else { panic!("{given}: {errors:?}") };
        assert!(error.contains("--url") && error.contains("write / as %2F, @ as %40"), "{error}");
        assert!(!error.contains("sec") && !error.contains("OTEL") && !error.contains('\n'), "{error}");
    }
    let shown = format!("{:?}", top_with(&["--url=http://u:secret@host"], &[]));
    assert!(!shown.contains("secret"), "{shown}");
    assert!(!errors(&["top", "--url=host", "--from=file"], &[]).is_empty());
}

#[test]
fn healthy_queries_the_exporter_of_its_flags_or_of_a_url() {
    let parsed = |arguments: &[&str], variables: &[(&str, &str)]| match parse_with(
        &[&["healthy"], arguments].concat(),
        variables,
    ) {
        Ok(Invocation::Run { command: Command::Healthy(healthy), .. }) => healthy,
        other => panic!("{other:?}"),
    };
    let HealthyCommand { target, timeout, live: false } =
        parsed(&["--timeout=1s"], &[("BPF_METRICS_EXPORTER_WEB_CONFIG_FILE", "web.yml")])
    else {
        panic!("--live is not given")
    };
    let HealthTarget::Own { listen, systemd_socket: false, is_protected: true } = target else {
        panic!("{target:?}")
    };
    assert_eq!(listen, [ListenAddress::Tcp { host: Some("127.0.0.1".to_owned()), port: 10048 }]);
    assert_eq!(timeout, Duration::from_secs(1));
    let HealthyCommand { target, .. } = parsed(&["--url=https://u:secret@node-7/bpf/"], &[]);
    assert!(!format!("{target:?}").contains("secret"));
    let HealthTarget::Url(exporter) = target else { panic!("{target:?}") };
    assert_eq!((&*exporter.endpoint.url(), exporter.headers.0.len()), ("https://node-7:10048/bpf", 1));
    assert_eq!(exporter.proxy, None, "it is not queried through a proxy");
    assert!(parsed(&["--live"], &[]).live && parsed(&[], &[("BPF_METRICS_EXPORTER_LIVE", "true")]).live);
    assert!(!errors(&["healthy", "--web.telemetry-path=/x"], &[]).is_empty());
}

#[test]
fn flags_before_a_subcommand_that_does_not_take_them_are_refused() {
    assert_eq!(
        errors(&["--otlp-grpc", "x", "--interval=5s", "snapshot", "--format=json"], &[]),
        ["--otlp-grpc", "--interval"].map(|flag| format!("{flag} does not apply to the subcommand snapshot"))
    );
    assert_eq!(
        errors(&["--no-holders", "completions", "bash"], &[]),
        ["--no-holders does not apply to the subcommand completions"]
    );
    assert_eq!(
        errors(&["--log.level=info", "man"], &[]),
        ["--log.level does not apply to the subcommand man"]
    );
    assert!(errors(&["snapshot", "--otlp-grpc=x"], &[])[0].contains("unexpected argument '--otlp-grpc'"));
    assert_eq!(
        errors(&["--log.level=info", "snapshot", "--log.level=debug"], &[]),
        ["the argument '--log.level <LEVEL>' cannot be used multiple times; --help lists all flags"]
    );
}

#[test]
fn an_unknown_flag_is_reported_with_the_nearest_one() {
    assert_eq!(
        errors(&["--intervall=5", "--log.level=loud"], &[]),
        ["unexpected argument '--intervall' found; a similar argument exists: '--interval'"]
    );
}

#[test]
fn help_and_version_are_printed() {
    assert!(printed(&["--help"]).contains("--otlp-grpc"));
    assert_eq!(printed(&["-V"]), concat!("bpf-metrics-exporter ", env!("CARGO_PKG_VERSION"), "\n"));
    let version = printed(&["--version"]);
    assert_eq!(version.lines().count(), 4);
    for part in [env!("CARGO_PKG_VERSION"), "revision: ", "rustc: 1.", "target: "] {
        assert!(version.contains(part), "{version}");
    }
}

#[test]
fn completions_and_manual_pages_have_every_flag() {
    let shells = ["bash", "elvish", "fish", "powershell", "zsh"];
    let scripts = shells.map(|shell| printed(&["completions", shell]));
    let page = printed(&["man"]).replace('\\', "");
    for flag in
        flags::command().get_arguments().filter_map(|arg| arg.get_long().filter(|_| !arg.is_hide_set()))
    {
        // fish has the dashes apart.
        assert!(scripts.iter().all(|script| script.contains(flag)), "{flag}");
        assert!(page.contains(&format!("--{flag}")), "{flag}");
    }
    let page = printed(&["man", "snapshot"]).replace('\\', "");
    assert!(page.contains(".TH bpf-metrics-exporter-snapshot 1") && page.contains("--from"), "{page}");
    let page = printed(&["man", "events"]).replace('\\', "");
    assert!(page.contains(".TH bpf-metrics-exporter-events 1") && page.contains("--for"), "{page}");
    assert!(errors(&["completions"], &[])[0].contains("<SHELL> is missing"));
    assert!(errors(&["completions", "fsh"], &[])[0].contains("did you mean fish?"));
}

/// A value other than the default for each flag that takes one.
const OTHER: [(&str, &str); 39] = [
    ("otlp-grpc", "collector:1"),
    ("otlp-http", "http://collector:1"),
    ("otlp-compression", "zstd"),
    ("otlp-backlog-dir", "/proc"),
    ("interval", "11s"),
    ("unchanged-interval", "61s"),
    ("otlp-max-request-bytes", "70000"),
    ("otlp-backlog-bytes", "1"),
    ("web.listen-address", ":1"),
    ("web.systemd-socket", "true"),
    ("web.config.file", "/etc/web.yml"),
    ("web.telemetry-path", "/scrape"),
    ("web.max-requests", "7"),
    ("web.allowed-hosts", "*.example.com"),
    ("web.socket-mode", "0600"),
    ("web.created-timestamps", "true"),
    ("web.page", "false"),
    ("user", "65534:65534"),
    ("least-privilege", "true"),
    ("events-per-second", "7"),
    ("baseline", "/etc/baseline.txt"),
    ("node-name", "node-1"),
    ("host-root", "/proc"),
    ("kernel-reader", "walk"),
    ("run-stats", "sample=2s/3s"),
    ("count-by-walking", "2"),
    ("bpffs", "/proc"),
    ("hooks-interval", "61s"),
    ("netns", "all"),
    ("cri-socket", "/cri"),
    ("docker-socket", "/docker"),
    ("only", "kind=map,name=a"),
    ("except", "kind=link"),
    ("min-age", "1m"),
    ("include-metrics", "bpf_map_*"),
    ("exclude-metrics", "bpf_map_info"),
    ("max-series", "3"),
    ("log.level", "debug"),
    ("log.format", "json"),
];

#[test]
fn every_flag_has_a_variable_with_the_same_effect() {
    let result =
        |arguments: &[&str], variables: &[(&str, &str)]| format!("{:?}", parse_with(arguments, variables));
    let default = result(&[], &[]);
    let command = flags::command();
    for arg in command.get_arguments().filter(|arg| flags::variable(arg).is_some()) {
        let long = arg.get_long().expect("it has a name");
        let variable = flags::variable(arg).expect("it has one");
        let (by_flag, value) = match OTHER.iter().find(|(flag, _)| *flag == long) {
            Some((_, value)) => (format!("--{long}={value}"), *value),
            None => (format!("--{long}"), "false"),
        };
        let expected = result(&[&by_flag], &[]);
        assert_ne!(expected, default, "{long}");
        assert_eq!(result(&[], &[(&variable, value)]), expected, "{variable}");
        assert_eq!(result(&[], &[(&variable, "")]), default, "an empty {variable} counts as unset");
        let help = arg.get_long_help().map(ToString::to_string);
        assert!(help.is_some_and(|help| help.contains(&variable)), "{variable} is in the help");
    }
    let names: Vec<_> = command.get_arguments().filter_map(flags::variable).collect();
    assert_eq!(names.len(), OTHER.len() + 9, "all but --help and --version: {names:?}");
    let snapshot = command.find_subcommand("snapshot").expect("there is one");
    let own = snapshot.get_arguments().filter_map(flags::variable).filter(|name| !names.contains(name));
    let own: Vec<_> = own.map(|name| name.replace("BPF_METRICS_EXPORTER_", "")).collect();
    let expected =
        ["FORMAT", "FOR", "EVERY", "COUNT", "SORT", "LIMIT", "FILTER", "OWN", "WIDE", "OUTPUT", "FROM"];
    assert_eq!(own, expected);
    let format = snapshot_with(&["snapshot"], &[("BPF_METRICS_EXPORTER_FORMAT", "json")]).format;
    assert_eq!(format, SnapshotFormat::Json);
}

#[test]
fn the_command_line_wins_over_own_variables_and_those_over_otel() {
    let own = ("BPF_METRICS_EXPORTER_INTERVAL", "20s");
    let otel = ("OTEL_METRIC_EXPORT_INTERVAL", "30000");
    let interval =
        |arguments: &[&str], variables: &[(&str, &str)]| push_with(arguments, variables).interval.as_secs();
    assert_eq!(interval(&["--interval=10s"], &[own, otel]), 10);
    assert_eq!(interval(&[], &[own, otel]), 20);
    assert_eq!(interval(&[], &[otel]), 30);
    let holders = |arguments: &[&str], value| {
        selection_with(arguments, &[("BPF_METRICS_EXPORTER_PER_OBJECT", value)]).per_object
    };
    assert!(!holders(&[], "false") && holders(&[], "true"));
    assert!(holders(&["--per-object"], "false") && !holders(&["--no-per-object"], "true"));
    assert!(!selection_with(&["--per-object", "--no-per-object"], &[]).per_object, "the last one wins");
    assert!(selection_with(&["--no-per-object", "--per-object"], &[]).per_object, "the last one wins");
}

#[test]
fn lists_in_variables_are_separated() {
    let export = export_with(
        &[],
        &[
            ("BPF_METRICS_EXPORTER_WEB_LISTEN_ADDRESS", ":1, [::1]:2"),
            ("BPF_METRICS_EXPORTER_CRI_SOCKET", "unix:///a,/b"),
            ("BPF_METRICS_EXPORTER_ONLY", "kind=map,name=a; kind=program;"),
        ],
    );
    assert_eq!(export.web.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), [":1", "[::1]:2"]);
    let Collection { lookup, selection, .. } = export.collection;
    assert_eq!(lookup.cri, Sockets::Given(vec!["/a".into(), "/b".into()]));
    assert_eq!(selection.only.iter().map(|rule| rule.terms.len()).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn unknown_variables_are_warned_of_with_the_nearest_name() {
    assert_eq!(
        warnings(
            &[],
            &[("BPF_METRICS_EXPORTER_LOG_LEVLE", "debug"), ("BPF_METRICS_EXPORTER_LOG_LEVEL", "warn")]
        ),
        ["unknown environment variable BPF_METRICS_EXPORTER_LOG_LEVLE is ignored; did you mean \
             BPF_METRICS_EXPORTER_LOG_LEVEL?"]
    );
    // Variables of the other command are known, and so are those that Kubernetes sets for a Service of this name.
    for (name, value) in [
        ("BPF_METRICS_EXPORTER_FORMAT", "json"),
        ("BPF_METRICS_EXPORTER_SERVICE_HOST", "10.0.0.1"),
        ("BPF_METRICS_EXPORTER_SERVICE_PORT_METRICS", "10048"),
        ("BPF_METRICS_EXPORTER_PORT", "tcp://10.0.0.1:10048"),
        ("BPF_METRICS_EXPORTER_PORT_10048_TCP_ADDR", "10.0.0.1"),
    ] {
        assert_eq!(warnings(&[], &[(name, value)]), [""; 0], "{name}");
    }
    assert_eq!(warnings(&["snapshot"], &[("BPF_METRICS_EXPORTER_OTLP_GRPC", "x")]), [""; 0]);
}

#[test]
fn values_that_are_not_utf8_are_reported() {
    let bad = || OsString::from_vec(b"\xff".to_vec());
    let mut flag = OsString::from("--interval=");
    flag.push(bad());
    let lines = parse(vec![PROGRAM.into(), flag], []).expect_err("it is wrong").lines;
    assert_eq!(lines, ["--interval: the value is not UTF-8"]);
    let variables = [
        ("BPF_METRICS_EXPORTER_INTERVAL", "BPF_METRICS_EXPORTER_INTERVAL: the value is not UTF-8"),
        ("NODE_NAME", "NODE_NAME: the value is not UTF-8"),
    ];
    for (name, line) in variables {
        let lines = parse(vec![PROGRAM.into()], [(name.into(), bad())]).expect_err("it is wrong").lines;
        assert_eq!(lines, [line]);
    }
    assert!(parse(vec![PROGRAM.into(), bad()], []).is_err());
}

fn selection_with(arguments: &[&str], variables: &[(&str, &str)]) -> Selection {
    export_with(arguments, variables).collection.selection
}

#[test]
fn rules_are_terms_that_all_hold() {
    assert_eq!(selection_with(&[], &[]), Selection::default());
    let fewer = Selection { program_maps: false, holders: false, ..Selection::default() };
    assert_eq!(selection_with(&["--no-program-maps", "--no-holders"], &[]), fewer);
    let rule = |terms: &[(Key, &str)]| Rule {
        terms: terms.iter().map(|&(key, pattern)| (key, pattern.to_owned())).collect(),
    };
    let given = selection_with(
        &[
            "--only=kind=map,type=lru_hash",
            "--only",
            "owner=kube-system/*,owner_kind=pod",
            "--except",
            "name=",
            "--per-object",
            "--max-series=5000",
        ],
        &[],
    );
    let expected = Selection {
        only: vec![
            rule(&[(Key::Kind, "map"), (Key::Type, "lru_hash")]),
            rule(&[(Key::Owner, "kube-system/*"), (Key::OwnerKind, "pod")]),
        ],
        except: vec![rule(&[(Key::Name, "")])],
        per_object: true,
        max_series: Some(5000),
        ..Selection::default()
    };
    assert_eq!(given, expected);
    let pattern_with_equals_sign = selection_with(&["--only=owner=a=b,kind=m*"], &[]).only;
    assert_eq!(pattern_with_equals_sign, [rule(&[(Key::Owner, "a=b"), (Key::Kind, "m*")])]);
    for type_name in ["lru_*", "1234", "xdp"] {
        assert_eq!(selection_with(&[&format!("--only=type={type_name}")], &[]).only.len(), 1, "{type_name}");
    }
}

#[test]
fn every_bad_term_is_a_line() {
    let keys = "kind, type, name, owner, owner_kind";
    for (arguments, expected) in [
        (
            &["--only="][..],
            vec![format!("--only: the term \"\" is not KEY=PATTERN, with one of {keys} for KEY")],
        ),
        (
            &["--only=kind=map,", "--except=maps"],
            vec![
                format!("--only: the term \"\" is not KEY=PATTERN, with one of {keys} for KEY"),
                format!("--except: the term \"maps\" is not KEY=PATTERN, with one of {keys} for KEY"),
            ],
        ),
        (&["--only", "id=3"], vec![format!("--only: there is no key \"id\"; there are {keys}")]),
        (
            &["--only=kind=maps,owner_kind=Pod,type=hsah"],
            vec![
                "--only: there is no kind \"maps\"; did you mean map?".to_owned(),
                "--only: there is no owner kind \"Pod\"; did you mean pod?".to_owned(),
                "--only: there is no type \"hsah\"; did you mean hash?".to_owned(),
            ],
        ),
        (&["--only=kind=map,type=xpd"], vec!["--only: there is no map type \"xpd\"".to_owned()]),
        (&["--only=kind=btf,type=hash"], vec!["--only: there is no btf type".to_owned()]),
        (&["--max-series=0"], vec!["--max-series: \"0\" is not a number of series, 1 or more".to_owned()]),
        (
            &["--max-series", "-5"],
            vec!["--max-series: \"-5\" is not a number of series, 1 or more".to_owned()],
        ),
        (
            &["--include-metrics=bpf_prog_info", "--exclude-metrics=go_*"],
            vec![
                "--include-metrics: \"bpf_prog_info\" matches no metric; did you mean bpf_program_info?"
                    .to_owned(),
                "--exclude-metrics: \"go_*\" matches no metric; docs/metrics.md lists them".to_owned(),
            ],
        ),
        (&["--max-series=5k"], vec!["--max-series: \"5k\" is not a number of series, 1 or more".to_owned()]),
    ] {
        let lines = errors(arguments, &[]);
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, expected) in lines.iter().zip(&expected) {
            assert!(line.starts_with(&**expected), "{line} is not {expected}");
        }
        let of_snapshot: Vec<&str> = std::iter::once("snapshot").chain(arguments.iter().copied()).collect();
        assert_eq!(errors(&of_snapshot, &[]), lines, "the same for snapshot");
    }
}

#[test]
fn metrics_are_chosen_by_either_name() {
    let excluded = |arguments: &[&str]| selection_with(arguments, &[]).metrics;
    assert_eq!(excluded(&[]).excluded(), 0);
    assert_eq!(
        excluded(&[
            "--exclude-metrics=bpf_map_mem_bytes",
            "--exclude-metrics",
            "bpf_program_run_time_seconds_total"
        ]),
        excluded(&["--exclude-metrics=bpf_map_mem_*", "--exclude-metrics=bpf_program_run_time"]),
    );
    assert_ne!(excluded(&["--include-metrics=bpf_map_*"]), excluded(&["--exclude-metrics=bpf_map_*"]));
    for nothing in [&["--exclude-metrics=*"][..], &["--include-metrics=bpf_map_*", "--exclude-metrics=bpf_*"]]
    {
        let [line] = &errors(nothing, &[])[..] else { panic!("one mistake") };
        assert!(line.contains("leave nothing to do"), "{line}");
    }
}

#[test]
fn rules_without_objects_are_a_warning() {
    assert_eq!(
        warnings(&["--no-per-object", "--except=kind=map"], &[]),
        ["--only, --except and --min-age have no effect with --no-per-object"]
    );
    assert_eq!(warnings(&["--no-per-object", "--min-age=1m"], &[]).len(), 1);
    assert_eq!(warnings(&["--no-per-object", "--max-series=10"], &[]), [""; 0]);
}

#[test]
fn json_keeps_the_maps_of_programs_with_a_warning() {
    let flags = ["snapshot", "--no-program-maps", "--format"];
    assert_eq!(
        warnings(&[&flags[..], &["json"]].concat(), &[]),
        ["--no-program-maps has no effect with --format json"]
    );
    assert_eq!(
        warnings(&[&flags[..], &["table"]].concat(), &[]),
        ["--no-program-maps has no effect with --format table"]
    );
    assert_eq!(warnings(&[&flags[..], &["series"]].concat(), &[]), [""; 0]);
    assert_eq!(warnings(&["snapshot", "--no-holders", "--format=json"], &[]), [""; 0]);
    assert_eq!(
        warnings(&["snapshot", "--exclude-metrics=bpf_map_*", "--format=json"], &[]),
        ["--include-metrics and --exclude-metrics have no effect with --format json"]
    );
}
