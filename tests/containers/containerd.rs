//! containerd with a CRI of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::host::{self, SOON, command, output};
use super::podman::{IMAGE, Podman};
use test_support::objects::wait_until;
use test_support::running::Running;

/// containerd with all its state in one directory. Dropping it removes its containers.
pub(crate) struct Containerd<'a> {
    directory: &'a Path,
    /// Of its CRI.
    pub(crate) socket: PathBuf,
    daemon: Option<Running>,
}

impl<'a> Containerd<'a> {
    /// Starts it with the image. `images` is a directory for Podman, which makes the image.
    pub(crate) fn start(directory: &'a Path, images: &Path) -> Self {
        let at = directory.display();
        let settings = format!(
            r#"version = 2
root = "{at}/root"
state = "{at}/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{at}/cri.sock"
[ttrpc]
  address = "{at}/ttrpc.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{at}/cni"
    conf_dir = "{at}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{at}/runc"
"#
        );
        fs::write(directory.join("config.toml"), settings).expect("the test directory is writable");
        let log = fs::File::create(directory.join("log")).expect("the test directory is writable");
        let mut daemon = command("containerd");
        daemon.arg("--config").arg(directory.join("config.toml")).stdout(Stdio::null()).stderr(log);
        let daemon = Some(Running(daemon.spawn().expect("containerd is installed")));
        let containerd = Self { directory, socket: directory.join("cri.sock"), daemon };
        wait_until("containerd answers", SOON, || {
            let answer = containerd.ctr().arg("version").output()?;
            Ok(answer.status.success())
        })
        .expect("it starts");
        containerd.import(&Podman::new(images), IMAGE);
        containerd
    }

    /// Copies an image of Podman.
    pub(crate) fn import(&self, podman: &Podman<'_>, image: &str) {
        let archive = self.directory.join("archive");
        let mut save = podman.command();
        save.args(["save", "--quiet", "--format", "oci-archive", "--output"]).arg(&archive).arg(image);
        output(&mut save);
        output(self.ctr().args(["images", "import"]).arg(&archive));
        fs::remove_file(&archive).expect("it was made");
    }

    fn ctr(&self) -> Command {
        let mut ctr = command("ctr");
        ctr.arg("--address").arg(&self.socket).args(["--namespace", "k8s.io"]);
        ctr
    }

    /// Calls a method of the CRI.
    pub(crate) fn call<Q, A>(&self, method: &str, request: Q) -> A
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let endpoint = Endpoint::try_from(format!("unix://{}", self.socket.display()));
            let channel = endpoint.expect("a path").connect().await.expect("containerd listens");
            let mut grpc = Grpc::new(channel);
            grpc.ready().await.expect("containerd listens");
            let method = format!("/runtime.v1.RuntimeService/{method}");
            let method = PathAndQuery::try_from(method).expect("a method name is letters");
            let answer = grpc.unary(tonic::Request::new(request), method, ProstCodec::<Q, A>::default());
            let answer = tokio::time::timeout(SOON, answer).await.expect("in time");
            answer.unwrap_or_else(|status| panic!("{status:?}; log: {}", self.log())).into_inner()
        })
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).expect("it was made")
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        // The shims of the containers end with their last container, not with containerd.
        let tasks = self.ctr().args(["tasks", "list", "--quiet"]).output();
        let tasks = tasks.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for task in tasks.iter().flat_map(|tasks| tasks.lines()) {
            drop(self.ctr().args(["tasks", "remove", "--force", task]).output());
        }
        let gone = wait_until("the shims are gone", SOON, || {
            let at = self.socket.as_os_str().as_encoded_bytes();
            let is_shim = |pid: &u32| {
                let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let mut arguments = arguments.split(|&byte| byte == 0);
                arguments.next().is_some_and(|program| program.ends_with(b"containerd-shim-runc-v2"))
                    && arguments.any(|argument| argument == at)
            };
            Ok(!host::processes().any(|pid| is_shim(&pid)))
        });
        drop(self.daemon.take());
        host::unmount_below(self.directory);
        assert!(gone.is_ok() || std::thread::panicking(), "{gone:?}");
    }
}
