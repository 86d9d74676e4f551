//! Every bound of the endpoint, with its reason. Whoever reaches the port chooses what is sent and what is read: none of it may cost
//! a reading, a push, or memory without limit. Entry point: [`markdown`], the table in `docs/endpoint.md`.

use std::fmt::Write as _;
use std::time::Duration;

use super::history::{self, KEPT, POINTS};
use crate::metrics::columns::Filter;

/// Open connections on all listeners together.
pub const CONNECTIONS: usize = 256;

/// File descriptors that connections leave to readings, pushes and files.
pub(super) const RESERVED_DESCRIPTORS: u64 = 256;

/// Connections where the limit of descriptors is low.
pub(super) const FEWEST_CONNECTIONS: usize = 16;

/// From the start of a connection to the end of the headers of its first request, with the TLS handshake.
pub(super) const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// From the first byte of a later request to the end of its headers.
pub(super) const HEADERS: Duration = Duration::from_secs(10);

/// Between two requests on a connection.
pub(super) const IDLE: Duration = Duration::from_mins(2);

/// Without a byte of an answer taken.
pub(super) const STALL: Duration = Duration::from_secs(30);

/// The slowest rate at which an answer may be taken, in bytes per second, after [`STALL`].
pub(super) const SLOWEST: u64 = 64 << 10;

/// How long an answer may be under way more slowly than [`FAST`], or stand still, before its client makes room for another scrape.
pub(super) const YIELD: Duration = Duration::from_secs(5);

/// The rate at which an answer is taken by a client that does not make room, in bytes per second.
pub(super) const FAST: u64 = 256 << 10;

/// Streams of events at a time.
pub const EVENT_STREAMS: usize = 16;

/// The time between two comments in a stream of events, which show that both ends are there.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
const _: () = assert!(HEARTBEAT.as_secs() < STALL.as_secs(), "else a silent stream counts as stalled");

/// When a reader of events should connect again after its stream ended.
pub(super) const RECONNECT: Duration = Duration::from_secs(2);

/// From a request to the start of its answer: [`WAIT`], and time for its password and the configuration file.
pub(super) const ANSWER: Duration = WAIT.saturating_add(STALL);

/// How long a connection may be silent before it makes room for another one sooner than an idle one does.
pub const FRESH: Duration = Duration::from_secs(2);

/// From the stop of the server to the end of the requests in flight.
pub(super) const DRAIN: Duration = Duration::from_secs(1);

/// The default of `--web.max-requests`.
pub const MAX_REQUESTS: usize = 40;

/// Waiting for a reading and its rendering, where the scraper states no timeout.
pub(super) const WAIT: Duration = Duration::from_mins(2);

/// The head of a request, in bytes.
pub const HEAD: usize = 16 << 10;

/// Lines of headers in a request.
pub(super) const HEADER_LINES: usize = 64;

/// A request's path and query, in bytes.
pub(super) const URL: usize = 4 << 10;

/// What waits to be sent on a connection, in bytes, besides the kernel's own buffers.
pub(super) const UNSENT: usize = 32 << 10;

/// Requests at a time on an HTTP/2 connection.
pub(super) const STREAMS: u32 = 16;

/// A quiet connection is probed after this time, at most [`PROBES`] times at [`PROBE_INTERVAL`].
pub(super) const PROBE_AFTER: Duration = Duration::from_secs(15);
/// See [`PROBE_AFTER`].
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// See [`PROBE_AFTER`].
pub(super) const PROBES: u32 = 3;

/// Rendered answers that are kept of a reading.
pub(super) const ANSWERS: usize = 16;

/// Answers without compression that exist at a time.
pub(super) const PLAIN_ANSWERS: usize = 1;

/// How long rendered answers are kept without a scrape.
pub(super) const ANSWERS_KEPT: Duration = Duration::from_secs(10);

/// The configuration file, and each file that it names, in bytes.
pub(super) const CONFIG_FILE: u64 = 1 << 20;

/// Passwords that wait for their verification.
pub(super) const VERIFICATIONS: usize = 16;

/// Verified passwords, right and wrong, that are remembered.
pub(super) const VERDICTS: usize = 100;

/// Age at which a reading is too old for the page.
pub const PAGE_POLL: Duration = Duration::from_secs(2);

/// Time between two samples of the history for the page.
pub(super) const PAGE_SAMPLE: Duration = Duration::from_secs(5);

/// How long readings and history for the page are kept up without a request.
pub const PAGE_WATCHED: Duration = Duration::from_mins(1);

/// Orders of rows that are kept of a reading for the page.
pub(super) const PAGE_ORDERS: usize = 8;

/// Rows in an answer of the page and its API.
pub(super) const ROWS: usize = 1000;

/// Rows without `limit`.
pub(super) const DEFAULT_ROWS: usize = 100;

/// Rows of each other table, and values of each part of the metrics, on the page of an object.
pub(super) const RELATED_ROWS: usize = 100;

/// Ids in a cell of the page and its API.
pub(super) const CELL_IDS: usize = 20;

/// Characters of a filter.
pub(super) const FILTER: usize = 256;

/// Returns the bounds as a table of documentation.
#[must_use]
#[expect(clippy::too_many_lines, reason = "it is one table")]
pub fn markdown() -> String {
    let seconds = |time: Duration| format!("{} s", time.as_secs());
    let kib = |bytes: usize| format!("{} KiB", bytes >> 10);
    let probes =
        format!("{} s, then {PROBES} probes every {} s", PROBE_AFTER.as_secs(), PROBE_INTERVAL.as_secs());
    let rows: [(&str, String, &str, &str); 31] = [
        (
            "connections, on all addresses together",
            format!(
                "{CONNECTIONS}; fewer if less than {} descriptors remain",
                RESERVED_DESCRIPTORS + CONNECTIONS as u64
            ),
            "a reading opens a descriptor for each object and must never find none left; the soft limit of descriptors is raised to the hard limit at start",
            "the one that has been silent the longest, for 2 s at least, is closed, then those that take nothing, then idle ones, then streams of events, then the oldest without a request; if all are at work, the new one",
        ),
        (
            "first request, with the TLS handshake",
            seconds(FIRST_REQUEST),
            "a scraper sends it at once",
            "the connection is closed",
        ),
        ("headers of a later request", seconds(HEADERS), "as above", "as above"),
        (
            "idle connection",
            seconds(IDLE),
            "twice the usual scrape interval, so that scrapers keep theirs",
            "as above",
        ),
        ("vanished client", probes, "a host that lost power sends no FIN", "as above"),
        (
            "taking nothing of an answer",
            seconds(STALL),
            "a scraper's own timeout is 10 s by default",
            "as above",
        ),
        (
            "taking an answer at all",
            format!(
                "{} s, and 1 s for every {} of it",
                STALL.as_secs(),
                kib(usize::try_from(SLOWEST).unwrap_or(usize::MAX))
            ),
            "one byte a second would hold an answer for weeks",
            "as above",
        ),
        (
            "scrapes, and requests for the page and its API, at a time",
            format!("{MAX_REQUESTS} (`--web.max-requests`, 0 for no limit)"),
            "node_exporter's default",
            "status 503 with `Retry-After`",
        ),
        (
            "taking an answer while all scrapes are taken",
            format!("{}, unless at {} KiB/s", seconds(YIELD), FAST >> 10),
            "clients that never read must not lock scrapers out",
            "the connection that has held its answer the longest is closed for the new scrape",
        ),
        (
            "event streams at a time",
            EVENT_STREAMS.to_string(),
            "each is open as long as its reader likes; scrapes need connections as well",
            "status 503 with `Retry-After`",
        ),
        (
            "silence of an event stream",
            format!("{}: then a comment is sent, which must be taken as any answer", seconds(HEARTBEAT)),
            "half of the time within which something of an answer is to be taken, so that streams without events stay",
            "the connection is closed",
        ),
        (
            "waiting for a reading",
            format!("`X-Prometheus-Scrape-Timeout-Seconds` less a tenth, else {}", seconds(WAIT)),
            "the client has given up by then",
            "status 503",
        ),
        (
            "waiting for an answer otherwise",
            seconds(ANSWER),
            "a password or the configuration file may not be read in time",
            "the connection is closed",
        ),
        (
            "requests in flight when the exporter stops",
            seconds(DRAIN),
            "the last push needs the time more",
            "the connection is closed",
        ),
        ("head of a request", kib(HEAD), "a request of Prometheus has half a KiB", "status 431"),
        ("lines of headers", HEADER_LINES.to_string(), "as above", "status 431"),
        ("path and query", kib(URL), "the names of all collectors have 100 bytes", "status 414"),
        ("body of a request", "0".to_owned(), "nothing takes one", "status 413"),
        (
            "unsent data of a connection",
            kib(UNSENT),
            "an answer is shared by all who take it; only this much of it is each one's own",
            "it is sent when the client takes it",
        ),
        ("HTTP/2 requests at a time on a connection", STREAMS.to_string(), "as above", "they wait"),
        (
            "answers kept of a reading",
            ANSWERS.to_string(),
            "formats, compressions and selections that scrapers really use",
            "another one is rendered again",
        ),
        (
            "answers kept without compression",
            format!("{PLAIN_ANSWERS}, also while a client still takes it"),
            "it takes half of its text",
            "another one is kept compressed, and decompressed for each client",
        ),
        (
            "answers kept without a scrape",
            seconds(ANSWERS_KEPT),
            "only scrapes close together share one",
            "they are freed",
        ),
        (
            "rows in an answer of the page and its API",
            format!(
                "{ROWS}; {DEFAULT_ROWS} without `limit`; {RELATED_ROWS} of each related table and section"
            ),
            "a screen has fewer than a hundred; the whole reading is `/api/v1/snapshot`",
            "status 400",
        ),
        (
            "ids in a cell of the page and its API",
            CELL_IDS.to_string(),
            "a map may be used by every program; all of them are the related rows, and a filter of programs",
            "the number of all",
        ),
        (
            "filter of the page and its API",
            format!("{FILTER} characters, {} words", Filter::MAX_WORDS),
            "each word is compared with every text of every row",
            "status 400; further words are ignored",
        ),
        (
            "orders of rows kept of a reading",
            PAGE_ORDERS.to_string(),
            "so that scrolling does not sort again; four bytes a row",
            "rows are sorted again",
        ),
        (
            "history of the page",
            format!(
                "{} series of {POINTS} values, {} MiB",
                KEPT.iter().map(|kept| kept.rows).sum::<usize>(),
                history::MAX_BYTES >> 20
            ),
            "sparklines of the rows with the highest values",
            "other rows have none",
        ),
        (
            "readings and history without a look at the page",
            seconds(PAGE_WATCHED),
            "the page costs nothing while it is not open",
            "they end and are freed",
        ),
        (
            "configuration file, and each file that it names",
            "1 MiB".to_owned(),
            "hundreds of certificates",
            "it is refused",
        ),
        (
            "passwords that wait for bcrypt",
            format!("{VERIFICATIONS}; {VERDICTS} verdicts are remembered"),
            "one costs some 70 ms of a CPU; they are verified one at a time",
            "status 503 with `Retry-After`",
        ),
    ];
    let mut table = String::from("| what | bound | why | beyond it |\n|---|---|---|---|\n");
    for (what, bound, why, beyond) in rows {
        let _infallible = writeln!(table, "| {what} | {bound} | {why} | {beyond} |");
    }
    table
}
