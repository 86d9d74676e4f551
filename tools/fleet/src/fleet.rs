//! A fleet: nodes, the front, the gateway and the stores, and what they do in a time. Entry point: [`Fleet::start`].

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bpf_metrics_exporter::export::otlp::encode::Signal;
use dist::names::OBJECTS;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;
use test_support::http::free_address;

use crate::figures::{Cpu, Memory, StoreFigures, Window};
use crate::front::{Front, Traffic};
use crate::interrupt::Interrupt;
use crate::node::{Likeness, Node, Recordings};
use crate::process::{available_memory, own_memory, threads_cpu};
use crate::receivers::{Gateway, GatewayCounts, Store, StoreCounts, StoreKind, require};
use crate::sender::{Crew, DELIVERY_THREADS, ENCODING_THREADS, Options, Sender};

/// The version that exporters say they have before an upgrade.
pub const VERSION: &str = "1.0.0";

/// What a run may need, in bytes, for the check before it begins: half as much again as runs had for each series in the stores and for each
/// node here, and the queue of the gateway.
const PROMETHEUS_SERIES: u64 = 2_600;
const VICTORIA_SERIES: u64 = 2_000;
const NODE: u64 = 3 << 19;
const GATEWAY: u64 = 1 << 30;

/// Series of a node: of each of its objects, and of the node.
const OBJECT_SERIES: u64 = 9;
const NODE_SERIES: u64 = 300;

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What its nodes are like.
    pub likeness: Likeness,
    /// Time between two readings of a node.
    pub interval: Duration,
    /// Flags of the exporters.
    pub flags: Vec<String>,
    /// The stores behind the gateway.
    pub stores: Vec<StoreKind>,
    /// How many nodes there will be, for the check of the memory.
    pub nodes: usize,
}

/// A running fleet. What it is made of ends in the order of its fields.
pub struct Fleet {
    senders: Vec<Sender>,
    crew: Crew,
    front: Front,
    gateway: Option<Gateway>,
    stores: Vec<Store>,
    folder: TempDir,
    recordings: Recordings,
    setup: Setup,
    random: StdRng,
    interrupt: Interrupt,
    /// Where the gateway listens.
    receives: std::net::SocketAddr,
}

/// The state of all counters at one moment.
pub struct Probe {
    at: Instant,
    cpu: Cpu,
    traffic: Traffic,
    readings: u64,
    accepted: u64,
    dropped: u64,
    gateway: GatewayCounts,
    stores: Vec<(StoreKind, StoreCounts)>,
}

impl Fleet {
    /// Starts the receivers of a fleet that has no node yet.
    ///
    /// # Errors
    ///
    /// If a program is missing or does not start, or if there is not enough memory for all nodes.
    pub fn start(setup: Setup, interrupt: &Interrupt) -> anyhow::Result<Self> {
        require(&setup.stores)?;
        let (needed, available) = (memory_of(&setup), available_memory()?);
        if needed > available {
            let [needed, available] = [needed, available].map(|bytes| bytes >> 20);
            bail!("{} nodes may need {needed} MiB, and {available} MiB are available", setup.nodes);
        }
        let folder = tempfile::Builder::new().prefix("fleet-").tempdir()?;
        // Series last for twice the interval, or as long as those that do not change are left out.
        let unchanged = setup.interval.max(Duration::from_mins(1));
        let stores = setup.stores.iter().map(|&kind| Store::start(kind, folder.path(), unchanged, interrupt));
        let stores = stores.collect::<anyhow::Result<Vec<_>>>()?;
        let receives = free_address();
        let gateway = Gateway::start(folder.path(), receives, &stores, interrupt)?;
        Ok(Self {
            senders: Vec::new(),
            crew: Crew::start()?,
            front: Front::start(receives)?,
            gateway: Some(gateway),
            stores,
            folder,
            recordings: Recordings::load().context("a recording")?,
            random: StdRng::seed_from_u64(setup.likeness.seed),
            setup,
            interrupt: interrupt.clone(),
            receives,
        })
    }

    /// Adds nodes until there are so many. Each begins at a moment of its own within an interval, as machines do.
    ///
    /// # Errors
    ///
    /// If a flag is wrong.
    pub fn grow(&mut self, nodes: usize) -> anyhow::Result<()> {
        while self.senders.len() < nodes {
            let delay = self.setup.interval.mul_f64(self.random.random_range(0.0..1.0));
            let flags = self.setup.flags.clone();
            self.add(delay, flags, SignedDuration::ZERO)?;
        }
        Ok(())
    }

    /// Adds a node with a clock that is wrong by so much, and these flags of its exporter.
    ///
    /// # Errors
    ///
    /// If a flag is wrong.
    pub fn add(
        &mut self,
        delay: Duration,
        flags: Vec<String>,
        clock_error: SignedDuration,
    ) -> anyhow::Result<()> {
        let number = u32::try_from(self.senders.len())?;
        let node = Node::new(number, &self.recordings, self.setup.likeness, clock_error);
        let options = Options { flags, ..self.options(VERSION) };
        self.senders.push(Sender::start(&self.crew, Arc::new(Mutex::new(node)), &options, delay)?);
        Ok(())
    }

    fn options(&self, version: &'static str) -> Options {
        Options {
            receiver: self.front.address(),
            interval: self.setup.interval,
            flags: self.setup.flags.clone(),
            version,
        }
    }

    /// Ends the exporter of a node, and starts one of another version.
    ///
    /// # Errors
    ///
    /// If a flag is wrong.
    pub fn upgrade(&mut self, index: usize, version: &'static str) -> anyhow::Result<()> {
        let options = self.options(version);
        let node = Arc::clone(self.senders[index].node());
        // The old one ends before the new one begins.
        self.senders.remove(index).end(&self.crew);
        node.lock().expect("no reading panics").restart();
        let new = Sender::start(&self.crew, node, &options, Duration::ZERO)?;
        self.senders.insert(index, new);
        Ok(())
    }

    /// Ends every exporter after a last reading, and returns how many readings each has taken, with its instance.
    ///
    /// # Errors
    ///
    /// If the run is interrupted.
    pub fn end_senders(&mut self) -> anyhow::Result<Vec<(String, u64)>> {
        self.senders.iter().for_each(Sender::begin_end);
        self.interrupt.sleep(Duration::from_secs(1))?;
        let counted = |sender: Sender| {
            let (instance, readings) = (sender.instance().to_owned(), Arc::clone(sender.counted_readings()));
            sender.end(&self.crew);
            (instance, readings.load(std::sync::atomic::Ordering::Relaxed))
        };
        Ok(std::mem::take(&mut self.senders).into_iter().map(counted).collect())
    }

    /// Waits until the gateway has passed on what it accepted.
    ///
    /// # Errors
    ///
    /// If that takes longer than `limit`.
    pub fn drain(&self, limit: Duration) -> anyhow::Result<()> {
        let (deadline, gateway) = (Instant::now() + limit, self.gateway()?);
        let mut before = None;
        loop {
            self.interrupt.sleep(Duration::from_secs(1))?;
            let counts = gateway.counts()?;
            let settled = counts.sent + counts.failed;
            let is_idle = gateway.queued()? == 0 && before == Some(settled);
            if is_idle {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the gateway has not passed on everything after {limit:?}: {counts:?}");
            }
            before = Some(settled);
        }
    }

    /// Waits until the gateway has passed on what it had accepted at some moment after an interval from now: every series exists then.
    ///
    /// # Errors
    ///
    /// If that takes longer than `limit`.
    pub fn settle(&self, limit: Duration) -> anyhow::Result<()> {
        self.interrupt.sleep(self.setup.interval.mul_f64(1.5))?;
        let (deadline, gateway) = (Instant::now() + limit, self.gateway()?);
        while gateway.queued()? > 0 {
            if Instant::now() > deadline {
                bail!("the gateway is behind after {limit:?}");
            }
            self.interrupt.sleep(Duration::from_millis(100))?;
        }
        Ok(())
    }

    /// Returns the number of samples of one series of each node, by its instance, of the last `time`.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub fn stored_readings(&self, store: &Store, time: Duration) -> anyhow::Result<Vec<(String, u64)>> {
        // A series that each reading has once.
        let expression = format!(r#"count_over_time({OBJECTS}{{kind="program"}}[{}s])"#, time.as_secs());
        let rows = store.rows(&expression)?;
        let row = |row: &crate::receivers::Row| {
            let instance = row.labels.get("instance")?.as_str()?.to_owned();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is a number of samples"
            )]
            Some((instance, row.values.first()?.1 as u64))
        };
        Ok(rows.iter().filter_map(row).collect())
    }

    /// Kills the gateway, and ends the connections to it.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn kill_gateway(&mut self) -> anyhow::Result<()> {
        let gateway = self.gateway.take().context("there is no gateway")?;
        gateway.kill()?;
        self.front.close();
        Ok(())
    }

    /// Starts a gateway again.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn restart_gateway(&mut self) -> anyhow::Result<()> {
        let gateway = Gateway::start(self.folder.path(), self.receives, &self.stores, &self.interrupt)?;
        self.gateway = Some(gateway);
        Ok(self.front.open()?)
    }

    /// Returns the front.
    pub fn front(&mut self) -> &mut Front {
        &mut self.front
    }

    /// Returns the gateway.
    ///
    /// # Errors
    ///
    /// If it was killed.
    pub fn gateway(&self) -> anyhow::Result<&Gateway> {
        self.gateway.as_ref().context("there is no gateway")
    }

    /// Returns the stores.
    #[must_use]
    pub fn stores(&self) -> &[Store] {
        &self.stores
    }

    /// Returns the store of a kind.
    ///
    /// # Errors
    ///
    /// If the fleet has none.
    pub fn store(&self, kind: StoreKind) -> anyhow::Result<&Store> {
        self.stores.iter().find(|store| store.kind() == kind).with_context(|| format!("no {}", kind.name()))
    }

    /// Returns the exporters.
    #[must_use]
    pub fn senders(&self) -> &[Sender] {
        &self.senders
    }

    /// Waits.
    ///
    /// # Errors
    ///
    /// If the run is interrupted.
    pub fn sleep(&self, time: Duration) -> anyhow::Result<()> {
        self.interrupt.sleep(time)
    }

    /// Reads all counters.
    ///
    /// # Errors
    ///
    /// If a process has ended.
    pub fn probe(&self) -> anyhow::Result<Probe> {
        let gateway = self.gateway()?;
        let cpu = |kind| {
            let store = self.stores.iter().find(|store| store.kind() == kind);
            store.map(|store| store.process().cpu().map(|time| time.as_secs_f64())).transpose()
        };
        let of_metrics = |sender: &Sender| {
            let counts = sender.ledger().of(Signal::Metrics);
            let dropped = counts.refused.get() + counts.overflowed.get() + counts.shut_down.get();
            (counts.accepted.get(), dropped)
        };
        let (accepted, dropped) =
            self.senders.iter().map(of_metrics).fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1));
        Ok(Probe {
            at: Instant::now(),
            cpu: Cpu {
                encoding: threads_cpu(ENCODING_THREADS)?.as_secs_f64(),
                delivery: threads_cpu(DELIVERY_THREADS)?.as_secs_f64(),
                gateway: gateway.process().cpu()?.as_secs_f64(),
                prometheus: cpu(StoreKind::Prometheus)?,
                victoria: cpu(StoreKind::Victoria)?,
            },
            traffic: self.front.traffic(),
            readings: self.senders.iter().map(Sender::readings).sum(),
            accepted,
            dropped,
            gateway: gateway.counts()?,
            stores: self
                .stores
                .iter()
                .map(|store| Ok((store.kind(), store.counts()?)))
                .collect::<anyhow::Result<_>>()?,
        })
    }

    /// Lets the fleet work for this time, and returns what that was.
    ///
    /// # Errors
    ///
    /// If a process has ended, or the run is interrupted.
    pub fn window(&self, time: Duration) -> anyhow::Result<Window> {
        let before = self.probe()?;
        self.interrupt.sleep(time)?;
        let after = self.probe()?;
        let memory = |kind| {
            let store = self.stores.iter().find(|store| store.kind() == kind);
            store.map(|store| store.process().memory()).transpose()
        };
        let objects: usize = self
            .senders
            .iter()
            .map(|sender| sender.node().lock().expect("no reading panics").objects())
            .sum();
        let stores =
            before.stores.iter().zip(&after.stores).map(|((kind, before), (_, after))| StoreFigures {
                kind: *kind,
                series: after.series,
                series_created: after.series_created - before.series_created,
                samples: after.samples - before.samples,
                refused: after.refused - before.refused,
            });
        #[expect(clippy::cast_precision_loss, reason = "numbers of objects and nodes are small")]
        let objects = objects as f64 / self.senders.len().max(1) as f64;
        Ok(Window {
            nodes: self.senders.len(),
            objects,
            interval: self.setup.interval.as_secs_f64(),
            seconds: (after.at - before.at).as_secs_f64(),
            readings: after.readings - before.readings,
            points: after.accepted - before.accepted,
            dropped: after.dropped - before.dropped,
            connections: after.traffic.connections - before.traffic.connections,
            requests: after.traffic.requests - before.traffic.requests,
            to_gateway: after.traffic.to_gateway - before.traffic.to_gateway,
            to_nodes: after.traffic.to_nodes - before.traffic.to_nodes,
            cpu: after.cpu.since(before.cpu),
            memory: Memory {
                nodes: own_memory()?,
                gateway: self.gateway()?.process().memory()?,
                prometheus: memory(StoreKind::Prometheus)?,
                victoria: memory(StoreKind::Victoria)?,
            },
            accepted: after.gateway.accepted - before.gateway.accepted,
            refused: after.gateway.refused - before.gateway.refused,
            sent: after.gateway.sent - before.gateway.sent,
            failed: after.gateway.failed - before.gateway.failed,
            stores: stores.collect(),
        })
    }
}

/// Returns the memory that a fleet may need.
fn memory_of(setup: &Setup) -> u64 {
    let (nodes, objects) = (setup.nodes as u64, setup.likeness.objects as u64);
    let series = nodes * (objects * OBJECT_SERIES + NODE_SERIES);
    let of_stores = setup.stores.iter().map(|store| {
        series
            * match store {
                StoreKind::Prometheus => PROMETHEUS_SERIES,
                StoreKind::Victoria => VICTORIA_SERIES,
            }
    });
    GATEWAY + nodes * NODE + of_stores.sum::<u64>()
}

/// Returns the seconds since 1970.
#[must_use]
pub fn now() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}
