//! Looks up names of pods and containers with those who know them, in the background: no reading waits for it.
//! Knows nothing of readings; what is asked for and what is told goes through [`Names`]. Begin at [`run`].

mod cri;
mod docker;
mod logs;
mod pace;
mod socket;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use self::pace::{Pace, Tries};
pub use self::socket::Sockets;
use self::socket::{Present, WELL_KNOWN_CRI, WELL_KNOWN_DOCKER};
use crate::enrich::names::{ContainerName, Missing, Names, PodName};

/// How long one who is asked may take for the whole answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer that is taken: a hundred times what a node full of pods gives.
const LONGEST_ANSWER: usize = 16 << 20;

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Below which the host's files are found: its logs, and the well-known sockets.
    pub root: PathBuf,
    /// Container runtimes that speak CRI.
    pub cri: Sockets,
    /// Docker and Podman.
    pub docker: Sockets,
}

/// Tells names as long as the program runs: what a reading misses is asked for at once, and again ever less often while nobody
/// knows it. Ends when `stopped` says so.
pub async fn run(names: Names, settings: Settings, mut stopped: watch::Receiver<bool>) {
    let asked = Arc::new(Notify::new());
    let wake = Arc::clone(&asked);
    names.wake_with(move || wake.notify_one());
    let mut sources = Lookup::new(&settings);
    let forever = async {
        loop {
            let next = sources.round(&names).await;
            let due = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = asked.notified() => {}
                () = due => {}
            }
        }
    };
    tokio::select! {
        // That nobody can say it any more is as good.
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = forever => {}
    }
}

/// Everyone who is asked, in this order, and when to ask again.
struct Lookup {
    sources: Vec<Source>,
    tries: Tries,
}

/// One who is asked, and how we stand with it.
struct Source {
    who: Who,
    pace: Pace,
}

enum Who {
    /// The kubelet, by the names that it gives to logs: costs nobody anything.
    Logs(PathBuf),
    Cri(socket::Place),
    Docker(socket::Place),
}

/// What one who was asked knows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    pods: Vec<(String, PodName)>,
    containers: Vec<(String, ContainerName)>,
}

/// Why one who was asked knows nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("failed to read {}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("failed to connect: {0}")]
    Connect(#[source] std::io::Error),
    #[error("failed to get an answer within {PATIENCE:?}")]
    Slow,
    #[error("failed to get an answer: {0}")]
    Call(String),
    #[error("failed to understand the answer: {0}")]
    Answer(String),
}

impl Lookup {
    fn new(settings: &Settings) -> Self {
        let mut sources = vec![Who::Logs(settings.root.clone())];
        sources.extend(settings.cri.places(&settings.root, &WELL_KNOWN_CRI).map(Who::Cri));
        sources.extend(settings.docker.places(&settings.root, &WELL_KNOWN_DOCKER).map(Who::Docker));
        let sources = sources.into_iter().map(|who| Source { who, pace: Pace::default() }).collect();
        Self { sources, tries: Tries::default() }
    }

    /// Asks for what is missing and due, and says when to ask again; `None` when nothing is missing.
    async fn round(&mut self, names: &Names) -> Option<Instant> {
        let asked = names.missing();
        self.tries.only(&asked);
        let mut present = Present::default();
        for Source { who, pace } in &mut self.sources {
            let missing = names.missing();
            let now = Instant::now();
            if !pace.lets_ask(!missing.is_empty(), self.tries.any_due(&who.knows(&missing), now), now) {
                continue;
            }
            match who.ask(&missing, &mut present).await {
                // A source that is not there is nobody's mistake, and costs nothing to look for again.
                Ok(None) => pace.gone(),
                Ok(Some(found)) => {
                    if pace.worked() {
                        info!("{who} answers again");
                    }
                    found.tell(names, &missing);
                }
                Err(failure) => {
                    if pace.failed(Instant::now()) {
                        warn!(
                            "{who} tells no names of pods and containers: {failure}; asking again, ever less often"
                        );
                    }
                }
            }
        }
        let (missing, now) = (names.missing(), Instant::now());
        self.tries.tried(&asked, &missing, now);
        let retries = self.sources.iter().filter_map(|source| source.pace.retry());
        if missing.is_empty() { None } else { retries.chain(self.tries.next()).min() }
    }
}

impl Who {
    /// What of this it can know at all.
    fn knows(&self, missing: &Missing) -> Missing {
        match self {
            Self::Docker(_) => Missing { pods: Vec::new(), containers: missing.containers.clone() },
            Self::Logs(_) | Self::Cri(_) => missing.clone(),
        }
    }

    /// Asks for names. `None` when it is not there.
    async fn ask(&self, missing: &Missing, present: &mut Present) -> Result<Option<Found>, Failure> {
        let answer = async {
            match self {
                Self::Logs(root) => logs::look(root.clone(), missing.clone()).await,
                Self::Cri(place) => match present.find(place).await? {
                    Some(socket) => cri::ask(socket).await.map(Some),
                    None => Ok(None),
                },
                Self::Docker(place) => match present.find(place).await? {
                    Some(socket) => docker::ask(socket).await.map(Some),
                    None => Ok(None),
                },
            }
        };
        tokio::time::timeout(PATIENCE, answer).await.unwrap_or(Err(Failure::Slow))
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Logs(root) => write!(f, "{}", root.join(logs::PODS).display()),
            Self::Cri(place) | Self::Docker(place) => write!(f, "{}", place.path().display()),
        }
    }
}

impl Found {
    /// Tells what was missing; what another source told already stays, lest the two take turns.
    fn tell(self, names: &Names, missing: &Missing) {
        for (key, name) in self.pods {
            if missing.pods.binary_search(&key).is_ok() {
                names.tell_pod(&key, name);
            }
        }
        for (id, name) in self.containers {
            if missing.containers.binary_search(&id).is_ok() {
                names.tell_container(&id, name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket of this name that nobody listens on.
    fn left_behind(path: &std::path::Path) {
        let listener = std::os::unix::net::UnixListener::bind(path).expect("nobody else has this path");
        drop(listener);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_failed_and_is_gone_is_not_looked_for_without_a_pause() {
        let root = std::env::temp_dir().join(format!("lookup-{}", std::process::id()));
        std::fs::create_dir_all(root.join("run")).expect("there is room");
        let socket = root.join("run/docker.sock");
        left_behind(&socket);
        let settings = Settings { root: root.clone(), cri: Sockets::WellKnown, docker: Sockets::WellKnown };
        let (names, mut lookup) = (Names::default(), Lookup::new(&settings));
        assert_eq!(lookup.round(&names).await, None, "nothing is missing");
        let _missing = names.container("c1");
        for is_there in [true, true, false, false, false] {
            if !is_there && socket.exists() {
                std::fs::remove_file(&socket).expect("it is ours");
            }
            let next = lookup.round(&names).await.expect("c1 is missing");
            assert!(next > Instant::now());
            let failed = lookup.sources.iter().any(|source| source.pace.retry().is_some());
            assert_eq!(failed, is_there);
            // Its own pause may last longer than that of the name.
            let due = lookup.sources.iter().filter_map(|source| source.pace.retry()).fold(next, Instant::max);
            tokio::time::advance(due - Instant::now()).await;
        }
        std::fs::remove_dir_all(&root).expect("it is ours");
    }
}
