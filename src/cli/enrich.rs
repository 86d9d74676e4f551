//! Flags about whose objects are: who holds them, what hangs where, and who knows names.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Problems, values};

#[derive(Debug, Args)]
pub(super) struct EnrichFlags {
    /// Whether to export who holds which object, one series for each holder: on, off. What owners have in all is exported anyway
    #[arg(long, value_name = "SWITCH", default_value = "on")]
    holders: String,

    /// Directory of a bpffs to read pins from, beside those mounted in this process's view; may be given several times
    #[arg(long, value_name = "PATH", global = true)]
    bpffs: Vec<PathBuf>,

    /// How often to look at what hangs at which hook: 60s, 5m; none never looks
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    hooks_interval: String,

    /// Network namespaces whose hooks are looked at: own, all
    #[arg(long, value_name = "WHICH", default_value = "own", global = true)]
    netns: String,

    /// Socket of the container runtime (CRI) to ask for names of pods and containers; may be given several times; none asks
    /// nobody [default: the well-known ones that exist]
    #[arg(long, value_name = "PATH")]
    cri_socket: Vec<PathBuf>,

    /// Socket of Docker or Podman to ask for names of containers; may be given several times; none asks nobody
    /// [default: the well-known ones that exist]
    #[arg(long, value_name = "PATH")]
    docker_socket: Vec<PathBuf>,
}

/// What to find out of the owners of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrich {
    /// Directories of bpffs beside those that are mounted in our view.
    pub bpffs: Vec<PathBuf>,
    /// How often to look at hooks; `None` for never.
    pub hooks: Option<Duration>,
    /// Whether to look in every network namespace.
    pub every_netns: bool,
}

/// Whom to ask for names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    /// Sockets of container runtimes.
    pub cri: Sockets,
    /// Sockets of Docker and Podman.
    pub docker: Sockets,
}

/// Which sockets to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sockets {
    /// The well-known ones that exist.
    #[default]
    WellKnown,
    /// These; none of them for an empty list.
    Given(Vec<PathBuf>),
}

impl EnrichFlags {
    pub(super) fn holders(&self, problems: &mut Problems) -> bool {
        problems.keep("--holders", values::switch(&self.holders)).unwrap_or(true)
    }

    pub(super) fn enrich(&self, problems: &mut Problems) -> Enrich {
        let hooks = match &*self.hooks_interval {
            "none" => None,
            given => problems.keep("--hooks-interval", values::interval(given)),
        };
        let every_netns = match &*self.netns {
            "own" => false,
            "all" => true,
            other => {
                problems.0.push(format!("--netns: {other:?} is neither own nor all"));
                false
            }
        };
        Enrich { bpffs: self.bpffs.clone(), hooks, every_netns }
    }

    pub(super) fn lookup(&self, problems: &mut Problems) -> Lookup {
        Lookup {
            cri: sockets("--cri-socket", &self.cri_socket, problems),
            docker: sockets("--docker-socket", &self.docker_socket, problems),
        }
    }
}

fn sockets(flag: &str, given: &[PathBuf], problems: &mut Problems) -> Sockets {
    let none = given.iter().any(|path| path.as_os_str() == "none");
    if none && given.len() > 1 {
        problems.0.push(format!("{flag}: none and a path exclude each other"));
    }
    if given.is_empty() {
        return Sockets::WellKnown;
    }
    let path = |path: &PathBuf| {
        let text = path.to_string_lossy();
        // As other tools of Kubernetes take it.
        PathBuf::from(text.strip_prefix("unix://").unwrap_or(&text))
    };
    Sockets::Given(if none { Vec::new() } else { given.iter().map(path).collect() })
}
