//! This program in the place of the exporter: it restricts its threads as the exporter does, and then tries to do more.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, thread};

use bpf_metrics_exporter::kernel::{Reader, ReaderOptions};
use bpf_metrics_exporter::sandbox::{Files, Needs, Sandbox, SandboxOptions, UserIds};
use nix::sys::prctl;
use test_support::objects::uapi::{map_type, program_type};
use test_support::objects::{Map, Program};

/// Environment variable with a directory, which makes this program play the role.
const ROLE: &str = "TRIES_TO_LEAVE_THE_SANDBOX";

/// What was tried, and the error; `None` if it was permitted.
type Attempts = BTreeMap<String, Option<String>>;

pub(crate) fn refused() {
    let directory = tempfile::TempDir::with_prefix("sandbox-").expect("a temporary directory can be created");
    let path = |name: &str| directory.path().join(name);
    for name in ["backlog", "tls", "pod", "mounts"] {
        fs::create_dir(path(name)).expect("the directory is writable");
    }
    fs::write(path("secret"), "s").expect("the directory is writable");
    fs::write(path("tls/key.pem"), "k").expect("the directory is writable");
    generation(directory.path(), "first");
    symlink("..data/key.pem", path("pod/key.pem")).expect("the directory is writable");
    let receiver = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let other = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = |listener: &TcpListener| listener.local_addr().expect("it listens").to_string();
    let output = Command::new(env::current_exe().expect("this program has a path"))
        .env(ROLE, directory.path())
        .args([address(&receiver), address(&other)])
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let [others, readings]: [Attempts; 2] =
        serde_json::from_slice(&output.stdout).expect("they are attempts");
    let permitted = |attempts: &Attempts| {
        let permitted = attempts.iter().filter(|(_, error)| error.is_none()).map(|(what, _)| what.clone());
        permitted.collect::<Vec<_>>()
    };
    assert_eq!(
        permitted(&others),
        [
            "connect to the receiver",
            "look up a name",
            "open the key again",
            "read /proc/self/status",
            "read a key of a later directory",
            "read a key renewed by a link",
            "read a key renewed by a rename",
            "rename in the backlog",
            "start a thread",
            "write into the backlog"
        ],
        "{others:#?}"
    );
    assert_eq!(
        permitted(&readings),
        [
            "look into another process",
            "open a file to read",
            "read /proc/self/status",
            "read again",
            "start a thread"
        ],
        "{readings:#?}"
    );
}

/// Plays the role of this process, if it has one.
pub(crate) fn run() -> Option<ExitCode> {
    let directory = PathBuf::from(env::var_os(ROLE)?);
    let addresses: Vec<SocketAddr> =
        env::args().skip(1).map(|address| address.parse().expect("an address")).collect();
    let [receiver, other] = addresses[..] else { panic!("two addresses are given") };
    let options = SandboxOptions { user: Some(UserIds { uid: 0, gid: 0 }), ..SandboxOptions::default() };
    let sandbox = Sandbox::enter(options, Needs { hooks: true, nothing: false }).expect("it is root already");
    let attempts = thread::scope(|scope| {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (sandbox, directory) = (&sandbox, &directory);
        let readings = scope.spawn(move || {
            wait.recv().expect("the other thread is restricted first");
            let mut reader = Reader::restricted(ReaderOptions::default(), || sandbox.restrict_readings());
            let first = reader.read();
            assert!(first.programs.is_some() && first.maps.is_some(), "{:?}", first.issues);
            of_readings(directory, receiver, &mut reader)
        });
        let (renew, renewal) = std::sync::mpsc::channel::<()>();
        let renewing = scope.spawn(move || {
            renewal.recv().expect("the other thread is restricted first");
            renew_keys(directory);
        });
        sandbox.restrict_others(&Files {
            read: ["tls/key.pem", "pod/key.pem", "mounts/later/key.pem"]
                .map(|key| directory.join(key))
                .into(),
            write: vec![directory.join("backlog")],
            remove: Vec::new(),
            ports: vec![receiver.port()],
        });
        renew.send(()).expect("it waits");
        renewing.join().expect("keys can be renewed");
        let others = of_others(directory, receiver, other);
        go.send(()).expect("it waits");
        [others, readings.join().expect("nothing panics")]
    });
    let bytes = serde_json::to_vec(&attempts).expect("they can be written");
    io::stdout().write_all(&bytes).expect("the parent reads");
    Some(ExitCode::SUCCESS)
}

/// Makes a directory with a key, and the link `..data` to it, as Kubernetes does for the files of a secret.
fn generation(directory: &Path, name: &str) {
    let path = |name: &str| directory.join("pod").join(name);
    fs::create_dir(path(name)).expect("the directory is writable");
    fs::write(path(name).join("key.pem"), name).expect("the directory is writable");
    symlink(name, path("..data_tmp")).expect("the directory is writable");
    fs::rename(path("..data_tmp"), path("..data")).expect("the directory is writable");
}

/// Renews keys as certbot, Kubernetes and a late mount do.
fn renew_keys(directory: &Path) {
    fs::write(directory.join("tls/next"), "second").expect("the directory is writable");
    fs::rename(directory.join("tls/next"), directory.join("tls/key.pem")).expect("the directory is writable");
    generation(directory, "second");
    fs::create_dir(directory.join("mounts/later")).expect("the directory is writable");
    fs::write(directory.join("mounts/later/key.pem"), "second").expect("the directory is writable");
}

/// Reads a key that was renewed.
fn renewed(file: &Path) -> io::Result<()> {
    let key = fs::read_to_string(file)?;
    if key == "second" { Ok(()) } else { Err(io::Error::other(format!("it is {key}"))) }
}

/// Returns a file in `/proc` of the process that started this one, which is no more restricted than root.
fn parent(file: &str) -> String {
    format!("/proc/{}/{file}", nix::unistd::getppid())
}

fn attempt<T>(attempts: &mut Attempts, what: &str, result: io::Result<T>) {
    attempts.insert(what.to_owned(), result.err().map(|error| error.to_string()));
}

/// What no thread may do.
fn of_both(directory: &Path, attempts: &mut Attempts) {
    attempt(attempts, "read /proc/self/status", fs::read_to_string("/proc/self/status"));
    attempt(attempts, "start a thread", thread::Builder::new().spawn(|| ()));
    attempt(attempts, "load a program", Program::ready(program_type::SOCKET_FILTER, "escape"));
    attempt(attempts, "create a map", Map::ready(map_type::ARRAY, "escape"));
    attempt(attempts, "execute a program", Command::new("/bin/true").stdin(Stdio::null()).status());
    attempt(attempts, "write a file", fs::write(directory.join("written"), "w"));
    let append = OpenOptions::new().append(true).open(directory.join("secret"));
    attempt(attempts, "append to a file", append);
    attempt(attempts, "become dumpable", prctl::set_dumpable(true).map_err(io::Error::from));
    attempt(attempts, "listen", TcpListener::bind(("127.0.0.1", 0)));
    attempt(
        attempts,
        "mount",
        nix::mount::umount(directory).map_err(io::Error::from).or_else(|error| {
            // EINVAL would mean that it was tried.
            if error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) }
        }),
    );
}

fn of_others(directory: &Path, receiver: SocketAddr, other: SocketAddr) -> Attempts {
    let mut attempts = Attempts::new();
    of_both(directory, &mut attempts);
    let mut attempt = |what: &str, result: io::Result<()>| attempt(&mut attempts, what, result);
    attempt("read a secret", fs::read(directory.join("secret")).map(drop));
    attempt("list a directory", fs::read_dir(directory).map(drop));
    attempt("open the key again", fs::read(directory.join("tls/key.pem")).map(drop));
    attempt("read a key renewed by a rename", renewed(&directory.join("tls/key.pem")));
    attempt("read a key renewed by a link", renewed(&directory.join("pod/key.pem")));
    attempt("read a key of a later directory", renewed(&directory.join("mounts/later/key.pem")));
    attempt("write beside the key", fs::write(directory.join("tls/new"), ""));
    attempt("write into the backlog", fs::write(directory.join("backlog/new"), "b"));
    attempt(
        "rename in the backlog",
        fs::rename(directory.join("backlog/new"), directory.join("backlog/old")),
    );
    attempt("rename out of the backlog", fs::rename(directory.join("backlog/old"), directory.join("old")));
    attempt("connect to the receiver", TcpStream::connect(receiver).map(drop));
    attempt("connect elsewhere", TcpStream::connect(other).map(drop));
    attempt("look up a name", "localhost:1".to_socket_addrs().map(drop));
    attempt("look into another process", fs::read_link(parent("ns/net")).map(drop));
    attempt(
        "query a program",
        Reader::new(ReaderOptions::default()).read().programs.map(drop).ok_or_else(refused_error),
    );
    attempts
}

fn refused_error() -> io::Error {
    io::Error::from(io::ErrorKind::PermissionDenied)
}

fn of_readings(directory: &Path, receiver: SocketAddr, reader: &mut Reader) -> Attempts {
    let mut attempts = Attempts::new();
    of_both(directory, &mut attempts);
    let mut attempt = |what: &str, result: io::Result<()>| attempt(&mut attempts, what, result);
    attempt("open a file to read", File::open(directory.join("secret")).map(drop));
    attempt("look into another process", fs::read_link(parent("ns/net")).map(drop));
    attempt("connect", TcpStream::connect(receiver).map(drop));
    let again = reader.read();
    let whole =
        again.programs.is_some() && again.maps.is_some() && again.btfs.is_some() && again.issues.is_empty();
    attempt("read again", if whole { Ok(()) } else { Err(refused_error()) });
    attempts
}
