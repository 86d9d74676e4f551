//! `docs/troubleshooting.md` has every message with which the program warns or gives up, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::source::{Source, Text, words};

const PAGE: &str = "docs/troubleshooting.md";

/// Macros and functions of which the first text is a message that ends the program, or a part of one.
const ERRORS: [&str; 6] = ["bail!(", "anyhow!(", ".context(", ".with_context(", "complain(", "#[error("];

/// Files of which every text is part of a message.
const MESSAGE_FILES: [&str; 16] = [
    "src/baseline.rs",
    "src/cli/arguments.rs",
    "src/cli/endpoint.rs",
    "src/cli/environment.rs",
    "src/cli/mod.rs",
    "src/cli/proxy.rs",
    "src/cli/push.rs",
    "src/cli/push/logs.rs",
    "src/cli/rules.rs",
    "src/cli/snapshot.rs",
    "src/cli/values.rs",
    "src/sandbox/user.rs",
    "src/web/config/file.rs",
    "src/web/config/mod.rs",
    "src/web/config/tls.rs",
    "src/web/listen.rs",
];

/// Where a text comes from that is logged as it is.
#[derive(Clone, Copy)]
enum Origin {
    /// The texts of a function.
    Function(&'static str, &'static str),
    /// The texts of files that are read anyway: those above, and every error type.
    Read,
}

/// Calls that log a text from elsewhere: the file, the arguments, and the origin.
const RELAYS: [(&str, &str, Origin); 15] = [
    ("src/bin/bpf-metrics-exporter/doctor.rs", "{warning}", Origin::Read),
    ("src/bin/bpf-metrics-exporter/endpoint.rs", "{warning}", Origin::Read),
    ("src/bin/bpf-metrics-exporter/events.rs", "{warning}", Origin::Read),
    ("src/bin/bpf-metrics-exporter/serve.rs", "{warning}", Origin::Read),
    ("src/bin/bpf-metrics-exporter/snapshot.rs", "{warning}", Origin::Read),
    ("src/bin/bpf-metrics-exporter/snapshot.rs", "{error}", Origin::Read),
    ("src/web/config/mod.rs", "{warning}", Origin::Read),
    (MESSAGES, "{}, clock_was_set(before, snapshot.clock)", Origin::Function(MESSAGES, "clock_was_set")),
    (MESSAGES, "{}, missing_socket(flag, path)", Origin::Function(MESSAGES, "missing_socket")),
    (MESSAGES, "{message}", Origin::Function("src/model/feature.rs", "message")),
    (
        "src/bin/bpf-metrics-exporter/events.rs",
        "{}, messages::issue(issue)",
        Origin::Function(MESSAGES, "issue"),
    ),
    (
        "src/bin/bpf-metrics-exporter/recording.rs",
        "{}, messages::issue(issue)",
        Origin::Function(MESSAGES, "issue"),
    ),
    (
        "src/bin/bpf-metrics-exporter/snapshot.rs",
        "{}, messages::issue(issue)",
        Origin::Function(MESSAGES, "issue"),
    ),
    (
        "src/bin/bpf-metrics-exporter/snapshot.rs",
        "{}, messages::dropped_series(dropped)",
        Origin::Function(MESSAGES, "dropped_series"),
    ),
    ("src/bin/bpf-metrics-exporter/snapshot.rs", "{message}", Origin::Function(MESSAGES, "no_sample")),
];

const MESSAGES: &str = "src/bin/bpf-metrics-exporter/messages.rs";

/// Functions that make messages for others to log or to end with.
const MAKERS: [(&str, &str); 14] = [
    (MESSAGES, "internal_error"),
    (MESSAGES, "not_listening"),
    (MESSAGES, "not_permitted"),
    ("src/bin/bpf-metrics-exporter/endpoint.rs", "from_systemd"),
    ("src/export/otlp/deliver/outcomes.rs", "accepted"),
    ("src/export/otlp/deliver/outcomes.rs", "refused"),
    ("src/export/otlp/deliver/outcomes.rs", "not_taken"),
    ("src/export/otlp/deliver/outcomes.rs", "split"),
    (DISK, "new"),
    (DISK, "log"),
    (DISK, "log_read"),
    (DISK, "open"),
    (DISK, "closed"),
    (DISK, "regular"),
];

const DISK: &str = "src/export/otlp/queue/disk/mod.rs";

/// Texts in these places that are no message, but a part of one that the page has.
const NOT_MESSAGES: [&str; 29] = [
    "# bpf-metrics-exporter baseline",
    "# type\tname\ttag\towner",
    "--include-metrics and --exclude-metrics have",
    "--max-series has",
    "--no-holders has",
    "--no-per-object has",
    "--no-program-maps has",
    "; did you mean …?",
    "; … waiting, … dropped",
    "a client key",
    "certificates to trust",
    "did you mean …?",
    "docs/metrics.md lists them",
    "give HOST:PORT, http://HOST:PORT, https://HOST:PORT, unix:/PATH, dns:HOST:PORT, or none",
    "give HOST:PORT, unix:/PATH or none",
    "give http://HOST:PORT, https://HOST:PORT, HOST:PORT, unix:/PATH or dns:HOST:PORT",
    "give http://HOST:PORT, https://HOST:PORT, unix:/PATH, or none",
    "give http://[USER:PASSWORD@]HOST:PORT, https://... or unix:/PATH",
    "headers, which may have credentials",
    "bpffs_scan",
    "is another instance running?",
    "otlp, console, prometheus, none",
    "owner kind",
    "the authority of clients",
    "the rate limit",
    "the users",
    "the verification of clients",
    "there are …",
    "there is no …",
];

/// Returns each message and where it is.
fn messages() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut relays = BTreeSet::new();
    let mut parts = BTreeSet::new();
    for source in Source::all() {
        let name = source.name();
        let mut add = |text: String| {
            if let Some(part) = NOT_MESSAGES.iter().find(|part| **part == text) {
                parts.insert(*part);
            } else if words(&text) >= 2 {
                found.entry(text).or_insert_with(|| name.to_owned());
            }
        };
        for (call, level) in [("warn!(", ""), ("error!(", "ERROR ")] {
            for arguments in source.calls(call) {
                let (text, rest) =
                    source.first_text(arguments).unwrap_or_else(|| panic!("{name}: {arguments}"));
                if words(&text.template()) >= 2 {
                    add(format!("{level}{}", text.template()));
                } else {
                    relays.insert((name.to_owned(), format!("{}{rest}", text.raw())));
                }
            }
        }
        for call in ERRORS {
            for arguments in source.calls(call) {
                if let Some((text, _)) = source.first_text(arguments) {
                    add(text.template());
                }
            }
        }
        if MESSAGE_FILES.contains(&name) {
            source.texts().map(Text::template).filter(|text| text.contains(' ')).for_each(&mut add);
        }
        let relayed = RELAYS.iter().filter_map(|(_, _, origin)| match origin {
            Origin::Function(file, function) => Some((*file, *function)),
            Origin::Read => None,
        });
        for (_, function) in relayed.chain(MAKERS).filter(|(file, _)| *file == name) {
            let texts = source.texts_of_function(function);
            assert!(!texts.is_empty(), "{name} has no function {function} with a text");
            for text in texts {
                add(text.template());
            }
        }
    }
    assert_eq!(parts, NOT_MESSAGES.into(), "parts of messages that are in the source");
    let known: BTreeSet<(String, String)> =
        RELAYS.iter().map(|(file, arguments, _)| ((*file).to_owned(), (*arguments).to_owned())).collect();
    assert_eq!(relays, known, "calls that log a text from elsewhere, and where their texts come from");
    found
}

/// Returns the messages that the page explains: the code in the first cell of each row.
fn documented() -> BTreeSet<String> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(path).expect("the page is there");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| {
        let row = row.replace("\\|", "\u{1}");
        let cells: Vec<&str> = row.split('|').collect();
        assert!(cells.len() == 4, "a row has messages and an explanation: {row}");
        assert!(words(cells[2]) >= 3, "a row explains its messages: {row}");
        let code = cells[1].split("<br>").map(|span| {
            let span = span.trim();
            let ticks = if span.starts_with("``") { "``" } else { "`" };
            let inner = span.strip_prefix(ticks).and_then(|span| span.strip_suffix(ticks));
            inner.unwrap_or_else(|| panic!("not code: {span}")).trim().replace('\u{1}', "|")
        });
        code.collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn docs_troubleshooting_has_each_message() {
    let (messages, documented) = (messages(), documented());
    let missing: Vec<String> = messages
        .iter()
        .filter(|(text, _)| !documented.contains(*text))
        .map(|(text, file)| format!("{file}\t{text}"))
        .collect();
    assert!(missing.is_empty(), "{PAGE} does not explain:\n{}", missing.join("\n"));
    let unknown: Vec<&String> = documented.iter().filter(|text| !messages.contains_key(*text)).collect();
    assert!(unknown.is_empty(), "{PAGE} explains what the program does not say:\n{unknown:#?}");
}
