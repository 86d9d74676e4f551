//! A Podman container, run by runc.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bpf_metrics_exporter::enrich::cgroup::CgroupIdentity;
use bpf_metrics_exporter::enrich::names::ContainerName;
use bpf_metrics_exporter::lookup::{Settings, Sockets};
use bpf_metrics_exporter::model::IdentifiedBy;

use super::holder::{self, Role};
use super::host::{self, Cgroups, Directory, SOON, assert_holds, command, output, places, process_in};
use super::owned::Watched;
use test_support::background_lookup::BackgroundLookup;
use test_support::objects::wait_until;
use test_support::running::Running;

/// Name of the image in Podman.
pub(crate) const IMAGE: &str = "localhost/busybox:1";

/// Podman with all its state in one directory. Dropping it removes its pods and containers.
pub(crate) struct Podman<'a> {
    directory: &'a Path,
}

impl<'a> Podman<'a> {
    /// Makes one with the image and without containers.
    pub(crate) fn new(directory: &'a Path) -> Self {
        // Podman's default limits may be above those of root here.
        let settings = format!(
            r#"[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
events_logger = "none"
lock_type = "file"
[network]
network_backend = "netavark"
network_config_dir = "{}/networks"
"#,
            directory.display()
        );
        fs::write(directory.join("containers.conf"), settings).expect("the test directory is writable");
        let podman = Self { directory };
        let root = host::root_of_image(directory);
        podman.import(&root, IMAGE, &[r#"CMD ["/bin/busybox","sleep","3600"]"#]);
        podman
    }

    /// Makes an image of a root directory, with these instructions of a Dockerfile.
    pub(crate) fn import(&self, root: &Path, name: &str, instructions: &[&str]) {
        let archive = root.with_extension("tar");
        output(command("tar").arg("-C").arg(root).arg("-cf").arg(&archive).arg("."));
        let mut import = self.command();
        import.arg("import");
        for instruction in instructions {
            import.args(["--change", instruction]);
        }
        output(import.arg(&archive).arg(name));
    }

    pub(crate) fn command(&self) -> Command {
        let mut podman = command("podman");
        podman.env("CONTAINERS_CONF", self.directory.join("containers.conf"));
        for (option, name) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            podman.arg(option).arg(self.directory.join(name));
        }
        podman.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
        podman.args(["--runtime-flag", &format!("root={}/runc", self.directory.display())]);
        podman
    }

    /// Returns the start of the command that runs a container of the host's network, with all rights and the host's root.
    pub(crate) fn run(&self, name: &str, options: &[&str]) -> Command {
        let mut run = self.command();
        run.arg("run").args(options).args(["--name", name, "--network", "host", "--privileged"]);
        run.args(["--volume", &format!("/:{}", holder::HOST), IMAGE]);
        run
    }

    /// Starts its API service and returns the socket.
    pub(crate) fn serve(&self) -> (PathBuf, Running) {
        let socket = self.directory.join("podman.sock");
        let mut serve = self.command();
        serve.args(["system", "service", "--time", "0"]).arg(format!("unix://{}", socket.display()));
        let service = Running(serve.stderr(Stdio::null()).spawn().expect("podman is installed"));
        wait_until("podman listens", SOON, || Ok(socket.exists())).expect("it starts");
        (socket, service)
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        // A pod is more than the containers that one can remove.
        let removed = [&["pod", "rm"][..], &["rm"]].map(|what| {
            self.command()
                .args(what)
                .args(["--force", "--time", "0", "--all"])
                .output()
                .map(|done| done.status.success())
        });
        host::unmount_below(self.directory);
        assert!(matches!(removed, [Ok(true), Ok(true)]) || std::thread::panicking(), "{removed:?}");
    }
}

pub(crate) fn identified_and_named() {
    let directory = Directory::new("podman-");
    let _cgroups = Cgroups::new("libpod_parent");
    let podman = Podman::new(directory.path());
    let name = format!("podman{}", std::process::id());
    let mut run = podman.run("web", &["--detach"]);
    let id = output(run.args(holder::command(Role::Hold, &name)));

    let pid = process_in(&id);
    assert_holds(pid, &name);
    let expected = CgroupIdentity {
        container: Some(id.clone()),
        runtime: Some("podman".into()),
        identified_by: Some(IdentifiedBy::Path),
        ..CgroupIdentity::default()
    };
    let places = places(pid);
    assert!(!places.is_empty() && places.iter().all(|place| *place == expected), "{places:#?}");
    // Its monitor is outside of all containers.
    let monitors = host::processes().filter(|pid| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.starts_with(b"/usr/bin/conmon\0") && String::from_utf8_lossy(&arguments).contains(&id)
    });
    let monitors: Vec<u32> = monitors.collect();
    assert!(!monitors.is_empty());
    for monitor in monitors {
        assert!(
            host::places(monitor).iter().all(|place| place.container.is_none()),
            "cgroups of the monitor"
        );
    }

    let (socket, _service) = podman.serve();
    let lookup = BackgroundLookup::start(Settings {
        root: directory.path().to_owned(),
        cri: Sockets::Given(Vec::new()),
        docker: Sockets::Given(vec![socket]),
    });
    let mut watched = Watched::new(&name, &lookup);
    watched.assert_owned("container web", &id, pid);
    assert_eq!(lookup.container(&id), ContainerName { name: Some("web".to_owned()), pod: None });
    assert_eq!(lookup.log(), "");
    output(podman.command().args(["rm", "--force", "--time", "0", "web"]));
    watched.assert_gone("container web");
}
