//! Cost of scrapes of 7,000 programs and 9,000 maps, in one run: of the whole program by the compression that the client takes, of a
//! reading alone, and of the parts of a rendering; and the memory that the program has for each object.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{self, Enricher};
use bpf_metrics_exporter::export::prometheus::{self, Cursor, Format};
use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::metrics::Sample;
use bpf_metrics_exporter::model::Snapshot;
use bpf_metrics_exporter::source::FRESHNESS;
use nix::time::{ClockId, clock_gettime};
use test_support::holding;
use test_support::measure::{self, as_float, ratio, report, runs};
use test_support::objects::Herd;
use test_support::running::Running;

/// Scrapes of each kind that are measured.
const SCRAPES: u32 = 12;

/// Size of the pieces in which the endpoint sends a text.
const PIECE: usize = 16 << 10;

/// The program.
struct Exporter {
    process: Running,
    address: SocketAddr,
}

impl Exporter {
    /// Starts it, and waits until it answers.
    fn start() -> Self {
        let free = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = free.local_addr().expect("it is bound");
        drop(free);
        let mut command = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
        command.args(["--web.listen-address", &address.to_string(), "--otlp-grpc", "none"]);
        let process = Running(command.stderr(Stdio::null()).spawn().expect("it starts"));
        let exporter = Self { process, address };
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "it does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        for _ in 0..3 {
            exporter.scrape("");
        }
        exporter
    }

    /// Scrapes it once, with a reading of its own, and returns the size of the answer.
    fn scrape(&self, accepted: &str) -> usize {
        thread::sleep(FRESHNESS);
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept-Encoding: {accepted}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        let (mut size, mut piece) = (0, vec![0; 1 << 20]);
        loop {
            match stream.read(&mut piece).expect("it answers") {
                0 => return size,
                read => size += read,
            }
        }
    }

    /// Returns the processor time of a scrape, and the size of its answer.
    fn cost(&self, accepted: &str) -> (Duration, usize) {
        let mut size = 0;
        let before = self.processor_time();
        for _ in 0..runs(SCRAPES) {
            size = self.scrape(accepted);
        }
        (self.processor_time().saturating_sub(before) / runs(SCRAPES), size)
    }

    /// Returns the processor time of all its threads so far.
    fn processor_time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.0.id())).expect("it runs");
        let times = tasks.map(|task| {
            let schedstat = fs::read_to_string(task.expect("a thread").path().join("schedstat"));
            let schedstat = schedstat.expect("it runs");
            let nanoseconds = schedstat.split(' ').next().and_then(|number| number.parse().ok());
            Duration::from_nanos(nanoseconds.expect("a number of nanoseconds"))
        });
        times.sum()
    }

    /// Returns its resident memory in kilobytes.
    fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).expect("a number of kilobytes")
    }
}

/// Returns the least processor time of this thread for something.
fn least<T>(mut work: impl FnMut() -> T) -> Duration {
    let now =
        || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has the clock"));
    let measured = (0..runs(20)).map(|_| {
        let before = now();
        drop(std::hint::black_box(work()));
        now().saturating_sub(before)
    });
    measured.min().expect("one run at least")
}

/// Reports what the parts of a rendering cost.
fn report_rendering(snapshot: &Snapshot, reading: Duration) {
    let sample = Sample::new(snapshot);
    let text = prometheus::render(sample, Format::Text, 0);
    let rendering = least(|| prometheus::write(sample, Format::Text, &mut io::sink()));
    let lines = least(|| {
        let mut cursor = Cursor::new(prometheus::lines(sample, Format::Text).into());
        while !cursor.read(PIECE).is_empty() {}
    });
    let gzip = least(|| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).expect("a vector takes everything");
        encoder.finish().expect("a vector takes everything")
    });
    report(format_args!("  text / reading              {:.2}", ratio(rendering, reading)));
    report(format_args!("  text as lines / text        {:.2}", ratio(lines, rendering)));
    report(format_args!("  gzip / text                 {:.2}", ratio(gzip, rendering)));
    report(format_args!("  gzip, text, lines           {gzip:.1?} {rendering:.1?} {lines:.1?}"));
}

fn main() {
    holding::hold_if_asked();
    if !measure::may_make_objects() {
        return;
    }
    let without = Exporter::start().resident();
    let herd = Herd::new(7_000, 9_000).expect("objects can be made");
    let mut enricher =
        Enricher::new(Reader::default(), enrich::EnrichOptions::default(), NameCache::default());
    let snapshot = enricher.read();
    let reading = least(|| enricher.read());
    drop(enricher);

    report(format_args!("scrapes of 7,000 programs and 9,000 maps"));
    report_rendering(&snapshot, reading);
    drop(snapshot);
    let exporter = Exporter::start();
    let (plain, text) = exporter.cost("identity");
    for (name, accepted) in [("gzip", "gzip"), ("zstd", "zstd")] {
        let (each, size) = exporter.cost(accepted);
        report(format_args!(
            "  a scrape with {name}: {:.1} ms, / without {:.2}, / reading {:.2}, bytes {:.3} of the text",
            each.as_secs_f64() * 1e3,
            ratio(each, plain),
            ratio(each, reading),
            as_float(size) / as_float(text)
        ));
    }
    report(format_args!(
        "  a scrape without: {:.1} ms, / reading {:.2}",
        plain.as_secs_f64() * 1e3,
        ratio(plain, reading)
    ));
    let resident = exporter.resident();
    let each = resident.saturating_sub(without) * 1024 / 16_000;
    report(format_args!(
        "  resident memory {resident} kB, {without} kB without objects, {each} bytes an object"
    ));
    drop(herd);
}
