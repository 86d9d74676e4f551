//! Loaders: processes in a cgroup that make a map, a program that uses it and a link, pin them if they are told to, and hand them to
//! others. Begin at [`Loader`]; [`load`] is what such a process does.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
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

/// What a loader pins, by the names of the pins.
pub(crate) const NAMES: [&str; 3] = ["program", "map", "link"];

/// What a loader made: a program, the map that it uses, and the link that attaches it.
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

    /// Waits until the kernel has let go of all.
    pub(crate) fn wait_until_gone(self) {
        for (kind, id) in [
            (objects::Kind::Link, self.link),
            (objects::Kind::Program, self.program),
            (objects::Kind::Map, self.map),
        ] {
            wait_until_gone(kind, &[id], super::SOON).expect("nobody holds it");
        }
    }
}

/// A loader that has made its objects, ended when dropped.
pub(crate) struct Loader {
    pub(crate) made: Made,
    pub(crate) process: Running,
    /// Into this it hands descriptors of all, once for each byte that it gets.
    socket: UnixStream,
}

impl Loader {
    /// One in this cgroup.
    pub(crate) fn begin(group: &Group) -> Self {
        Self::begin_and_pin(group, None)
    }

    /// One that pins what it made, in this directory.
    pub(crate) fn pinning(group: &Group, directory: &Path) -> Self {
        Self::begin_and_pin(group, Some(directory))
    }

    fn begin_and_pin(group: &Group, pins: Option<&Path>) -> Self {
        let (socket, its) = UnixStream::pair().expect("it can be made");
        let mut command = helper::itself("loader");
        command.env(GROUP, group.directory()).stdin(OwnedFd::from(its)).stdout(Stdio::piped());
        if let Some(directory) = pins {
            command.env(PINS, directory);
        }
        let mut process = Running(command.spawn().expect("it starts"));
        // The command still has its end of the socket.
        drop(command);
        let mut told = String::new();
        let stdout = process.0.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut told).expect("it says something");
        let ids: Vec<u32> = told.split_whitespace().map(|id| id.parse().expect("a number")).collect();
        let [program, map, link] = ids[..] else { panic!("it tells what it made, not {told:?}") };
        Self { made: Made { program, map, link }, process, socket }
    }

    /// Another process that has got descriptors of all.
    pub(crate) fn keeper(&self) -> Running {
        self.send();
        helper::ready("receiver", self.end())
    }

    /// Ends it, as it would end by itself.
    pub(crate) fn exit(self) -> Made {
        let made = self.made;
        drop(self.exit_with_descriptors_sent());
        made
    }

    /// Has it send descriptors, and end: nobody but the socket that is given back has them then.
    pub(crate) fn send_and_exit(self) -> OwnedFd {
        self.send();
        self.exit_with_descriptors_sent()
    }

    fn exit_with_descriptors_sent(mut self) -> OwnedFd {
        self.socket.shutdown(Shutdown::Write).expect("it is open");
        assert!(self.process.0.wait().expect("it is ours").success(), "it ends well");
        self.socket.into()
    }

    fn send(&self) {
        (&self.socket).write_all(&[0]).expect("it reads");
    }

    fn end(&self) -> OwnedFd {
        self.socket.as_fd().try_clone_to_owned().expect("there is a descriptor left")
    }
}

/// Moves this process into the cgroup that it is to run in.
pub(crate) fn enter_group() {
    let group = PathBuf::from(env::var_os(GROUP).expect("each has one"));
    fs::write(group.join("cgroup.procs"), std::process::id().to_string()).expect("root may");
}

/// A process of this program in a cgroup, that does what another role is.
pub(crate) fn in_group(role: &str, group: &Group) -> Running {
    let mut command = helper::itself(role);
    helper::wait_for(command.env(GROUP, group.directory()).stdin(Stdio::null()))
}

/// What a loader does.
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
    writeln!(stdout, "{} {} {}", program.id(), map.id(), link.id()).expect("somebody reads");
    let socket = io::stdin().as_fd().try_clone_to_owned().expect("there is a descriptor left");
    let mut socket = UnixStream::from(socket);
    while socket.read(&mut [0]).expect("it is open") > 0 {
        let rights = [program.fd(), map.fd(), link.fd()].map(|fd| fd.as_raw_fd());
        let rights = [ControlMessage::ScmRights(&rights)];
        sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::empty(), None)
            .expect("there is room");
    }
}
