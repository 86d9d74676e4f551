//! A small fleet against the real receivers, so that the tool works when it is needed: half a minute. Needs what
//! `tests/receivers/install` installs.

use std::process::ExitCode;
use std::time::Duration;

use bpf_metrics_exporter::export::otlp::encode::Signal;
use fleet::expressions;
use fleet::fleet::{Fleet, Setup};
use fleet::interrupt::Interrupt;
use fleet::node::Likeness;
use fleet::receivers::{StoreKind, missing};
use test_support::trials;

const NODES: usize = 20;
const INTERVAL: Duration = Duration::from_secs(2);
const STORES: [StoreKind; 2] = [StoreKind::Prometheus, StoreKind::Victoria];

fn main() -> ExitCode {
    let missing = missing(&STORES);
    let missing = (!missing.is_empty()).then(|| format!("needs {missing:?}, of tests/receivers/install"));
    let name = "a_small_fleet_delivers_every_reading_also_through_an_outage".to_owned();
    trials::run(vec![trials::trial(name, missing, test)])
}

fn test() {
    run().unwrap_or_else(|error| panic!("{error:#}"));
}

fn run() -> anyhow::Result<()> {
    let likeness = Likeness { objects: 300, churn: 6.0, seed: 11 };
    let setup =
        Setup { likeness, interval: INTERVAL, flags: Vec::new(), stores: STORES.to_vec(), nodes: NODES };
    let mut fleet = Fleet::start(setup, &Interrupt::default())?;
    fleet.grow(NODES)?;
    fleet.sleep(INTERVAL * 2)?;
    let window = fleet.window(INTERVAL * 4)?;
    assert_eq!((window.nodes, window.dropped, window.refused, window.failed), (NODES, 0, 0, 0), "{window:?}");
    assert!(window.readings >= 3 * NODES as u64, "{window:?}");
    assert!(window.to_gateway / window.readings > 100_000, "a push has more than 100 kB: {window:?}");
    assert!(window.cpu.encoding > 0.0 && window.cpu.delivery > 0.0 && window.cpu.gateway > 0.0, "{window:?}");
    for kind in STORES {
        let series = window.store(kind).map_or(0, |store| store.series) / NODES as u64;
        assert!((1_500..4_500).contains(&series), "{series} series of each node in {kind:?}");
        assert!(
            (expressions::exporters(fleet.store(kind)?)? - 20.0).abs() < 0.5,
            "{kind:?} has each exporter"
        );
    }

    let connections = fleet.front().traffic().connections;
    assert!(
        (NODES as u64..2 * NODES as u64).contains(&connections),
        "{connections} connections: each node keeps one"
    );
    fleet.front().close();
    fleet.sleep(INTERVAL * 3)?;
    let waiting = |fleet: &Fleet| -> u64 {
        let backlogs = fleet.senders().iter().flat_map(|sender| sender.delivery().backlog);
        backlogs.map(|backlog| backlog.bytes).sum()
    };
    assert!(waiting(&fleet) > 0, "readings wait");
    let failures: u64 =
        fleet.senders().iter().map(|sender| sender.ledger().of(Signal::Metrics).retryable.get()).sum();
    assert!(failures >= NODES as u64, "{failures} attempts failed");
    fleet.front().open()?;
    for _ in 0..30 {
        fleet.sleep(Duration::from_secs(1))?;
        if waiting(&fleet) == 0 {
            break;
        }
    }
    let returned = fleet.front().traffic().connections - connections;
    assert!(
        (NODES as u64..2 * NODES as u64).contains(&returned),
        "{returned} connections: each node came back once"
    );

    let readings = fleet.end_senders()?;
    fleet.drain(Duration::from_mins(1))?;
    for kind in STORES {
        let mut stored = fleet.stored_readings(fleet.store(kind)?, Duration::from_mins(5))?;
        let mut readings = readings.clone();
        stored.sort();
        readings.sort();
        assert_eq!(stored, readings, "readings of each node in {kind:?}");
    }
    Ok(())
}
