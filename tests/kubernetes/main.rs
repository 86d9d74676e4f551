//! Names from the API server: what it is asked, and what becomes of its answers, good, bad and missing.

mod access;
mod server;
mod trouble;
mod watching;

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use bpf_metrics_exporter::enrich::names::Names;
use bpf_metrics_exporter::lookup::kubernetes::{Access, Cluster, Patience, Settings};
use serde_json::json;
use server::{DEADLINE, Directory, Server};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Tries again soon; waits for answers longer than anything takes.
const PATIENCE: Patience = Patience {
    first_pause: Duration::from_millis(20),
    longest_pause: Duration::from_millis(100),
    answer: DEADLINE,
    watch: DEADLINE,
    grace: DEADLINE,
};

fn settings(kubeconfig: PathBuf, patience: Patience) -> Settings {
    Settings { access: Access::Kubeconfig(kubeconfig), node_name: "node-1".to_owned(), patience }
}

/// One who watches.
struct Watcher {
    cluster: Cluster,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    _directory: Directory,
}

/// Watches a server as somebody whom it need not know.
fn start(server: &Server, name: &str, patience: Patience) -> Watcher {
    start_at(&server.url, name, patience)
}

fn start_at(url: &str, name: &str, patience: Patience) -> Watcher {
    let directory = Directory::new(name);
    let kubeconfig = directory.kubeconfig(&json!({"server": url}), &json!({}));
    start_with(directory, settings(kubeconfig, patience))
}

fn start_with(directory: Directory, settings: Settings) -> Watcher {
    Log::listen();
    let (cluster, (stop, stopped)) = (Cluster::new(), watch::channel(false));
    let watching = cluster.clone();
    let task = tokio::spawn(async move { watching.watch(settings, stopped).await });
    Watcher { cluster, stop, task, _directory: directory }
}

impl Watcher {
    /// Which of these pods it knows.
    fn known<'a>(&self, pods: &[&'a str]) -> Vec<&'a str> {
        let names = Names::default();
        let uid = |pod: &str| format!("uid-of-{pod}");
        for pod in pods {
            let _unknown = names.pod(&uid(pod));
        }
        self.cluster.answer(&names);
        let is_right =
            |pod: &str| names.pod(&uid(pod)).is_some_and(|told| told.name == pod && told.namespace == "shop");
        pods.iter().copied().filter(|pod| is_right(pod)).collect()
    }

    /// Waits until something was learnt.
    async fn changed(&self) {
        tokio::time::timeout(DEADLINE, self.cluster.changed()).await.expect("it changes in time");
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(DEADLINE, self.task)
            .await
            .expect("it stops in time")
            .expect("it does not panic");
    }
}

thread_local! {
    static SAID: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is said in the log on this thread, which is a test's own, and all of its tasks'.
struct Log;

impl Log {
    /// Before anything is said: a place that speaks while the first who listens comes may stay unheard for good.
    fn listen() {
        static LISTEN: Once = Once::new();
        LISTEN.call_once(|| {
            let subscriber = tracing_subscriber::fmt()
                .with_ansi(false)
                .without_time()
                .with_max_level(tracing::Level::INFO)
                .with_writer(|| Self)
                .finish();
            tracing::subscriber::set_global_default(subscriber).expect("nobody else listens");
        });
        SAID.take();
    }

    /// The lines since a watch was started.
    fn lines() -> Vec<String> {
        let text = SAID.with_borrow(|said| String::from_utf8(said.clone())).expect("a log is text");
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// The lines, as soon as there are so many.
    async fn first(count: usize) -> Vec<String> {
        let said = async {
            while Self::lines().len() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, said).await.expect("it is said in time");
        Self::lines()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SAID.with_borrow_mut(|said| said.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
