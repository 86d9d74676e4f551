//! Ten nodes with the same programs, simulated by readings of this host, in a Prometheus with the rules: one more program on one of them
//! changes its fingerprint, and the alert names the node and the owner.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::export::prometheus::{self, Format};
use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::metrics::Sample;
use bpf_metrics_exporter::model::{Exporter, Owner, OwnerKind, Program as ReadProgram, Snapshot};
use dist::rules;
use dist::rules::recording::OTHER_FINGERPRINT;
use test_support::golden;
use test_support::objects::uapi::program_type::SOCKET_FILTER;
use test_support::objects::{Program, ProgramSpec};

use crate::ordinary_life::faster;
use crate::processes::{Scratch, eventually};
use crate::receivers::Prometheus;

const NODES: u32 = 10;

/// The node with one program more.
const DEVIANT: usize = 6;

/// An hour of the rules is a minute, and it takes that until the alert fires.
const LIMIT: Duration = Duration::from_mins(3);

/// A simulated node: what it answers to a scrape.
struct Node {
    address: SocketAddr,
    exposition: Arc<Mutex<String>>,
}

impl Node {
    /// Serves an exposition until the end of this process.
    fn start(exposition: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let exposition = Arc::new(Mutex::new(exposition));
        let served = Arc::clone(&exposition);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let text = served.lock().expect("no panic").clone();
                // Prometheus asks again.
                let _answered = answer(&stream, &text);
            }
        });
        Self { address, exposition }
    }

    fn has(&self, exposition: String) {
        *self.exposition.lock().expect("no panic") = exposition;
    }
}

fn answer(mut stream: &TcpStream, text: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        text.len()
    )
}

/// Returns what the exporter of a node exposes that has read this, with other ids.
fn exposition(number: u32, snapshot: &Snapshot) -> String {
    let shifted = |program: &ReadProgram| {
        let mut program = program.clone();
        Arc::make_mut(&mut program.facts).id += 10_000 * number;
        program
    };
    let programs = snapshot.programs.as_ref().expect("root may read them");
    let snapshot = Snapshot {
        programs: Some(programs.iter().map(shifted).collect()),
        maps: None,
        links: None,
        btfs: None,
        holders: None,
        pins: None,
        hooks: None,
        ..snapshot.clone()
    };
    let exporter = golden::exporter(snapshot.reader_started_at);
    let resource = [("host.name".to_owned(), format!("node-{number}"))];
    let exporter = Exporter { resource: resource.into(), ..exporter };
    let sample = Sample { exporter: Some(&exporter), ..Sample::new(&snapshot) };
    prometheus::render(sample, Format::Text, 0)
}

/// Loads a program that has the instructions of no other one.
fn unique(number: i32) -> Program {
    let returns = i32::try_from(process::id()).expect("a pid is positive") * 16 + number;
    let spec = ProgramSpec { name: "ten_nodes", ..ProgramSpec::new(SOCKET_FILTER, returns) };
    Program::load(&spec).expect("root may")
}

/// Returns readings without and with a program, and the owner of that one. No other owner has other programs in the second one: others
/// load programs at any time.
fn readings() -> (Snapshot, Snapshot, Arc<Owner>) {
    let mut enricher = Enricher::new(Reader::default(), EnrichOptions::default(), NameCache::default());
    let fingerprints = |snapshot: &Snapshot, but: &Owner| -> BTreeMap<u64, _> {
        let others = snapshot.owners.iter().filter(|total| total.owner.key() != but.key());
        others.map(|total| (total.owner.key(), total.fingerprint.clone())).collect()
    };
    for _ in 0..100 {
        let same = enricher.read();
        let more = unique(1);
        let other = enricher.read();
        let programs = other.programs.as_ref().expect("root may read them");
        let loaded = programs.iter().find(|program| program.facts.id == more.id()).expect("it is loaded");
        let Some(owner) = loaded.owner.clone() else { continue };
        assert!(
            same.fingerprint.is_some() && same.fingerprint != other.fingerprint,
            "it changes the fingerprint"
        );
        if fingerprints(&same, &owner) == fingerprints(&other, &owner) {
            return (same, other, owner);
        }
    }
    panic!("others load and unload programs all the time");
}

pub(crate) fn test() {
    let _agent = unique(0);
    let (same, other, owner) = readings();
    // A reading leaves out descriptors of its own process. Without another holder only the host has another fingerprint.
    let is_of_host = owner.kind() == OwnerKind::Kernel;
    let expected = if is_of_host { ("", "") } else { (owner.kind().as_str(), owner.name()) };

    let nodes: Vec<Node> = (1..=NODES).map(|number| Node::start(exposition(number, &same))).collect();
    let scratch = Scratch::new();
    let groups = [rules::recording::groups(), rules::alerts::groups()].concat();
    let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.address).collect();
    let rules = faster(&rules::yaml(&groups));
    let prometheus = Prometheus::start_with_rules(&scratch.folder("prometheus"), &addresses, &rules, "5s");
    let number = |expression: &str| -> Result<usize, String> { Ok(prometheus.rows(expression)?.len()) };
    let common = format!("{} == {NODES}", rules::recording::COMMON_FINGERPRINT);
    eventually("all nodes have the same fingerprints", LIMIT, || match number(&common)? {
        1.. => Ok(()),
        found => Err(format!("{found} common fingerprints")),
    });
    assert_eq!(number(OTHER_FINGERPRINT), Ok(0), "none differs");

    nodes[DEVIANT].has(exposition(u32::try_from(DEVIANT).expect("it is small") + 1, &other));
    let alert = r#"ALERTS{alertname="BpfFingerprintDiffers",alertstate="firing"}"#;
    eventually("the alert fires", LIMIT, || match number(alert)? {
        0 => Err(format!("{:?} differ", prometheus.rows(OTHER_FINGERPRINT)?)),
        _ => Ok(()),
    });
    let fired = prometheus.rows(alert).expect("it answers");
    let [row] = &fired[..] else { panic!("{fired:?}") };
    let label = |name: &str| row.labels.get(name).map_or("", String::as_str);
    assert_eq!(label("instance"), nodes[DEVIANT].address.to_string());
    assert_eq!((label("owner_kind"), label("workload")), expected);

    nodes[DEVIANT].has(exposition(u32::try_from(DEVIANT).expect("it is small") + 1, &same));
    eventually("the alert ends", LIMIT, || match number(alert)? {
        0 => Ok(()),
        found => Err(format!("{found} fire")),
    });
    let (failed, _) = prometheus.rules().expect("it answers");
    assert_eq!(failed, Vec::<String>::new(), "rules that cannot be evaluated");
}
