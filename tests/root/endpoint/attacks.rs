//! Attacks on the endpoint of a busy node, with figures: what they cost readings, pushes, other scrapes and memory.
//!
//! `UPDATE=1` writes the figures to `docs/reliability.md`, with 16,000 objects and every client; without it there are fewer of both.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use test_support::objects::Herd;
use test_support::receiver;

use super::{Exporter, curl};

const SCRAPE: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Time between two pushes.
const INTERVAL: Duration = Duration::from_secs(5);

/// How many there are of what.
struct Scale {
    programs: usize,
    maps: usize,
    silent: usize,
    others: usize,
    /// How long an attack lasts.
    lasts: Duration,
}

const FULL: Scale =
    Scale { programs: 7_000, maps: 9_000, silent: 1_024, others: 500, lasts: Duration::from_secs(16) };
const SMALL: Scale =
    Scale { programs: 300, maps: 300, silent: 600, others: 120, lasts: Duration::from_secs(6) };

/// What an attack cost.
struct Cost {
    name: &'static str,
    /// Memory above that at rest, in KiB.
    memory: u64,
    scrapes: usize,
    refused: usize,
    slowest: Duration,
    late: Duration,
    back: Duration,
}

/// The memory of the exporter, sampled until dropped.
struct Sampler {
    peak: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
}

impl Sampler {
    fn new(pid: u32) -> Self {
        let (peak, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (highest, end) = (Arc::clone(&peak), Arc::clone(&ends));
        std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
                let resident =
                    resident.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
                highest.fetch_max(resident.unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { peak, ends }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

/// A busy node and its exporter.
struct Node {
    exporter: Exporter,
    address: SocketAddr,
    /// When pushes began to arrive.
    pushes: Arc<Mutex<Vec<Instant>>>,
    rest: u64,
}

impl Node {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a time");
        stream
    }

    /// Connects and sends a text.
    fn sent(&self, text: &str) -> TcpStream {
        let mut stream = self.connect();
        // It may be closed at once.
        let _sent = stream.write_all(text.as_bytes());
        stream
    }

    /// Scrapes as Prometheus does, and returns how long it took; `None` for a 503.
    fn scrape(&self) -> Option<Duration> {
        let began = Instant::now();
        let url = format!("http://{}/metrics", self.address);
        let output =
            curl(&["--compressed", "-w", "%{http_code}", &url]).expect("a scrape is answered in full");
        let text = String::from_utf8_lossy(&output);
        if text.ends_with("503") {
            return None;
        }
        assert!(text.ends_with("200"), "a status");
        let failed = text
            .lines()
            .find(|line| line.starts_with("bpf_exporter_collect_success{") && line.ends_with(" 0"));
        assert_eq!(failed, None, "a reading failed");
        assert!(!text.contains("error=\"EMFILE\""), "a reading had no descriptors");
        Some(began.elapsed())
    }

    /// Returns by how much the latest of the pushes since a moment came later than the interval after the one before.
    fn latest(&self, since: Instant) -> Duration {
        let pushes = self.pushes.lock().expect("no panic");
        let pushes: Vec<_> = pushes.iter().filter(|&&push| push >= since).collect();
        assert!(!pushes.is_empty(), "nothing was pushed");
        let gaps = pushes.windows(2).map(|pair| pair[1].duration_since(*pair[0]).saturating_sub(INTERVAL));
        gaps.max().unwrap_or_default()
    }

    /// Runs an attack, scrapes meanwhile, and ends it.
    fn under<T>(&self, name: &'static str, lasts: Duration, attack: impl FnOnce(&Self) -> T) -> Cost {
        let began = Instant::now();
        let sampler = Sampler::new(self.exporter.child.id());
        let attackers = attack(self);
        let (mut scrapes, mut refused, mut slowest) = (0, 0, Duration::ZERO);
        loop {
            match self.scrape() {
                Some(took) => {
                    scrapes += 1;
                    slowest = slowest.max(took);
                }
                None => refused += 1,
            }
            if began.elapsed() >= lasts {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        let late = self.latest(began.checked_sub(INTERVAL).unwrap_or(began));
        let memory = sampler.peak.load(Ordering::Relaxed).saturating_sub(self.rest);
        drop(attackers);
        let ended = Instant::now();
        while self.scrape().is_none() {}
        Cost { name, memory, scrapes, refused, slowest, late, back: ended.elapsed() }
    }
}

/// Clients of which each takes one byte a second.
struct Drips {
    ends: Arc<AtomicBool>,
}

impl Drips {
    fn new(mut clients: Vec<TcpStream>) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ends);
        std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                for client in &mut clients {
                    client.set_nonblocking(true).expect("it is open");
                    let _one = client.read(&mut [0]);
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        Self { ends }
    }
}

impl Drop for Drips {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

#[expect(clippy::too_many_lines, reason = "the attacks, one after another")]
pub(super) fn test() {
    let is_full = std::env::var_os("UPDATE").is_some();
    let scale = if is_full { FULL } else { SMALL };
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
    let _herd =
        Herd::new(scale.programs, scale.maps).expect("the kernel allows as many objects and open files");

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let pushes: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let arrived = Arc::clone(&pushes);
    let receiver = runtime.block_on(receiver::start((Ipv4Addr::LOCALHOST, 0).into(), move |request| {
        let mut arrived = arrived.lock().expect("no panic");
        // A push is several requests.
        if arrived.last().is_none_or(|last| last.elapsed() > INTERVAL / 3) {
            arrived.push(Instant::now());
        }
        receiver::ok(request)
    }));

    // systemd's soft limit.
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -Sn 1024; exec \"$@\"", "bash", env!("CARGO_BIN_EXE_bpf-metrics-exporter")]);
    command.args(["--otlp-grpc", &receiver.address.to_string(), "--interval", "5s"]);
    let exporter = Exporter::start(command.args(["--web.listen-address", "127.0.0.1:0"]));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, exporter.port()));
    let mut node = Node { exporter, address, pushes, rest: 0 };

    let url = format!("http://{address}/metrics");
    let text = curl(&["-f", &url]).expect("it serves").len() as u64;
    let sampler = Sampler::new(node.exporter.child.id());
    let quiet = node.under("none", scale.lasts, |_| ());
    node.rest = sampler.peak.load(Ordering::Relaxed).min(node.exporter.memory("VmRSS"));
    drop(sampler);

    let Scale { silent, others, lasts, .. } = scale;
    let costs = [
        node.under("connections that send nothing", lasts, |node| {
            (0..silent).map(|_| node.connect()).collect::<Vec<_>>()
        }),
        node.under("clients that never read", lasts, |node| {
            (0..others).map(|_| node.sent(SCRAPE)).collect::<Vec<_>>()
        }),
        node.under("unfinished headers", lasts, |node| {
            let head = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nA: {}", "a".repeat(8_000));
            (0..others).map(|_| node.sent(&head)).collect::<Vec<_>>()
        }),
        node.under("clients that take one byte a second", lasts, |node| {
            Drips::new((0..others).map(|_| node.sent(SCRAPE)).collect())
        }),
        node.under("scrapes at once", lasts, |node| {
            let clients = (0..others).map(|_| {
                let mut stream = node.sent("GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n");
                std::thread::spawn(move || {
                    let mut answer = Vec::new();
                    // One above the bound of connections may be closed without a word.
                    let ended = stream.read_to_end(&mut answer);
                    let head = String::from_utf8_lossy(&answer[..answer.len().min(400)]).into_owned();
                    if head.starts_with("HTTP/1.0 200") {
                        ended.expect("an admitted scrape does not fail");
                        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                        let length: usize =
                            length.and_then(|length| length.parse().ok()).expect("its length");
                        assert!(answer.len() >= length, "an admitted scrape is complete");
                    }
                })
            });
            let clients: Vec<_> = clients.collect();
            for client in clients {
                client.join().expect("every admitted scrape is answered in full");
            }
        }),
    ];
    let most = 2 * text / 1024 + (20 << 10);
    let counts = [silent, others, others, others, others];
    let mut table = String::from(
        "| attack | memory above rest | scrapes meanwhile | 503 | slowest | latest push | next scrape |\n|---|---|---|---|---|---|---|\n",
    );
    let mut row = |count: Option<usize>, cost: &Cost| {
        let count = count.map(|count| format!("{count} ")).unwrap_or_default();
        let _infallible = writeln!(
            table,
            "| {count}{} | {:.1} MiB | {} | {} | {:.2} s | +{:.2} s | {:.2} s |",
            cost.name,
            test_support::measure::as_float(usize::try_from(cost.memory).unwrap_or(usize::MAX)) / 1024.0,
            cost.scrapes,
            cost.refused,
            cost.slowest.as_secs_f64(),
            cost.late.as_secs_f64(),
            cost.back.as_secs_f64(),
        );
    };
    row(None, &quiet);
    for (count, cost) in counts.into_iter().zip(&costs) {
        row(Some(count), cost);
    }
    let summary = format!(
        "{table}\none answer as text: {text} bytes; bound of memory: {most} KiB; at rest: {} KiB",
        node.rest
    );
    // Without optimization, and on a machine that does other work, times say little: then only the memory and what fails is exact.
    let allowance = if cfg!(debug_assertions) { INTERVAL } else { Duration::ZERO };
    for cost in &costs {
        assert!(cost.memory < most, "{}: {summary}", cost.name);
        assert!(cost.scrapes > 0, "{}: {summary}", cost.name);
        // What the machine itself is late by is in the row without an attack.
        assert!(cost.late < quiet.late + INTERVAL / 10 + allowance, "{}: {summary}", cost.name);
        assert!(cost.back < Duration::from_secs(1) + quiet.slowest + allowance, "{}: {summary}", cost.name);
    }
    if is_full {
        write_figures(&table, text, node.rest, most);
    }
    assert!(node.exporter.stop().success());
}

fn write_figures(table: &str, text: u64, rest: u64, most: u64) {
    const START: &str = "<!-- attacks -->\n";
    const END: &str = "<!-- end of attacks -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reliability.md");
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let (before, rest_of_page) = page.split_once(START).expect("the mark is there");
    let (_, after) = rest_of_page.split_once(END).expect("the mark is there");
    let mib = |kib: u64| kib.div_ceil(1024);
    let build = if cfg!(debug_assertions) { "a debug build" } else { "a release build" };
    let figures = format!(
        "{table}\nWith {build}, {} programs and {} maps, pushes every {} s, a soft limit of 1,024 descriptors, on a machine\n\
         that did other work as well. An answer as text has {:.1} MB. At rest the process had {} MiB; the bound is two answers\n\
         and 20 MB, {} MiB, above that.\n",
        FULL.programs,
        FULL.maps,
        INTERVAL.as_secs(),
        test_support::measure::as_float(usize::try_from(text).unwrap_or(usize::MAX)) / 1e6,
        mib(rest),
        mib(most),
    );
    std::fs::write(&path, format!("{before}{START}{figures}{END}{after}")).expect("the page is ours");
}
