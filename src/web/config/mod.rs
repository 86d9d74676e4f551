//! The configuration file of `--web.config.file`, in exporter-toolkit's format: TLS, client certificates, users, headers, rate limit.
//! Entry points: [`ConfigFile::load`] at start, [`ConfigFile::current`] for each connection and request.
//!
//! Files are looked at again each time, and read again when they changed. A change that is wrong, or that removes a protection, is
//! not taken over: half-written files must not open what was closed.

mod file;
mod rate;
mod sans;
mod section;
mod tls;
mod users;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, mpsc};
use std::time::SystemTime;

use http::{HeaderName, HeaderValue};
use tracing::{info, warn};

use self::rate::Rate;
use self::users::Users;
pub(super) use self::users::Verdict;
use super::bounds;
use crate::worker::Worker;

/// Why a configuration file is not usable: its path, the line where one is known, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {problem}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct ConfigError {
    path: PathBuf,
    line: Option<u64>,
    problem: String,
}

/// What a configuration file says.
pub(super) struct Config {
    /// `None` for plain HTTP.
    pub(super) tls: Option<Arc<tls::Server>>,
    /// Headers of every response.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    users: Option<Arc<Users>>,
    rate: Option<Arc<Rate>>,
    /// What cannot be followed, a line each.
    warnings: Vec<String>,
    /// The files that it is made of.
    files: Vec<PathBuf>,
}

impl Config {
    /// The configuration without a file.
    pub(super) fn none() -> Arc<Self> {
        Arc::new(Self {
            tls: None,
            headers: Vec::new(),
            users: None,
            rate: None,
            warnings: Vec::new(),
            files: Vec::new(),
        })
    }

    /// Returns whether the rate limit admits another request.
    pub(super) fn admits(&self) -> bool {
        self.rate.as_ref().is_none_or(|rate| rate.admits())
    }

    fn verifies_clients(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.verifies_clients())
    }

    /// Returns whether a connection accepted by another configuration would be accepted in the same way by this one.
    pub(super) fn has_tls_of(&self, other: &Self) -> bool {
        self.tls.as_ref().map(Arc::as_ptr) == other.tls.as_ref().map(Arc::as_ptr)
    }

    /// Returns whether a connection accepted by another configuration lacks protection that this one demands.
    pub(super) fn is_stricter_than(&self, other: &Self) -> bool {
        other.lost_tls(self).is_some()
    }

    /// Returns what of the protection of connections by another configuration this one lacks.
    fn lost_tls(&self, before: &Self) -> Option<&'static str> {
        match (&before.tls, &self.tls) {
            (None, _) => None,
            (Some(_), None) => Some("TLS"),
            (Some(before), Some(now)) => now.lacks(before),
        }
    }

    /// Returns what of the protection by another configuration this one lacks.
    fn lost(&self, before: &Self) -> Option<&'static str> {
        let lost_users = before.users.is_some() && self.users.is_none();
        let lost_rate = before.rate.is_some() && self.rate.is_none();
        self.lost_tls(before)
            .or_else(|| lost_users.then_some("the users"))
            .or_else(|| lost_rate.then_some("the rate limit"))
    }

    /// Keeps what is equal in another configuration: verified passwords, tokens of the rate limit, and TLS with its sessions.
    fn keep(mut self, before: &Self) -> Self {
        fn keep<T>(now: &mut Option<Arc<T>>, before: Option<&Arc<T>>, is_same: impl Fn(&T, &T) -> bool) {
            if let (Some(now), Some(before)) = (now, before)
                && is_same(now, before)
            {
                *now = Arc::clone(before);
            }
        }
        keep(&mut self.users, before.users.as_ref(), Users::is_same);
        keep(&mut self.rate, before.rate.as_ref(), Rate::is_same);
        keep(&mut self.tls, before.tls.as_ref(), tls::Server::is_same);
        self
    }
}

/// A configuration file, and what it said when it was last valid.
#[derive(Clone)]
pub struct ConfigFile {
    path: Arc<Path>,
    threads: Arc<OnceLock<Workers>>,
    state: Arc<Mutex<State>>,
}

/// The threads for what blocks: one that reads files, one that verifies passwords.
struct Workers {
    reading: Worker,
    verifying: Worker,
}

struct State {
    config: Arc<Config>,
    stamps: Vec<Option<Stamp>>,
}

/// By which a file is known to have changed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    inode: (u64, u64),
}

impl ConfigFile {
    /// Reads a configuration file.
    ///
    /// # Errors
    ///
    /// What is wrong in it, or in a file that it names.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let stamp = stamp(path);
        let config = file::read(path)?;
        let stamps = std::iter::once(stamp).chain(config.files.iter().skip(1).map(|file| self::stamp(file)));
        let state = State { stamps: stamps.collect(), config: Arc::new(config) };
        Ok(Self { path: path.into(), threads: Arc::default(), state: Arc::new(Mutex::new(state)) })
    }

    /// Starts the threads that read the file again and verify passwords. Until then it is not looked at again.
    ///
    /// # Errors
    ///
    /// If the system refuses a thread.
    pub fn start(&self) -> io::Result<()> {
        let threads =
            Workers { reading: Worker::start("web-config")?, verifying: Worker::start("web-users")? };
        // Threads that are there already stay.
        let _started_before = self.threads.set(threads);
        Ok(())
    }

    /// Reads the files once on the thread that reads them again later, which may have fewer privileges than [`ConfigFile::load`] had.
    ///
    /// # Errors
    ///
    /// What that thread cannot read: a change of it will not be taken over.
    pub fn check_access(&self) -> Result<(), ConfigError> {
        let Some(threads) = self.threads.get() else { return Ok(()) };
        let (result, finished) = mpsc::channel();
        let path = Arc::clone(&self.path);
        threads.reading.submit(move || {
            // The caller waits.
            let _: Result<(), _> = result.send(file::read(&path).map(drop));
        });
        finished.recv().expect("the thread runs every task")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics with it")
    }

    /// Returns whether connections are encrypted.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.state().config.tls.is_some()
    }

    /// Returns whether clients must prove who they are: by a password, or by a certificate that is verified.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        let config = &self.state().config;
        config.users.is_some() || config.verifies_clients()
    }

    /// Returns what in it cannot be followed, a line each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let path = self.path.display();
        self.state().config.warnings.iter().map(|warning| format!("{path}: {warning}")).collect()
    }

    /// Returns the files that are read again while the exporter runs.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().config.files.clone()
    }

    /// Reads the file again whether or not it changed.
    pub async fn reload(&self) {
        let this = self.clone();
        if let Some(threads) = self.threads.get() {
            threads.reading.turn().await.run(move || this.replace()).await;
        }
    }

    /// Returns what the file says, as it is now.
    pub(super) async fn current(&self) -> Arc<Config> {
        let this = self.clone();
        let refresh = move || {
            let state = this.state();
            let unchanged =
                state.config.files.iter().map(|file| stamp(file)).eq(state.stamps.iter().copied());
            drop(state);
            if !unchanged {
                this.replace();
            }
            Arc::clone(&this.state().config)
        };
        match self.threads.get() {
            Some(threads) => threads.reading.turn().await.run(refresh).await,
            None => Arc::clone(&self.state().config),
        }
    }

    /// Returns whether these credentials, the value of `Authorization`, are those of a user of a configuration.
    pub(super) async fn verify(&self, config: &Config, authorization: Option<&HeaderValue>) -> Verdict {
        match (&config.users, self.threads.get()) {
            (None, _) => Verdict::Allowed,
            (Some(users), Some(threads)) => users.verify(authorization, &threads.verifying).await,
            (Some(_), None) => Verdict::Refused,
        }
    }

    /// Takes over what the files say, if it is valid. Runs on one thread only.
    fn replace(&self) {
        let before = Arc::clone(&self.state().config);
        let look = |files: &[PathBuf]| files.iter().map(|file| stamp(file)).collect::<Vec<_>>();
        // Looked at first: a change during the reading is seen next time.
        let looked = look(&before.files);
        match file::read(&self.path).and_then(|config| self.kept_closed(&before, config)) {
            Ok(config) => {
                info!("{} was read again", self.path.display());
                let stamps = if config.files == before.files { looked } else { look(&config.files) };
                *self.state() = State { config: Arc::new(config.keep(&before)), stamps };
                for warning in self.warnings() {
                    warn!("{warning}");
                }
            }
            Err(error) => {
                warn!("{error}; the configuration before is used until the file changes");
                self.state().stamps = looked;
            }
        }
    }

    fn kept_closed(&self, before: &Config, now: Config) -> Result<Config, ConfigError> {
        let Some(removed) = now.lost(before) else { return Ok(now) };
        let problem = format!("removes {removed}, for which the exporter must be started again");
        Err(ConfigError { path: self.path.to_path_buf(), line: None, problem })
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some(Stamp { modified: found.modified().ok(), size: found.len(), inode: (found.dev(), found.ino()) })
}

/// Reads a regular file of bounded size.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(bounds::CONFIG_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bounds::CONFIG_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(bytes)
}

/// Reads bytes as a certificate and as the value of `Authorization`.
#[doc(hidden)]
pub fn fuzz_certificate(bytes: &[u8]) {
    let _names = sans::names(bytes);
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        let _credentials = users::credentials(&value);
    }
}

/// Reads bytes as the text of a configuration file.
#[doc(hidden)]
pub fn fuzz_config(bytes: &[u8]) {
    let _root = file::parse(&String::from_utf8_lossy(bytes));
}
