//! Times without a gateway: all nodes return at once to one that was out of reach, and to one that died.

use std::time::{Duration, Instant};

use bpf_metrics_exporter::export::otlp::encode::Signal;
use bpf_metrics_exporter::model::Delivery;
use jiff::SignedDuration;

use super::{Scale, fates, fleet};
use crate::figures::{Absence, Outage, Second};
use crate::fleet::Fleet;
use crate::front::Traffic;
use crate::interrupt::Interrupt;
use crate::receivers::StoreKind::{Prometheus, Victoria};

/// The backlog of one of so many nodes, in bytes, is less than the outage needs.
const SMALL_BACKLOG: &str = "40000";
const SMALL_EACH: usize = 4;

/// How long each time lasts, in intervals: before, away, after.
const BEFORE: u32 = 3;
const AWAY: u32 = 6;
const AFTER: u32 = 6;

pub(super) fn run(scale: &Scale, interrupt: &Interrupt) -> anyhow::Result<Outage> {
    let interval = scale.short_interval;
    let stores = [Prometheus, Victoria];
    let mut fleet = fleet(scale, scale.few_nodes, interval, &stores, &[], interrupt)?;
    for index in 0..scale.few_nodes {
        let flags = if is_small(index) { &["--otlp-backlog-bytes", SMALL_BACKLOG][..] } else { &[] };
        let place = u32::try_from(index)?;
        // Spread evenly here: each second has the same before the outage.
        let delay = interval * place / u32::try_from(scale.few_nodes)?;
        fleet.add(delay, flags.iter().map(|&flag| flag.to_owned()).collect(), SignedDuration::ZERO)?;
    }
    let start = Instant::now();
    let mut watch = Watch::new(&mut fleet);
    watch.pass(&mut fleet, interval * BEFORE)?;
    let mut absences = Vec::new();

    let from = watch.seconds.len();
    fleet.front().close();
    watch.pass(&mut fleet, interval * AWAY)?;
    let to = watch.seconds.len();
    fleet.front().open()?;
    watch.pass(&mut fleet, interval * AFTER)?;
    absences.push(Absence { what: "the gateway is out of reach".to_owned(), between: [from, to] });

    let from = watch.seconds.len();
    fleet.kill_gateway()?;
    watch.pass(&mut fleet, interval * AWAY)?;
    let to = watch.seconds.len();
    fleet.restart_gateway()?;
    watch.pass(&mut fleet, interval * AFTER)?;
    absences.push(Absence {
        what: "the gateway is killed, and another one starts".to_owned(),
        between: [from, to],
    });

    let seconds = watch.seconds;
    let whole = start.elapsed() + Duration::from_mins(5);
    let groups = ["with the default backlog", "with a backlog of 40 kB"];
    let fates = fates(&mut fleet, &groups, |index| usize::from(is_small(index)), whole)?;
    let nodes = scale.few_nodes;
    Ok(Outage { nodes, interval: interval.as_secs_f64(), seconds, absences, fates })
}

fn is_small(index: usize) -> bool {
    index.is_multiple_of(SMALL_EACH)
}

/// What happens in each second.
struct Watch {
    seconds: Vec<Second>,
    traffic: Traffic,
    failures: u64,
}

impl Watch {
    fn new(fleet: &mut Fleet) -> Self {
        Self { seconds: Vec::new(), traffic: fleet.front().traffic(), failures: 0 }
    }

    fn pass(&mut self, fleet: &mut Fleet, time: Duration) -> anyhow::Result<()> {
        for _ in 0..time.as_secs().max(1) {
            fleet.sleep(Duration::from_secs(1))?;
            let traffic = fleet.front().traffic();
            let (mut failures, mut backlog) = (0, 0);
            for sender in fleet.senders() {
                failures += sender.ledger().of(Signal::Metrics).retryable.get();
                let Delivery { backlog: sizes, .. } = sender.delivery();
                backlog += sizes.iter().map(|size| size.bytes).sum::<u64>();
            }
            self.seconds.push(Second {
                connections: traffic.connections - self.traffic.connections,
                requests: traffic.requests - self.traffic.requests,
                failures: failures - self.failures,
                backlog,
            });
            (self.traffic, self.failures) = (traffic, failures);
        }
        Ok(())
    }
}
