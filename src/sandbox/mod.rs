//! Gives up what the process does not need once it runs, so that a mistake in it, or in a library, is worth little to an attacker.
//!
//! Entry point: [`Sandbox`]. Capabilities, seccomp filters and Landlock rules are those of a thread and of the threads that it starts,
//! hence the order: [`Sandbox::enter`] on the only thread; then the thread of readings is started;
//! [`Sandbox::restrict_others`] on the first thread, before it starts all others; [`Sandbox::restrict_readings`] on the thread of
//! readings once the iterators are loaded, before it starts scans. What a kernel or a container does not allow is reported, and never
//! a failure.

mod calls;
mod files;
mod filter;
mod rights;
mod user;

use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use nix::sys::prctl;
use nix::unistd::Uid;

pub use self::files::Files;
use self::filter::Rule;
pub use self::rights::{Needs, USED, gives_up};
pub use self::user::UserIds;
use crate::model::Capability;

/// What is given up.
#[expect(clippy::struct_excessive_bools, reason = "each layer can be turned off by itself")]
#[derive(Clone, Copy, Debug)]
pub struct SandboxOptions {
    /// The user to become; `None` to stay.
    pub user: Option<UserIds>,
    /// Whether the process can neither gain privileges by executing a program nor be traced or dumped.
    pub harden: bool,
    /// Whether capabilities are dropped.
    pub capabilities: bool,
    /// Whether system calls are filtered.
    pub seccomp: bool,
    /// Whether files and ports are restricted.
    pub landlock: bool,
    /// Whether everything that needs a capability after the start is given up.
    pub least: bool,
}

impl Default for SandboxOptions {
    /// Everything that costs no feature.
    fn default() -> Self {
        Self { user: None, harden: true, capabilities: true, seccomp: true, landlock: true, least: false }
    }
}

/// A layer of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// No new privileges, not dumpable.
    Process,
    /// Capabilities.
    Capabilities,
    /// Filters of system calls.
    Seccomp,
    /// Rules for files and ports.
    Landlock,
}

impl Layer {
    /// Every layer.
    pub const ALL: [Self; 4] = [Self::Process, Self::Capabilities, Self::Seccomp, Self::Landlock];

    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Capabilities => "capabilities",
            Self::Seccomp => "seccomp",
            Self::Landlock => "landlock",
        }
    }

    /// Returns the flag that turns it off.
    #[must_use]
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Process => "--no-harden-process",
            Self::Capabilities => "--no-drop-capabilities",
            Self::Seccomp => "--no-seccomp",
            Self::Landlock => "--no-landlock",
        }
    }

    /// Returns what to say of it where the flag turned it off, but other layers keep something.
    #[must_use]
    pub fn turned_off(self, kept: &str) -> String {
        let flag = self.flag();
        if kept.is_empty() { flag.to_owned() } else { format!("{flag} ({kept})") }
    }
}

/// Returns the layers as a table for the documents.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "| layer | threads of readings and scans | all other threads | needs | turned off by |\n|---|---|---|---|---|\n",
    );
    for layer in Layer::ALL {
        let (readings, others, needs) = match layer {
            Layer::Process => (
                "no new privileges; other processes of its user can neither trace it nor read its memory; no core dumps",
                "the same",
                "nothing; turned off, seccomp and Landlock still forbid new privileges where they are on",
            ),
            Layer::Capabilities => (
                "`CAP_SYS_ADMIN`, `CAP_DAC_READ_SEARCH`, `CAP_SYS_PTRACE`, `CAP_SYSLOG`, and `CAP_NET_ADMIN` with hooks or another user than \
                 root; none with `--least-privilege`",
                "none",
                "`CAP_SETPCAP` at start to clear the bounding set, too",
            ),
            Layer::Seccomp => (
                "no new programs, maps, attachments or processes, no connection but netlink, no file opened for writing",
                "no bpf(2), no processes, no sockets but Unix, IP and netlink, no new listening ones",
                "x86_64 or aarch64",
            ),
            Layer::Landlock => (
                "unrestricted, since it would hide all other processes; with `--least-privilege`, files of the system",
                "files of the system and those that flags name; connections to the ports of receivers",
                "Linux 5.13, and 6.7 for ports, with Landlock enabled (`lsm=`)",
            ),
        };
        let _infallible =
            writeln!(text, "| {} | {readings} | {others} | {needs} | `{}` |", layer.as_str(), layer.flag());
    }
    text
}

/// What became of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerState {
    /// It is there: what it restricts.
    On(String),
    /// A flag turned it off: what other layers restrict all the same; empty for nothing.
    Off(&'static str),
    /// The kernel or a container refuses it: why.
    Unavailable(String),
}

/// Threads with the same restrictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Threads {
    /// Those that read the kernel.
    Readings,
    /// All others.
    Others,
}

/// Restricts this process, and remembers how.
#[derive(Debug)]
pub struct Sandbox {
    options: SandboxOptions,
    needs: Needs,
    process: LayerState,
    restricted: Mutex<Vec<(Threads, Layer, LayerState)>>,
}

impl Sandbox {
    /// Restricts the process as far as its start allows: the user, no new privileges, not dumpable, and the capabilities that
    /// loading and readings use.
    ///
    /// Must be called on the only thread of the process, once its sockets are bound.
    ///
    /// # Errors
    ///
    /// A sentence for the user if the process cannot become the wanted one, and must end.
    pub fn enter(options: SandboxOptions, needs: Needs) -> Result<Self, String> {
        if options.capabilities {
            // Another user lacks the capability that it takes.
            rights::clear_bounding_set();
        }
        if let Some(user) = options.user {
            user::become_user(user)?;
        }
        let process = if options.harden { harden() } else { LayerState::Off("") };
        let sandbox = Self { options, needs, process, restricted: Mutex::default() };
        if options.capabilities {
            // Where it fails it fails again for each group of threads, and is reported there.
            let _reported_there = rights::keep(&USED);
        } else if options.user.is_some() {
            raise_permitted();
        }
        Ok(sandbox)
    }

    /// Restricts the calling thread to what readings need, once everything is loaded. Threads that it starts later inherit that.
    pub fn restrict_readings(&self) {
        let needed = rights::after_loading(self.needs, Uid::effective().is_root());
        self.capabilities(Threads::Readings, &needed);
        if self.needs.nothing {
            self.landlock(Threads::Readings, &Files::default());
        }
        self.seccomp(Threads::Readings, &calls::of_readings());
    }

    /// Restricts the calling thread, and those that it starts later, to what the outputs need.
    pub fn restrict_others(&self, files: &Files) {
        self.capabilities(Threads::Others, &[]);
        self.landlock(Threads::Others, files);
        self.seccomp(Threads::Others, &calls::of_others());
    }

    fn capabilities(&self, threads: Threads, needed: &[Capability]) {
        let state = if self.options.capabilities {
            match rights::keep(needed) {
                Ok(kept) => LayerState::On(names(&kept)),
                Err(error) => LayerState::Unavailable(error.to_string()),
            }
        } else {
            LayerState::Off("")
        };
        self.record(threads, Layer::Capabilities, state);
    }

    fn landlock(&self, threads: Threads, files: &Files) {
        let state = if self.options.landlock {
            match files::restrict(files) {
                Ok(what) => LayerState::On(what),
                Err(why) => LayerState::Unavailable(why),
            }
        } else {
            LayerState::Off("")
        };
        self.record(threads, Layer::Landlock, state);
    }

    fn seccomp(&self, threads: Threads, rules: &[Rule]) {
        let state = if self.options.seccomp { filter_calls(rules) } else { LayerState::Off("") };
        self.record(threads, Layer::Seccomp, state);
    }

    fn record(&self, threads: Threads, layer: Layer, state: LayerState) {
        self.restricted.lock().unwrap_or_else(PoisonError::into_inner).push((threads, layer, state));
    }

    /// Returns each layer and what became of it; of several states the worst.
    #[must_use]
    pub fn layers(&self) -> Vec<(Layer, LayerState)> {
        let restricted = self.restricted.lock().unwrap_or_else(PoisonError::into_inner);
        let worst =
            |layer| {
                let mut states = restricted.iter().filter(|(_, of, _)| *of == layer).map(|(.., state)| state);
                let first = states.next()?;
                Some(states.fold(
                    first,
                    |worst, state| if matches!(worst, LayerState::On(_)) { state } else { worst },
                ))
            };
        let state = |layer| match layer {
            Layer::Process => Some(match &self.process {
                // Both set it, since the kernel demands it of processes without CAP_SYS_ADMIN.
                LayerState::Off(_) if matches!(worst(Layer::Seccomp), Some(LayerState::On(_))) => {
                    LayerState::Off("no new privileges all the same, by seccomp")
                }
                LayerState::Off(_) if matches!(worst(Layer::Landlock), Some(LayerState::On(_))) => {
                    LayerState::Off("no new privileges of other threads all the same, by landlock")
                }
                state => state.clone(),
            }),
            _ => worst(layer).cloned(),
        };
        Layer::ALL.into_iter().filter_map(|layer| Some((layer, state(layer)?))).collect()
    }
}

impl fmt::Display for Sandbox {
    /// One line for the log: what each group of threads is restricted to, and what is off or not available.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let restricted = self.restricted.lock().unwrap_or_else(PoisonError::into_inner);
        let group = |wanted| {
            let of_group = restricted.iter().filter(move |(threads, ..)| *threads == wanted);
            let parts = of_group.filter_map(|(_, layer, state)| match (layer, state) {
                (Layer::Capabilities, LayerState::On(kept)) => Some(kept.clone()),
                (Layer::Landlock, LayerState::On(what)) => Some(format!("landlock ({what})")),
                (layer, LayerState::On(_)) => Some(layer.as_str().to_owned()),
                _ => None,
            });
            let parts: Vec<_> = parts.collect();
            if parts.is_empty() { "unrestricted".to_owned() } else { parts.join(", ") }
        };
        let mut line = String::new();
        if let Some(UserIds { uid, gid }) = self.options.user {
            write!(line, "user {uid}:{gid}; ")?;
        }
        if let LayerState::On(what) = &self.process {
            write!(line, "{what}; ")?;
        }
        write!(line, "readings: {}; other threads: {}", group(Threads::Readings), group(Threads::Others))?;
        drop(restricted);
        for (layer, state) in self.layers() {
            match state {
                LayerState::On(_) => {}
                LayerState::Off(kept) => write!(line, "; off: {}", layer.turned_off(kept))?,
                LayerState::Unavailable(why) => write!(line, "; {} not available: {why}", layer.as_str())?,
            }
        }
        f.write_str(&line)
    }
}

/// Forbids the process to gain privileges, and others of its user to trace it or read its memory. There are no core dumps either.
fn harden() -> LayerState {
    match prctl::set_no_new_privs().and_then(|()| prctl::set_dumpable(false)) {
        Ok(()) => LayerState::On("no new privileges, not dumpable".to_owned()),
        Err(error) => LayerState::Unavailable(error.to_string()),
    }
}

/// Filters the calls of the calling thread, and of those that it starts.
fn filter_calls(rules: &[Rule]) -> LayerState {
    let Some(program) = filter::compile(rules) else {
        return LayerState::Unavailable(format!("there is no list of calls for {}", std::env::consts::ARCH));
    };
    match seccompiler::apply_filter(&program) {
        Ok(()) => LayerState::On("system calls".to_owned()),
        Err(error) => LayerState::Unavailable(error.to_string()),
    }
}

/// Makes every permitted capability effective again: a change of the user clears them.
fn raise_permitted() {
    if let Ok(permitted) = caps::read(None, caps::CapSet::Permitted) {
        // A refusal shows in each feature that lacks one.
        let _seen_there = caps::set(None, caps::CapSet::Effective, &permitted);
    }
}

fn names(capabilities: &[Capability]) -> String {
    let names: Vec<_> = capabilities.iter().map(|capability| capability.as_str()).collect();
    if names.is_empty() { "no capabilities".to_owned() } else { names.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(states: &[(Threads, Layer, LayerState)]) -> Sandbox {
        let process = LayerState::On("no new privileges, not dumpable".to_owned());
        let needs = Needs { hooks: true, nothing: false };
        Sandbox {
            options: SandboxOptions::default(),
            needs,
            process,
            restricted: Mutex::new(states.to_vec()),
        }
    }

    #[test]
    fn one_line_says_what_is_on_off_and_not_available() {
        let on = |what: &str| LayerState::On(what.to_owned());
        let sandbox = sandbox(&[
            (Threads::Others, Layer::Capabilities, on("no capabilities")),
            (Threads::Others, Layer::Landlock, LayerState::Unavailable("it is not enabled".to_owned())),
            (Threads::Others, Layer::Seccomp, on("system calls")),
            (Threads::Readings, Layer::Capabilities, on("CAP_SYS_ADMIN")),
            (Threads::Readings, Layer::Seccomp, LayerState::Off("")),
        ]);
        assert_eq!(
            sandbox.to_string(),
            "no new privileges, not dumpable; readings: CAP_SYS_ADMIN; other threads: no capabilities, seccomp; \
             off: --no-seccomp; landlock not available: it is not enabled"
        );
        let [process, capabilities, seccomp, landlock] = &sandbox.layers()[..] else { panic!("{sandbox:?}") };
        assert!(matches!(process, (Layer::Process, LayerState::On(_))));
        assert!(matches!(capabilities, (Layer::Capabilities, LayerState::On(_))));
        assert_eq!(seccomp, &(Layer::Seccomp, LayerState::Off("")));
        assert!(matches!(landlock, (Layer::Landlock, LayerState::Unavailable(_))));
    }

    #[test]
    fn a_process_that_is_not_hardened_gains_no_privileges_under_another_layer() {
        let of = |layer, threads| {
            let mut sandbox = sandbox(&[(threads, layer, LayerState::On("it is on".to_owned()))]);
            sandbox.process = LayerState::Off("");
            sandbox.layers()[0].1.clone()
        };
        let LayerState::Off(kept) = of(Layer::Seccomp, Threads::Readings) else {
            panic!("a flag turned it off")
        };
        assert_eq!(
            Layer::Process.turned_off(kept),
            "--no-harden-process (no new privileges all the same, by seccomp)"
        );
        assert!(
            matches!(of(Layer::Landlock, Threads::Others), LayerState::Off(kept) if kept.contains("other threads"))
        );
        assert_eq!(of(Layer::Capabilities, Threads::Others), LayerState::Off(""));
    }
}
