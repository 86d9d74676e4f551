//! Lookups of pod and container names in log directories and container runtimes.
//!
//! Entry points: [`run`] for the service, [`once`] for a single snapshot. Ids and names pass through a [`NameCache`], so no reading
//! waits for a source.

#[doc(hidden)]
pub mod cri;
pub(crate) mod docker;
pub(crate) mod logs;
mod schedule;
mod socket;
mod valid;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::debug;

use self::schedule::{RetrySchedule, SourceRetry};
pub use self::socket::Sockets;
use self::socket::{FoundSockets, SocketPath, WELL_KNOWN_CRI, WELL_KNOWN_DOCKER};
use crate::enrich::names::{ContainerName, MissingNames, NameCache, NameSourceId, PodName};
use crate::outage::OutageLog;
use crate::text::{MAX_LEN, is_invisible};
use crate::worker::Worker;

/// Time limit for the complete response of one source.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Size limit of a response: a hundred times the list of a node full of pods.
const MAX_RESPONSE_BYTES: usize = 16 << 20;

/// Sources to query.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory that is the root of the host's file system: log directories and well-known sockets are below it.
    pub root: PathBuf,
    /// Sockets of container runtimes that implement CRI.
    pub cri: Sockets,
    /// Sockets of Docker and Podman.
    pub docker: Sockets,
}

/// Looks up missing names until `stopped` is true: those of a new id at once, and those that no source has again with back-off. Files are
/// looked at on the thread of `files`, since a file system may hang.
pub async fn run(names: NameCache, settings: Settings, files: Worker, mut stopped: watch::Receiver<bool>) {
    let new_ids = Arc::new(Notify::new());
    let notify = Arc::clone(&new_ids);
    names.on_new_ids(move || notify.notify_one());
    let mut lookup = Lookup::new(&settings, files);
    let rounds = async {
        loop {
            let next = lookup.round(&names).await;
            let due = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = new_ids.notified() => {}
                () = due => {}
            }
        }
    };
    tokio::select! {
        // A dropped sender means stop as well.
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = rounds => {}
    }
}

/// Looks up the names that a reading found missing, each source once, and blocks until they are stored, but not longer than
/// `limit` in all and half of it for one source. Returns the sources that failed.
///
/// For a program that takes a single reading: the next reading with the same `names` has those that were found. Returns at once
/// if no name is missing. Must not be called from asynchronous code.
///
/// # Errors
///
/// If the process can have no more descriptors or threads, which the lookup needs.
pub fn once(names: &NameCache, settings: &Settings, limit: Duration) -> io::Result<Vec<SourceError>> {
    if names.missing().is_empty() {
        return Ok(Vec::new());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(query_each(names, settings, &Worker::start("lookup")?, limit)))
}

async fn query_each(
    names: &NameCache,
    settings: &Settings,
    files: &Worker,
    limit: Duration,
) -> Vec<SourceError> {
    let deadline = Instant::now() + limit;
    let mut errors = Vec::new();
    let mut found = FoundSockets::default();
    for (id, source) in sources(settings) {
        let missing = names.missing();
        if source.queried_for(&missing).next().is_none() {
            continue;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let result = if left.is_zero() {
            Err(LookupError::Timeout(limit))
        } else {
            source.query(&missing, &mut found, files, left.min(limit / 2)).await
        };
        match result {
            Ok(result) => {
                result.unwrap_or_default().store(names, id);
            }
            Err(error) => errors.push(SourceError { name: source.to_string(), error }),
        }
    }
    errors
}

/// A source of names that failed.
#[derive(Debug, thiserror::Error)]
#[error("looking up pod and container names at {name} failed: {error}")]
pub struct SourceError {
    name: String,
    error: LookupError,
}

/// Why a source returned no names.
#[derive(Debug, thiserror::Error)]
enum LookupError {
    #[error("read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("connect: {0}")]
    Connect(io::Error),
    #[error("no complete response within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Query(String),
    #[error("unexpected response: {0}")]
    Response(String),
}

/// Names that a source has.
#[derive(Debug, Default, PartialEq, Eq)]
struct LookupResult {
    /// Keys of pods and their names.
    pods: Vec<(String, PodName)>,
    /// Ids of containers and their names.
    containers: Vec<(String, ContainerName)>,
}

impl LookupResult {
    /// Stores the names that are missing. A name that another source provided stays, so that two sources do not alternate.
    ///
    /// Returns how many of them were not used because no pod or container may have such a name.
    fn store(self, names: &NameCache, source: NameSourceId) -> usize {
        let mut invalid = 0;
        let missing = names.missing();
        for (id, name) in self.containers {
            if missing.has_container(&id) {
                if valid::container(&name) {
                    names.set_container(&id, name, source);
                } else {
                    invalid += 1;
                }
            }
        }
        // With a container, its pod may have become missing.
        let missing = names.missing();
        for (key, name) in self.pods {
            if missing.has_pod(&key) {
                if valid::pod(&key, &name) {
                    names.set_pod(&key, name, source);
                } else {
                    invalid += 1;
                }
            }
        }
        invalid
    }
}

impl LookupResult {
    /// For a fuzzer: stores the names as if all of them were missing. What is stored is bounded and visible.
    fn store_queried(self) {
        let names = NameCache::default();
        let ids: Vec<_> = self.containers.iter().map(|(id, _)| id.clone()).collect();
        let keys: Vec<_> = self.pods.iter().map(|(key, _)| key.clone()).collect();
        let _missing = (
            ids.iter().filter_map(|id| names.container(id)).count(),
            keys.iter().filter_map(|key| names.pod(key)).count(),
        );
        self.store(&names, NameSourceId(0));
        let containers = ids.iter().filter_map(|id| names.container(id));
        let pods = keys.iter().filter_map(|key| names.pod(key)).flat_map(|pod| [pod.namespace, pod.name]);
        for text in containers.flat_map(|container| [container.name, container.pod]).flatten().chain(pods) {
            assert!(text.len() <= MAX_LEN && !text.contains(is_invisible), "{text:?}");
        }
    }
}

/// A source of names.
enum NameSource {
    /// Names that the kubelet gives to log files, below this root directory. Costs no other process anything.
    Logs(PathBuf),
    Cri(SocketPath),
    Docker(SocketPath),
}

/// Returns the sources in the order in which they are queried. A kubelet and its runtime name the same containers, and are one.
fn sources(settings: &Settings) -> impl Iterator<Item = (NameSourceId, NameSource)> {
    const KUBELET: NameSourceId = NameSourceId(0);
    let Settings { root, cri, docker } = settings;
    let of_docker = docker.paths(root, &WELL_KNOWN_DOCKER).map(NameSource::Docker);
    [NameSource::Logs(root.clone())]
        .into_iter()
        .chain(cri.paths(root, &WELL_KNOWN_CRI).map(NameSource::Cri))
        .map(|source| (KUBELET, source))
        .chain((1..).map(NameSourceId).zip(of_docker))
}

impl NameSource {
    /// Returns the missing ids that are a reason to query this source.
    fn queried_for<'a>(&self, missing: &'a MissingNames) -> impl Iterator<Item = &'a String> {
        let pods = match self {
            Self::Logs(_) | Self::Cri(_) => &*missing.pods,
            // Knows only the pods of its containers.
            Self::Docker(_) => &[],
        };
        pods.iter().chain(&missing.containers)
    }

    /// Queries names. Returns `None` if the source does not exist on this host.
    async fn query(
        &self,
        missing: &MissingNames,
        found: &mut FoundSockets,
        files: &Worker,
        timeout: Duration,
    ) -> Result<Option<LookupResult>, LookupError> {
        let response = async {
            match self {
                Self::Logs(root) => logs::query(root.clone(), missing.clone(), files).await,
                Self::Cri(path) => match found.find(path, files).await? {
                    Some(socket) => cri::query(socket).await.map(Some),
                    None => Ok(None),
                },
                Self::Docker(path) => match found.find(path, files).await? {
                    Some(socket) => docker::query(socket, missing).await.map(Some),
                    None => Ok(None),
                },
            }
        };
        tokio::time::timeout(timeout, response).await.unwrap_or(Err(LookupError::Timeout(timeout)))
    }
}

impl fmt::Display for NameSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Logs(root) => write!(f, "{}", root.join(logs::PODS).display()),
            Self::Cri(socket) | Self::Docker(socket) => write!(f, "{}", socket.path().display()),
        }
    }
}

/// All sources, and when to query them again.
struct Lookup {
    sources: Vec<ScheduledSource>,
    schedule: RetrySchedule,
    /// The thread that looks at files.
    files: Worker,
}

struct ScheduledSource {
    id: NameSourceId,
    source: NameSource,
    retry: SourceRetry,
    outage: OutageLog,
    /// Whether names that are not used were logged.
    logged_invalid: bool,
}

impl ScheduledSource {
    fn store(&mut self, result: LookupResult, names: &NameCache) {
        let invalid = result.store(names, self.id);
        if invalid > 0 && !std::mem::replace(&mut self.logged_invalid, true) {
            debug!("{}: {invalid} names are not used: no pod or container may be called so", self.source);
        }
    }
}

impl Lookup {
    fn new(settings: &Settings, files: Worker) -> Self {
        let scheduled = |(id, source): (NameSourceId, NameSource)| {
            let outage = OutageLog::new(format!("looking up pod and container names at {source}"));
            ScheduledSource { id, source, retry: SourceRetry::default(), outage, logged_invalid: false }
        };
        let sources = sources(settings).map(scheduled).collect();
        Self { sources, schedule: RetrySchedule::default(), files }
    }

    /// Queries the names that are missing and due. Returns the time of the next round; `None` if no name is missing.
    async fn round(&mut self, names: &NameCache) -> Option<Instant> {
        let queried = names.missing();
        self.schedule.retain(&queried);
        let due = self.schedule.due(&queried, Instant::now());
        let mut found = FoundSockets::default();
        let (mut any_source, mut all_answered) = (false, true);
        for scheduled in &mut self.sources {
            let missing = names.missing();
            let now = Instant::now();
            let is_due = self.schedule.any_due(scheduled.source.queried_for(&missing), now);
            if !scheduled.retry.allows(!missing.is_empty(), is_due, now) {
                any_source = true;
                all_answered &= scheduled.retry.at().is_none();
                continue;
            }
            match scheduled.source.query(&missing, &mut found, &self.files, QUERY_TIMEOUT).await {
                // A missing socket is not an error, and cheap to check again.
                Ok(None) => scheduled.retry.reset(),
                Ok(Some(result)) => {
                    any_source = true;
                    scheduled.retry.reset();
                    scheduled.outage.recovered(String::new);
                    scheduled.store(result, names);
                }
                Err(error) => {
                    (any_source, all_answered) = (true, false);
                    scheduled.retry.failed(Instant::now());
                    scheduled.outage.failed(error);
                }
            }
        }
        if all_answered {
            names.answered(&due, !any_source);
        }
        let missing = names.missing();
        self.schedule.queried(&queried, &missing, Instant::now());
        let retries = self.sources.iter().filter_map(|scheduled| scheduled.retry.at());
        if missing.is_empty() { None } else { retries.chain(self.schedule.next()).min() }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use tempfile::TempDir;

    use super::*;

    /// Makes a socket that refuses connections.
    fn refusing_socket(path: &std::path::Path) {
        let listener = UnixListener::bind(path).expect("the directory is new");
        drop(listener);
    }

    #[test]
    fn names_that_no_pod_or_container_has_are_not_used() {
        let names = NameCache::default();
        let _missing = [names.container("c1"), names.container("c2"), names.container("c3")];
        let _missing = [names.pod("u1"), names.pod("u2")];
        let container = |id: &str, name: &str, pod: Option<&str>| {
            (id.to_owned(), ContainerName { name: Some(name.to_owned()), pod: pod.map(str::to_owned) })
        };
        let pod = |key: &str, namespace: &str, name: &str| {
            (key.to_owned(), PodName { namespace: namespace.to_owned(), name: name.to_owned() })
        };
        let result = LookupResult {
            pods: vec![pod("u1", "a\u{202e}", "n"), pod("u2", "shop", "cart"), pod("u3", "", "")],
            containers: vec![
                container("c1", "x\ny", None),
                container("c2", "web", Some(&"u".repeat(5_000))),
                container("c3", "web", None),
            ],
        };
        assert_eq!(result.store(&names, NameSourceId(0)), 3, "nobody asked for u3");
        let missing = names.missing();
        assert_eq!(
            (missing.pods, missing.containers),
            (vec!["u1".to_owned()], vec!["c1".to_owned(), "c2".to_owned()])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_failed_and_vanished_is_retried_with_a_delay() {
        let directory = TempDir::with_prefix("lookup-").expect("the directory can be made");
        let root = directory.path();
        std::fs::create_dir(root.join("run")).expect("the directory can be made");
        let socket = root.join("run/docker.sock");
        refusing_socket(&socket);
        let settings =
            Settings { root: root.to_owned(), cri: Sockets::WellKnown, docker: Sockets::WellKnown };
        let (names, mut lookup) =
            (NameCache::default(), Lookup::new(&settings, Worker::start("test").expect("a thread")));
        // A paused clock moves on by itself while only another thread works, unless a blocking task runs.
        let (_end, wait) = std::sync::mpsc::channel::<()>();
        let _running = tokio::task::spawn_blocking(move || wait.recv());
        assert_eq!(lookup.round(&names).await, None, "nothing is missing");
        let _missing = names.container("c1");
        for exists in [true, true, false, false, false] {
            if !exists && socket.exists() {
                std::fs::remove_file(&socket).expect("it is our own");
            }
            let next = lookup.round(&names).await.expect("c1 is missing");
            assert!(next > Instant::now());
            let failed = lookup.sources.iter().any(|source| source.retry.at().is_some());
            assert_eq!(failed, exists);
            // The delay of the source may be longer than that of the name.
            let due = lookup.sources.iter().filter_map(|source| source.retry.at()).fold(next, Instant::max);
            tokio::time::advance(due - Instant::now()).await;
        }
    }

    #[test]
    fn one_round_is_bounded_by_its_limit() {
        let directory = TempDir::with_prefix("lookup-").expect("the directory can be made");
        let root = directory.path();
        let bind = |name: &str| {
            let path = root.join(name);
            (UnixListener::bind(&path).expect("the directory is new"), path)
        };
        // Both accept connections and never answer.
        let ((_cri, cri), (_docker, docker)) = (bind("cri.sock"), bind("docker.sock"));
        let settings = Settings {
            root: root.to_owned(),
            cri: Sockets::Given(vec![cri]),
            docker: Sockets::Given(vec![docker, root.join("missing.sock")]),
        };
        let names = NameCache::default();
        let limit = Duration::from_millis(200);
        assert!(once(&names, &settings, limit).expect("a runtime").is_empty(), "no name is missing");
        let _missing = names.container("c1");
        let start = std::time::Instant::now();
        let errors = once(&names, &settings, limit).expect("a runtime");
        assert!(start.elapsed() < QUERY_TIMEOUT, "{:?}", start.elapsed());
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 3, "{errors:#?}");
        assert!(errors[0].contains("cri.sock failed: no complete response within"), "{errors:#?}");
        assert!(errors[1].contains("docker.sock failed: no complete response within"), "{errors:#?}");
        assert!(errors[2].contains("missing.sock failed:"), "{errors:#?}");
    }
}
