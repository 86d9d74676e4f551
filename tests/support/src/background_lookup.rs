//! Background lookups of pod and container names, as the service runs them, and their log.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::enrich::names::{ContainerName, NameCache, PodName};
use bpf_metrics_exporter::lookup::{Settings, run};
use bpf_metrics_exporter::worker::Worker;
use tokio::sync::watch;
use tracing_subscriber::fmt::MakeWriter;

/// Time limit for a name: four times that of one source.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Pause between two readings: short compared to any deadline, long compared to the cost of a query.
const PAUSE: Duration = Duration::from_millis(2);

/// Looks up names on its own thread until dropped.
pub struct BackgroundLookup {
    /// The cache that the lookups fill.
    pub names: NameCache,
    log: Log,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl BackgroundLookup {
    /// Starts the thread.
    #[must_use]
    pub fn start(settings: Settings) -> Self {
        let (names, log) = (NameCache::awaiting_lookups(), Log::default());
        let (stop, stopped) = watch::channel(false);
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
        let cache = names.clone();
        let thread = std::thread::spawn(move || {
            // All lookups run on this thread, so this log has only theirs.
            let _guard = tracing::subscriber::set_default(subscriber);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let files = Worker::start("lookup").expect("a thread");
            runtime.expect("a runtime").block_on(run(cache, settings, files, stopped));
        });
        Self { names, log, stop, thread: Some(thread) }
    }

    /// Takes readings until a container has a name, and returns it.
    #[must_use]
    pub fn container(&self, id: &str) -> ContainerName {
        self.until(&format!("{id} has a name"), || self.names.container(id))
    }

    /// Takes readings until a pod has a name, and returns it.
    #[must_use]
    pub fn pod(&self, key: &str) -> PodName {
        self.until(&format!("{key} has a name"), || self.names.pod(key))
    }

    /// Takes readings until one returns a value. `what` describes it in the failure message.
    pub fn until<T>(&self, what: &str, mut reading: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let found = reading();
            self.names.end_reading();
            if let Some(found) = found {
                return found;
            }
            assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}; log:\n{}", self.log());
            std::thread::sleep(PAUSE);
        }
    }

    /// Returns the log.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8(self.log.0.lock().expect("no writer panics").clone()).expect("the log is UTF-8")
    }

    /// Returns the number of log lines that contain a word.
    #[must_use]
    pub fn count_logged(&self, word: &str) -> usize {
        self.log().lines().filter(|line| line.contains(word)).count()
    }
}

impl Drop for BackgroundLookup {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let ended = self.thread.take().expect("only drop takes it").join();
        assert!(ended.is_ok() || std::thread::panicking(), "the lookup thread panicked");
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
