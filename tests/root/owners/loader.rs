//! Loaders: processes in a cgroup that make a map, a program that uses it and a link, pin them on request, and send them to others.
//! Entry point: [`Loader`]; the process runs [`load`].

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

use bpf_metrics_exporter::model::Kind;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::helper;
use super::scene::Group;
use test_support::objects::uapi::map_type;
use test_support::objects::{self, Link, Map, wait_until_gone};
use test_support::running::Running;

const GROUP: &str = "LOADS_IN_CGROUP";
const PINS: &str = "LOADS_AND_PINS_IN";

/// Returns the beginning of the names of all loaders and keepers of this run, and of no other process.
pub(crate) fn names() -> String {
    format!("own{}-", std::process::id())
}

/// Names of the pins of a loader.
pub(crate) const NAMES: [&str; 3] = ["program", "map", "link"];

/// Ids of the objects of a loader: a program, the map that it uses, and the link that attaches it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) program: u32,
    pub(crate) map: u32,
    pub(crate) link: u32,
}

impl Made {
    pub(crate) fn all(self) -> [(Kind, u32); 3] {
        [(Kind::Program, self.program), (Kind::Map, self.map), (Kind::Link, self.link)]
    }

    /// Waits until the kernel has freed all.
    pub(crate) fn wait_until_gone(self) {
        for (kind, id) in [
            (objects::Kind::Link, self.link),
            (objects::Kind::Program, self.program),
            (objects::Kind::Map, self.map),
        ] {
            wait_until_gone(kind, &[id], super::SOON).expect("nothing holds it");
        }
    }
}

/// The number of loaders so far.
static LOADERS: AtomicU32 = AtomicU32::new(0);

/// A loader that has made its objects, killed when dropped.
pub(crate) struct Loader {
    pub(crate) made: Made,
    pub(crate) process: Running,
    /// Its name and that of its keepers, which no other process has.
    pub(crate) name: String,
    /// It sends descriptors of all for each byte that it receives here.
    socket: UnixStream,
}

impl Loader {
    /// Starts one in this cgroup.
    pub(crate) fn begin(group: &Group) -> Self {
        Self::begin_and_pin(group, None)
    }

    /// Starts one that pins its objects in this directory.
    pub(crate) fn pinning(group: &Group, directory: &Path) -> Self {
        Self::begin_and_pin(group, Some(directory))
    }

    fn begin_and_pin(group: &Group, pins: Option<&Path>) -> Self {
        let (socket, its) = UnixStream::pair().expect("it can be made");
        let name = format!("{}{}", names(), LOADERS.fetch_add(1, Ordering::Relaxed));
        let mut command = helper::itself("loader");
        command.env(helper::NAME, &name).env(GROUP, group.directory());
        command.stdin(OwnedFd::from(its)).stdout(Stdio::piped());
        if let Some(directory) = pins {
            command.env(PINS, directory);
        }
        let mut process = Running(command.spawn().expect("it starts"));
        // The command still has its end of the socket.
        drop(command);
        let mut written = String::new();
        let stdout = process.0.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut written).expect("it writes a line");
        let ids: Vec<u32> = written.split_whitespace().map(|id| id.parse().expect("a number")).collect();
        let [program, map, link] = ids[..] else { panic!("three ids are expected, not {written:?}") };
        Self { made: Made { program, map, link }, process, name, socket }
    }

    /// Starts another process that receives descriptors of all.
    pub(crate) fn keeper(&self) -> Running {
        self.send();
        helper::wait_for(helper::itself("receiver").env(helper::NAME, &self.name).stdin(self.end()))
    }

    /// Returns the owner of its objects while it or a keeper holds them, in no unit.
    pub(crate) fn owner(&self) -> String {
        format!("process {}", self.name)
    }

    /// Lets it exit.
    pub(crate) fn exit(self) -> Made {
        let made = self.made;
        drop(self.exit_with_descriptors_sent());
        made
    }

    /// Lets it send descriptors and exit: only the returned socket holds them then.
    pub(crate) fn send_and_exit(self) -> OwnedFd {
        self.send();
        self.exit_with_descriptors_sent()
    }

    fn exit_with_descriptors_sent(mut self) -> OwnedFd {
        self.socket.shutdown(Shutdown::Write).expect("it is open");
        assert!(self.process.0.wait().expect("it is ours").success(), "it exits successfully");
        self.socket.into()
    }

    fn send(&self) {
        (&self.socket).write_all(&[0]).expect("it reads");
    }

    fn end(&self) -> OwnedFd {
        self.socket.as_fd().try_clone_to_owned().expect("there is a descriptor left")
    }
}

/// Moves this process into its cgroup.
pub(crate) fn enter_group() {
    let group = PathBuf::from(env::var_os(GROUP).expect("each loader has one"));
    fs::write(group.join("cgroup.procs"), std::process::id().to_string()).expect("root may");
}

/// Starts this program in a cgroup and a role.
pub(crate) fn in_group(role: &str, group: &Group) -> Running {
    helper::wait_for(&mut command_in_group(role, group))
}

/// Returns this program in a role, which has to [enter](enter_group) a cgroup.
pub(crate) fn command_in_group(role: &str, group: &Group) -> Command {
    let mut command = helper::itself(role);
    command.env(GROUP, group.directory()).stdin(Stdio::null());
    command
}

/// Runs in a loader.
pub(crate) fn load() {
    enter_group();
    let map = Map::ready(map_type::ARRAY, "owned").expect("it can be made");
    let link = Link::iter().expect("it can be attached");
    let program = link.program().expect("it has one");
    program.bind(&map).expect("it can use it");
    if let Some(directory) = env::var_os(PINS).map(OsString::into_string) {
        let directory = PathBuf::from(directory.expect("it is text"));
        let at = NAMES.map(|name| directory.join(name));
        let pins = [program.pin(&at[0]), map.pin(&at[1]), link.pin(&at[2])];
        // They outlive this process.
        std::mem::forget(pins.map(|pin| pin.expect("it can be pinned")));
    }
    let mut stdout = io::stdout();
    writeln!(stdout, "{} {} {}", program.id(), map.id(), link.id()).expect("the parent reads");
    let socket = io::stdin().as_fd().try_clone_to_owned().expect("there is a descriptor left");
    let mut socket = UnixStream::from(socket);
    while socket.read(&mut [0]).expect("it is open") > 0 {
        let rights = [program.fd(), map.fd(), link.fd()].map(|fd| fd.as_raw_fd());
        let rights = [ControlMessage::ScmRights(&rights)];
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::empty(), None)
            .expect("there is room");
    }
}
