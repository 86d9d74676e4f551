//! Events of programs that processes in containers load and unload: `events` names the process, its container and its pod, also where
//! the process ended at once and nothing was known of its container before.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use bpf_metrics_exporter::model::{
    Actor, ActorSource, Container, Event, EventKind, IdentifiedBy, OwnerKind, Pod,
};
use test_support::objects::Program;
use test_support::objects::uapi::program_type;
use test_support::running::Running;

use super::containerd::Containerd;
use super::holder::{self, Role};
use super::host::{Cgroups, Directory, SOON, command, output, process_in};
use super::kubelet::{KubeletPod, NAME, NAMESPACE, UID};
use super::podman::Podman;

/// How often a process that ends at once is started, and how often at most until one is seen: it may be gone before anybody looks, and
/// with cgroup v1 it may have left its cgroup.
const ATTEMPTS: usize = 5;
const MOST_ATTEMPTS: usize = 100;

/// The running `events`.
struct Followed {
    _exporter: Running,
    events: Receiver<Event>,
    /// Those that were received.
    seen: Vec<Event>,
}

impl Followed {
    /// Starts it with these flags, and waits until it follows events.
    fn start(flags: &[&str]) -> Self {
        let mut exporter = command(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
        exporter.args(["events", "--format=ndjson", "--kind=bpf.program.*load"]).args(flags);
        let mut child = exporter.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it is built");
        let (lines, events) = (BufReader::new(child.stdout.take().expect("a pipe")).lines(), mpsc::channel());
        let (sender, events) = events;
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let exporter = Self::once_it_follows(child);
        Self { _exporter: exporter, events, seen: Vec::new() }
    }

    fn once_it_follows(mut child: Child) -> Running {
        let mut log = BufReader::new(child.stderr.take().expect("a pipe"));
        let (running, mut said) = (Running(child), String::new());
        while !said.contains("comparing readings every") {
            let read = log.read_line(&mut said).expect("the log is text");
            assert!(read > 0, "it ended: {said}");
        }
        // The rest is of use where the test fails.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::stderr()));
        running
    }

    /// Returns an event of a program that was not returned before.
    fn next(&mut self, kind: EventKind, name: &str) -> Event {
        let deadline = Instant::now() + SOON;
        let is_wanted = |event: &Event| event.kind == kind && event.subject.name.as_deref() == Some(name);
        loop {
            if let Some(at) = self.seen.iter().position(is_wanted) {
                return self.seen.remove(at);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left);
            self.seen
                .push(event.unwrap_or_else(|error| panic!("{kind:?} {name}: {error}: {:#?}", self.seen)));
        }
    }
}

/// Where an actor is.
#[derive(Debug, PartialEq)]
struct Place {
    container: Option<Container>,
    pod: Option<Pod>,
    identified_by: Option<IdentifiedBy>,
}

impl Place {
    fn of(actor: &Actor) -> Self {
        let identity = actor.identity.as_deref().unwrap_or_else(|| panic!("nothing is known: {actor:?}"));
        Self {
            container: identity.container.clone(),
            pod: identity.pod.clone(),
            identified_by: identity.identified_by,
        }
    }

    /// Returns kind and name of the owner there.
    fn owner(&self) -> (OwnerKind, String) {
        match (&self.pod, &self.container) {
            (Some(_), _) => (OwnerKind::Pod, format!("{NAMESPACE}/{NAME}")),
            (None, Some(container)) => (OwnerKind::Container, container.name.clone().expect("it has one")),
            (None, None) => panic!("the host is no owner"),
        }
    }
}

fn actor(event: &Event) -> &Actor {
    event.actor.as_ref().unwrap_or_else(|| panic!("it has an actor: {event:?}"))
}

/// Asserts that a load and the unload of a program are by this process there.
fn assert_by(events: &mut Followed, name: &str, pid: u32, place: &Place) {
    let load = events.next(EventKind::ProgramLoad, name);
    let unload = events.next(EventKind::ProgramUnload, name);
    for event in [&load, &unload] {
        let actor = actor(event);
        assert_eq!((actor.pid, actor.known_by), (Some(pid), ActorSource::Process), "{event:#?}");
        assert_eq!(Place::of(actor), *place, "{event:#?}");
        let executable = std::env::current_exe().expect("Linux has /proc");
        let executable = executable.file_name().and_then(|name| name.to_str()).expect("it is text");
        assert_eq!(actor.file_name(), Some(executable), "{event:#?}");
        assert_owned(event, place);
    }
}

fn assert_owned(event: &Event, place: &Place) {
    let owner = event.owner.as_deref().unwrap_or_else(|| panic!("it has an owner: {event:#?}"));
    assert_eq!((owner.kind(), owner.name().to_owned()), place.owner(), "{event:#?}");
}

/// Asserts that a program of a process that ended at once has the right actor, or an unknown one. Returns whether it is known who loaded
/// it.
fn assert_right_or_unknown(events: &mut Followed, name: &str, place: &Place) -> bool {
    let load = events.next(EventKind::ProgramLoad, name);
    let unload = events.next(EventKind::ProgramUnload, name);
    for event in [&load, &unload] {
        let actor = actor(event);
        if actor.identity.is_some() {
            assert_eq!(Place::of(actor), *place, "{event:#?}");
            assert_owned(event, place);
        } else {
            assert_eq!(actor.known_by, ActorSource::Unknown, "{event:#?}");
        }
    }
    actor(&load).identity.is_some()
}

/// Asserts that programs of processes there that end at once have the right actor, at least one of them. `start` runs one that loads a
/// program of this name to its end.
fn assert_by_who_ends(events: &mut Followed, name: &str, place: &Place, start: impl Fn(&str)) {
    let mut any_known = false;
    for attempt in 0..MOST_ATTEMPTS {
        let name = format!("{name}.{attempt}");
        start(&name);
        any_known |= assert_right_or_unknown(events, &name, place);
        if any_known && attempt + 1 >= ATTEMPTS {
            return;
        }
    }
    panic!("none of {MOST_ATTEMPTS} was seen");
}

/// Asserts that what this process loads is by no container.
fn assert_host_is_no_container(events: &mut Followed, name: &str) {
    drop(Program::ready(program_type::SOCKET_FILTER, name).expect("root may"));
    for kind in [EventKind::ProgramLoad, EventKind::ProgramUnload] {
        let event = events.next(kind, name);
        let actor = actor(&event);
        assert_eq!(actor.pid, Some(std::process::id()), "{event:#?}");
        assert_eq!(Place::of(actor), Place { container: None, pod: None, identified_by: None }, "{event:#?}");
    }
}

/// Names of programs are short.
fn named(what: &str) -> String {
    format!("{what}{}", std::process::id() % 100_000)
}

fn socket(path: &Path) -> &str {
    path.to_str().expect("it is text")
}

pub(crate) fn in_podman() {
    let directory = Directory::new("actors-");
    let _cgroups = Cgroups::new("libpod_parent");
    let podman = Podman::new(directory.path());
    let (api, _service) = podman.serve();
    let mut events = Followed::start(&["--docker-socket", socket(&api), "--cri-socket", "none"]);
    let place = |id: &str, name: &str| Place {
        container: Some(Container {
            id: id.to_owned(),
            runtime: Some("podman".into()),
            name: Some(name.to_owned()),
        }),
        pod: None,
        identified_by: Some(IdentifiedBy::Path),
    };

    // Its first program is the first thing that is known of the container.
    let name = named("stay");
    let mut run = podman.run("web", &["--detach"]);
    let id = output(run.args(holder::command(Role::Stay, &name)));
    let web = place(&id, "web");
    assert_by(&mut events, &name, process_in(&id), &web);
    assert_by_who_ends(&mut events, &named("exec"), &web, |name| {
        output(podman.command().args(["exec", "web"]).args(holder::command(Role::Exit, name)));
    });
    assert_host_is_no_container(&mut events, &named("host"));
    // A container that ends with the process.
    let name = named("once");
    let known = (0..MOST_ATTEMPTS).any(|attempt| {
        let (name, container) = (format!("{name}.{attempt}"), format!("job{attempt}"));
        output(podman.run(&container, &[]).args(holder::command(Role::Exit, &name)));
        let id = output(podman.command().args(["inspect", "--format", "{{.Id}}", &container]));
        assert_right_or_unknown(&mut events, &name, &place(&id, &container))
    });
    assert!(known, "none of {MOST_ATTEMPTS} was seen");
    output(podman.command().args(["rm", "--force", "--time", "0", "web"]));
}

pub(crate) fn in_a_pod() {
    let directory = Directory::new("containerd-");
    let images = Directory::new("images-");
    let _cgroups = Cgroups::new("kubepods");
    let containerd = Containerd::start(directory.path(), images.path());
    let root = directory.path().join("host");
    let mut events =
        Followed::start(&["--cri-socket", socket(&containerd.socket), "--docker-socket", "none"]);
    let pod = Pod {
        key: UID.to_owned(),
        uid: Some(UID.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        name: Some(NAME.to_owned()),
    };
    // Paths of the cgroupfs driver do not contain the runtime.
    let place = |id: &str, name: &str| Place {
        container: Some(Container { id: id.to_owned(), runtime: None, name: Some(name.to_owned()) }),
        pod: Some(pod.clone()),
        identified_by: Some(IdentifiedBy::Path),
    };

    let running = KubeletPod::run(&containerd, &root);
    let name = named("stay");
    let container = running.start("web", holder::command(Role::Stay, &name));
    let web = place(&container, "web");
    assert_by(&mut events, &name, process_in(&container), &web);
    assert_by_who_ends(&mut events, &named("exec"), &web, |name| {
        running.execute(&container, holder::command(Role::Exit, name));
    });
    // A container that ends with the process.
    let name = named("once");
    let known = (0..MOST_ATTEMPTS).any(|attempt| {
        let (name, container) = (format!("{name}.{attempt}"), format!("job{attempt}"));
        let id = running.start(&container, holder::command(Role::Exit, &name));
        assert_right_or_unknown(&mut events, &name, &place(&id, &container))
    });
    assert!(known, "none of {MOST_ATTEMPTS} was seen");
    running.remove();
}
