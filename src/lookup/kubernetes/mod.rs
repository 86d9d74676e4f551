//! Names of this node's pods and containers from the API server of Kubernetes: one list, and then a watch that goes on where it was
//! interrupted. Knows nobody who asks, and no reading waits for it. Begin at [`Cluster::watch`].

mod access;
mod pod;
mod relation;
mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use kube_client::Client;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

pub use self::access::{Access, AccessError};
use self::pod::Pods;
use self::relation::Relation;
use self::wire::{Asker, Event, Failure, ListFrom, Watch};
use crate::enrich::names::Names;

/// After how long certificates and tokens are read again although nothing failed: those that a kubelet renews are valid for a tenth
/// of their life yet, which is a day or more.
const RENEWED_AFTER: Duration = Duration::from_hours(1);

/// Where and what to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the API server is to be found.
    pub access: Access,
    /// What this node is called there.
    pub node_name: String,
    /// How long to wait for what.
    pub patience: Patience,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Before trying again after a first failure; doubles with each further one.
    pub first_pause: Duration,
    /// Before trying again after many; also for how long a watch has to go well until those are forgotten.
    pub longest_pause: Duration,
    /// For an answer, and for a plugin that brings a token.
    pub answer: Duration,
    /// How long a watch may last; the server ends it then by itself. Whole seconds.
    pub watch: Duration,
    /// For more than that until the server is taken for dead.
    pub grace: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            answer: Duration::from_secs(30),
            watch: Duration::from_mins(5),
            grace: Duration::from_secs(15),
        }
    }
}

/// Whether the API server can be looked for at all: reads the files that the settings name, and asks nobody. Not to be called in a
/// task: it brings a runtime of its own.
///
/// # Errors
/// A file that is missing or not what it should be; in-cluster, when this is no pod; no name of the node.
pub fn check(settings: &Settings) -> Result<(), AccessError> {
    if settings.node_name.is_empty() {
        return Err(AccessError::NoNode);
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AccessError::Runtime)?;
    runtime.block_on(access::check(&settings.access))
}

/// The pods of this node, as the API server tells them. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Cluster(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    pods: Mutex<Pods>,
    changed: Notify,
}

impl Cluster {
    /// Knows nothing until it watches.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches until told to stop. What goes wrong is said in the log, once, and tried again; what is known stays known meanwhile.
    pub async fn watch(&self, settings: Settings, mut stopped: watch::Receiver<bool>) {
        let mut session = Session {
            relation: Relation::new(&settings.node_name),
            settings,
            cluster: self.clone(),
            asker: None,
            connecting: None,
            version: None,
            failures: 0,
            forgotten: 0,
        };
        tokio::select! {
            () = session.run() => {}
            // Nobody who could tell us to stop is a reason to stop as well.
            _ = stopped.wait_for(|&stopped| stopped) => {}
        }
    }

    /// Tells all that was asked for and is known: pods by uid, static ones by the hash of their configuration; containers by id.
    pub fn answer(&self, names: &Names) {
        self.pods().answer(names);
    }

    /// Waits until something new was learnt; at once when that was since it last waited. For one who waits, not for several.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn pods(&self) -> MutexGuard<'_, Pods> {
        self.0.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, pods: Pods) {
        let news = {
            let known = &mut *self.pods();
            let news = known.is_news(&pods);
            *known = pods;
            news
        };
        if news {
            self.0.changed.notify_one();
        }
    }
}

/// One watch after another.
struct Session {
    settings: Settings,
    cluster: Cluster,
    /// Made anew after each failure, since all that makes it may be other by then: addresses, certificates, tokens.
    asker: Option<(Asker, Instant)>,
    /// A plugin that takes its time is waited for again, and not started twice.
    connecting: Option<JoinHandle<Result<Client, AccessError>>>,
    /// Up to where the pods are known; `None` when they have to be listed.
    version: Option<String>,
    /// How often it failed since it last worked.
    failures: u32,
    /// How often of these the server had forgotten the version.
    forgotten: u32,
    relation: Relation,
}

impl Session {
    async fn run(&mut self) {
        loop {
            let began = Instant::now();
            let Err(failure) = self.follow().await else {
                // When an API server restarts, all nodes come to the next one; one that ends each watch after a line is not run down.
                let least = self.settings.patience.first_pause;
                let jittered = least.mul_f64(rand::random_range(0.0..1.0));
                sleep(least.saturating_sub(began.elapsed()).max(jittered)).await;
                continue;
            };
            self.asker = None;
            match &failure {
                Failure::Gone(_) => {
                    self.version = None;
                    self.forgotten += 1;
                }
                // An event that cannot be read may have been any.
                Failure::Garbage(_) => self.version = None,
                Failure::Refused { status, .. } if is_our_mistake(*status) => self.version = None,
                _ => {}
            }
            self.relation.failed(&failure, self.failures);
            let pause = pause_length(self.failures, &self.settings.patience, &failure);
            self.failures = self.failures.saturating_add(1);
            sleep(pause).await;
        }
    }

    /// Lists if need be, and follows one watch to its end.
    async fn follow(&mut self) -> Result<(), Failure> {
        let patience = self.settings.patience;
        let asker = self.asker().await?;
        let version = if let Some(version) = &self.version {
            version.clone()
        } else {
            // One that is forgotten a second time comes from a cache that is behind.
            let from = if self.forgotten > 1 { ListFrom::Store } else { ListFrom::Cache };
            let (pods, version) = wire::list(&asker, from).await?;
            self.relation.listed(&asker.server, pods.len());
            self.cluster.replace(pods);
            self.version.insert(version).clone()
        };
        // Not all nodes of a cluster at once.
        let lasting = patience.watch.mul_f64(rand::random_range(0.8..=1.0));
        let mut watch = wire::open(&asker, &version, lasting).await?;
        if !self.begin(&mut watch).await? {
            return Err(Failure::Ended);
        }
        // What fails soon again has not worked meanwhile: neither are pauses short again, nor does the log tell each time.
        let mut left = Some(patience.longest_pause);
        let (opened, silence) = (Instant::now(), lasting + patience.grace);
        loop {
            match timeout(left.unwrap_or(silence), watch.next()).await {
                Ok(Ok(Some(event))) => {
                    self.take(event);
                    left = left.map(|_| patience.longest_pause.saturating_sub(opened.elapsed()));
                }
                Ok(Ok(None)) => {
                    self.works();
                    return Ok(());
                }
                Ok(Err(failure)) => return Err(failure),
                Err(_) if left.take().is_some() => self.works(),
                Err(_) => {
                    // Whether the server is dead shows in the next one.
                    debug!("a watch of pods fell silent for {silence:?}");
                    self.asker = None;
                    return Ok(());
                }
            }
        }
    }

    fn works(&mut self) {
        (self.failures, self.forgotten) = (0, 0);
        self.relation.works();
    }

    /// Waits for the first event of a watch, or until it has lasted a while. Whether it did either: a server that takes each watch
    /// and drops it is not one that works.
    async fn begin(&mut self, watch: &mut Watch) -> Result<bool, Failure> {
        let Ok(first) = timeout(self.settings.patience.first_pause, watch.next()).await else {
            return Ok(true);
        };
        match first? {
            Some(event) => {
                self.take(event);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn take(&mut self, event: Event) {
        let (version, news) = match event {
            Event::Bookmark(version) => (version, false),
            Event::Set(pod) => (pod.metadata.resource_version.clone(), self.cluster.pods().set(pod)),
            Event::Deleted(pod) => {
                self.cluster.pods().remove(&pod);
                (pod.metadata.resource_version, false)
            }
        };
        if !version.is_empty() {
            self.version = Some(version);
        }
        if news {
            self.cluster.0.changed.notify_one();
        }
    }

    async fn asker(&mut self) -> Result<Asker, Failure> {
        if let Some((asker, since)) = &self.asker
            && since.elapsed() < RENEWED_AFTER
        {
            return Ok(asker.clone());
        }
        let limit = self.settings.patience.answer;
        let config = access::load(&self.settings.access).await?;
        let server = config.cluster_url.clone();
        let connecting = self
            .connecting
            .get_or_insert_with(|| tokio::task::spawn_blocking(move || access::connect(&config)));
        let connected = timeout(limit, connecting)
            .await
            .map_err(|_| Failure::Silent { who: "what brings a token".to_owned(), limit })?;
        self.connecting = None;
        let client = connected.map_err(|error: JoinError| Failure::Unreachable {
            server: server.clone(),
            reason: error.to_string(),
        })??;
        let node = self.settings.node_name.clone();
        let asker = Asker { client, server, node, answer: limit };
        self.asker = Some((asker.clone(), Instant::now()));
        Ok(asker)
    }
}

/// Whether the same question will be refused again, where another might not.
fn is_our_mistake(status: StatusCode) -> bool {
    const WITH_TIME: [StatusCode; 4] = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    status.is_client_error() && !WITH_TIME.contains(&status)
}

/// Doubles with each failure; between half and all of it, so that not all nodes come back at once. Not less than the server asks for.
fn pause_length(failures: u32, patience: &Patience, failure: &Failure) -> Duration {
    const LONGEST_ASKED_FOR: Duration = Duration::from_mins(5);
    let backoff =
        patience.first_pause.saturating_mul(2_u32.saturating_pow(failures)).min(patience.longest_pause);
    let jittered = backoff.mul_f64(rand::random_range(0.5..1.0));
    match failure {
        Failure::Refused { after: Some(after), .. } => after.min(&LONGEST_ASKED_FOR).saturating_add(jittered),
        _ => jittered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_differ() {
        let patience = Patience::default();
        for (failures, longest) in [(0, 1), (1, 2), (4, 16), (5, 30), (u32::MAX, 30)] {
            let longest = Duration::from_secs(longest);
            for _ in 0..100 {
                let pause = pause_length(failures, &patience, &Failure::Ended);
                assert!(pause >= longest / 2 && pause <= longest, "{failures}: {pause:?}");
            }
        }
    }

    #[test]
    fn a_server_that_names_a_pause_gets_it_within_reason() {
        for (asked, expected) in [(60, 60), (86_400, 300)] {
            let (status, after) = (StatusCode::TOO_MANY_REQUESTS, Some(Duration::from_secs(asked)));
            let failure = Failure::Refused { status, message: String::new(), after };
            let pause = pause_length(0, &Patience::default(), &failure);
            assert!(pause >= Duration::from_secs(expected) && pause <= Duration::from_secs(expected + 1));
        }
    }
}
