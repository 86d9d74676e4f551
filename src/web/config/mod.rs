//! The configuration file of `--web.config.file`, in exporter-toolkit's format: TLS, client certificates, users, headers, rate limit.
//! Entry points: [`ConfigFile::load`] at start, [`ConfigFile::current`] for each connection and request.
//!
//! Files are looked at again each time, and read again when they changed. A change that is wrong, or that removes TLS or the users,
//! is not taken over: half-written files must not open what was closed.

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
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::SystemTime;

use http::{HeaderName, HeaderValue};
use tokio_rustls::TlsAcceptor;
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
    pub(super) tls: Option<TlsAcceptor>,
    /// Whether clients must have a certificate that is verified.
    verifies_clients: bool,
    /// Headers of every response.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    users: Option<Users>,
    rate: Option<Rate>,
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
            verifies_clients: false,
            headers: Vec::new(),
            users: None,
            rate: None,
            warnings: Vec::new(),
            files: Vec::new(),
        })
    }

    /// Returns whether the rate limit admits another request.
    pub(super) fn admits(&self) -> bool {
        self.rate.as_ref().is_none_or(Rate::admits)
    }
}

/// A configuration file, and what it said when it was last valid.
#[derive(Clone)]
pub struct ConfigFile {
    path: Arc<Path>,
    threads: Arc<OnceLock<Threads>>,
    state: Arc<Mutex<State>>,
}

/// What blocks has a thread of its own.
struct Threads {
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
            Threads { reading: Worker::start("web-config")?, verifying: Worker::start("web-users")? };
        // Threads that are there already stay.
        let _started_before = self.threads.set(threads);
        Ok(())
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
        config.users.is_some() || config.verifies_clients
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
            threads.reading.run(move || this.replace()).await;
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
            Some(threads) => threads.reading.run(refresh).await,
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
                *self.state() = State { config: Arc::new(config), stamps };
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
        let removed = match (before, &now) {
            (Config { tls: Some(_), .. }, Config { tls: None, .. }) => "TLS",
            (Config { users: Some(_), .. }, Config { users: None, .. }) => "the users",
            (Config { verifies_clients: true, .. }, Config { verifies_clients: false, .. }) => {
                "the verification of clients"
            }
            _ => return Ok(now),
        };
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
