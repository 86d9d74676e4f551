//! Names being looked up, as the program does it beside its readings: what is asked for, what is told, and what the log says.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::enrich::names::{ContainerName, NameCache, PodName};
use bpf_metrics_exporter::lookup::{Settings, run};
use tokio::sync::watch;
use tracing_subscriber::fmt::MakeWriter;

/// How long a name may take: twice the time that one who is asked may keep everyone waiting.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How long between two questions: short against any deadline, long against the cost of asking.
const PAUSE: Duration = Duration::from_millis(2);

/// Looks names up in a thread of its own until it is dropped.
pub struct LookingUp {
    /// The cache that the lookups fill.
    pub names: NameCache,
    log: Log,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl LookingUp {
    /// Starts the thread.
    pub fn start(settings: Settings) -> Self {
        let (names, log) = (NameCache::default(), Log::default());
        let (stop, stopped) = watch::channel(false);
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
        let asked = names.clone();
        let thread = std::thread::spawn(move || {
            // Whatever is said of this one is said in this thread.
            let _said = tracing::subscriber::set_default(subscriber);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(run(asked, settings, stopped));
        });
        Self { names, log, stop, thread: Some(thread) }
    }

    /// Takes readings that ask for a container's name until that is told.
    pub fn container(&self, id: &str) -> ContainerName {
        self.until(&format!("{id} has a name"), || self.names.container(id))
    }

    /// Takes readings that ask for a pod's name until that is told.
    pub fn pod(&self, key: &str) -> PodName {
        self.until(&format!("{key} has a name"), || self.names.pod(key))
    }

    /// Takes readings until one finds what it looks for.
    pub fn until<T>(&self, what: &str, mut reading: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let found = reading();
            self.names.end_reading();
            if let Some(found) = found {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "{what} not within {DEADLINE:?}; the log says:\n{}",
                self.log()
            );
            std::thread::sleep(PAUSE);
        }
    }

    /// What was said in the log.
    pub fn log(&self) -> String {
        String::from_utf8(self.log.0.lock().expect("no writer panics").clone()).expect("it is text")
    }

    /// How often a word stands in the log.
    pub fn said(&self, word: &str) -> usize {
        self.log().lines().filter(|line| line.contains(word)).count()
    }
}

impl Drop for LookingUp {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let ended = self.thread.take().expect("it was started").join();
        assert!(ended.is_ok() || std::thread::panicking(), "looking up names panicked");
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
