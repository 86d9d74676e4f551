//! The Prometheus endpoint: its sockets and its configuration file, opened before anything else, since either may be a mistake.
//! Entry points: [`WebEndpoint::open`] and [`WebEndpoint::serve`].

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use bpf_metrics_exporter::cli::{ListenAddress, Web};
use bpf_metrics_exporter::events::Events;
use bpf_metrics_exporter::host::clock::HostClock;
use bpf_metrics_exporter::model::SettingInForce;
use bpf_metrics_exporter::source::Source;
use bpf_metrics_exporter::sys::inherited;
use bpf_metrics_exporter::web::{self, ConfigFile, Hosts, Listener, descriptors};
use bpf_metrics_exporter::worker::Worker;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::baseline::ReloadedBaseline;
use crate::supervisor::Manager;
use crate::{USAGE, messages};

/// What the endpoint is served on.
pub(super) struct WebEndpoint {
    listeners: Vec<Listener>,
    config: Option<ConfigFile>,
    /// The limit of descriptors.
    descriptors: u64,
    /// What is in force, for the page.
    settings: Arc<[SettingInForce]>,
}

/// When files are read again, what is notified of it, and the file that is not one of the endpoint.
pub(super) struct Reloads {
    pub(super) signals: watch::Receiver<()>,
    pub(super) manager: Manager,
    pub(super) baseline: Option<ReloadedBaseline>,
}

/// Why the endpoint cannot be served.
pub(super) struct NotOpened {
    /// A line for each reason.
    pub(super) lines: Vec<String>,
    /// With what the program exits.
    pub(super) code: ExitCode,
}

impl WebEndpoint {
    /// Reads the configuration file and listens on every address.
    pub(super) fn open(web: &Web, settings: Vec<SettingInForce>) -> Result<Self, NotOpened> {
        // First: later, other descriptors would have the numbers.
        let inherited = inherited::sockets();
        let listeners = if web.systemd_socket { from_systemd(inherited) } else { listen(web) };
        let listeners = listeners.map_err(|lines| NotOpened { lines, code: ExitCode::FAILURE })?;
        let config = web.config_file.as_deref().map(ConfigFile::load).transpose();
        let config = config.map_err(|error| NotOpened {
            lines: vec![format!("--web.config.file: {error}")],
            code: ExitCode::from(USAGE),
        })?;
        Ok(Self { listeners, config, descriptors: descriptors::raise_limit(), settings: settings.into() })
    }

    /// Returns whether there are files that a signal makes it read again.
    pub(super) fn has_files(&self) -> bool {
        self.config.is_some()
    }

    /// Returns the files that are read again while the exporter runs.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.config.as_ref().map(ConfigFile::files).unwrap_or_default()
    }

    /// Returns the directories in which the files of sockets are removed at the end.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        self.listeners.iter().filter_map(Listener::directory).collect()
    }

    /// Starts the threads of the configuration file, and warns if they cannot read it any more.
    pub(super) fn start_threads(&self) -> anyhow::Result<()> {
        let Some(config) = &self.config else { return Ok(()) };
        config.start().context("failed to start a thread")?;
        if let Err(error) = config.check_access() {
            warn!(
                "{error}: it could be read at start, but not without the privileges that the exporter has given up, so that \
                 changes will not be taken over; make the file and its directory readable to the exporter's user, or to \
                 one of its groups"
            );
        }
        Ok(())
    }

    /// Serves a source's readings, rendered on a thread, and events, until `stopped`. `names`: further names of this host. `reloads`:
    /// when to read files again.
    pub(super) fn serve(
        self,
        tasks: &mut JoinSet<anyhow::Result<()>>,
        web: &Web,
        names: &[String],
        (source, rendering, events): (Source, Worker, Events),
        stopped: &watch::Receiver<bool>,
        reloads: Option<Reloads>,
    ) {
        let Self { listeners, config, descriptors, settings } = self;
        for warning in config.iter().flat_map(ConfigFile::warnings) {
            warn!("{warning}");
        }
        log_addresses(&listeners, config.as_ref(), &web.telemetry_path);
        let own = web::own_names();
        let of_addresses = web.listen.iter().filter_map(|address| match address {
            ListenAddress::Tcp { host, .. } => host.as_deref(),
            ListenAddress::Unix(_) => None,
        });
        let hosts = own.iter().chain(names).chain(&web.allowed_hosts).map(String::as_str).chain(of_addresses);
        let clock = Mutex::new(HostClock::default());
        let settings = web::Settings {
            hosts: Hosts::new(hosts),
            telemetry_path: web.telemetry_path.clone(),
            max_requests: web.max_requests,
            created: web.created_timestamps,
            events,
            clock: Arc::new(move || clock.lock().unwrap_or_else(PoisonError::into_inner).read()),
            config,
            descriptors,
            page: web.page,
            settings,
        };
        let server = web::Server::new(source, rendering, settings);
        for listener in listeners {
            let listening = server.clone().serve(listener, stopped.clone());
            tasks.spawn(async { listening.await.context("failed to serve Prometheus metrics") });
        }
        if let Some(reloads) = reloads {
            tasks.spawn(reload(server, reloads, stopped.clone()));
        }
    }
}

/// Reads the configuration file and the baseline again at each signal, until `stopped`.
async fn reload(
    server: web::Server,
    Reloads { mut signals, manager, baseline }: Reloads,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            // An error of either means that the sender is gone: stop as well.
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            changed = signals.changed() => match changed {
                Ok(()) => {}
                Err(_gone) => return Ok(()),
            },
        }
        let reload = async {
            if let Some(baseline) = &baseline {
                baseline.reload().await;
            }
            server.reload().await;
        };
        manager.reload(reload).await;
    }
}

/// Listens on every address, or returns a line for each that failed.
fn listen(web: &Web) -> Result<Vec<Listener>, Vec<String>> {
    let (mut listeners, mut lines) = (Vec::new(), Vec::new());
    for address in &web.listen {
        let listener = match address {
            ListenAddress::Tcp { host, port } => Listener::tcp(host.as_deref(), *port),
            ListenAddress::Unix(path) => Listener::unix(path, web.socket_mode),
        };
        match listener {
            Ok(listener) => listeners.push(listener),
            Err(error) => lines.push(messages::not_listening(address, &error)),
        }
    }
    if lines.is_empty() { Ok(listeners) } else { Err(lines) }
}

fn from_systemd(passed: std::io::Result<Vec<std::os::fd::OwnedFd>>) -> Result<Vec<Listener>, Vec<String>> {
    let failed = |error| vec![format!("--web.systemd-socket: {error}")];
    let passed = passed.map_err(failed)?;
    if passed.is_empty() {
        let problem =
            "--web.systemd-socket: no socket was passed; start the exporter by a systemd socket unit";
        return Err(vec![problem.to_owned()]);
    }
    passed.into_iter().map(|socket| Listener::inherited(socket).map_err(failed)).collect()
}

/// Logs where the metrics are, and who can read them.
fn log_addresses(listeners: &[Listener], config: Option<&ConfigFile>, path: &str) {
    if listeners.is_empty() {
        info!("Prometheus endpoint disabled (--web.listen-address none)");
        return;
    }
    let has_tls = config.is_some_and(ConfigFile::has_tls);
    let urls: Vec<String> = listeners.iter().map(|listener| listener.url(has_tls, path)).collect();
    info!("serving Prometheus metrics on {}", urls.join(", "));
    let is_open =
        listeners.iter().any(Listener::is_for_everyone) && !config.is_some_and(ConfigFile::authenticates);
    if is_open {
        info!(
            "every user of this host can read there what bpftool shows to root only; if that matters, serve on a socket \
             (--web.listen-address unix:/run/bpf-metrics-exporter.sock) or demand a password (--web.config.file)"
        );
    }
}
