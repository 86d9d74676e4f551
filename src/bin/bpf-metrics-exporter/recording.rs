//! `snapshot --every`: readings at an interval, a line of JSON for each. Entry point: [`record`].

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bpf_metrics_exporter::cli::{Collection, RecordingSettings};
use bpf_metrics_exporter::enrich::Enricher;
use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::export::json;
use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::kernel::requirements::Standing;
use bpf_metrics_exporter::lookup;
use bpf_metrics_exporter::metrics::select::{Selected, Selection};
use bpf_metrics_exporter::model::Snapshot;
use bpf_metrics_exporter::worker::Worker;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::messages;
use crate::output::{Recorder, closed};
use crate::serve::start_worker;
use crate::signals::Stop;
use crate::snapshot::read_named;

/// How long the end waits for the line that is being written.
const LAST_LINE: Duration = Duration::from_secs(1);

/// Records until the number of readings is reached, a signal arrives, or nobody reads the output.
pub(super) fn record(
    recording: RecordingSettings,
    collection: Collection,
    file: Option<PathBuf>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let result = runtime.block_on(async {
        let mut stop = Stop::new().context("failed to handle signals")?;
        let writer = Writer::new(file)?;
        let (first, reader) = tokio::select! {
            begun = RecordingReader::begin(collection) => begun?,
            () = stop.signal() => return Ok(()),
        };
        follow(recording, first, reader, writer, &mut stop).await
    });
    // A reading, or a write that nobody takes, has no use any more.
    runtime.shutdown_background();
    result
}

/// Writes each reading as it is taken. None of them is kept.
async fn follow(
    RecordingSettings { every, count }: RecordingSettings,
    first: Snapshot,
    mut reader: RecordingReader,
    writer: Writer,
    stop: &mut Stop,
) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first reading was taken before.
    ticks.tick().await;
    let mut snapshot = first;
    let mut left = count;
    loop {
        if !writer.write(reader.selection.clone(), snapshot, stop).await? {
            return Ok(());
        }
        left = left.map(|left| left.saturating_sub(1));
        if left == Some(0) {
            return Ok(());
        }
        snapshot = tokio::select! {
            snapshot = async { ticks.tick().await; reader.read().await } => snapshot?,
            () = stop.signal() => return Ok(()),
            () = writer.is_unread() => return Ok(()),
        };
    }
}

/// Takes readings on a thread of its own.
struct RecordingReader {
    worker: Worker,
    /// `None` while a reading is taken.
    enricher: Option<Enricher>,
    selection: Selection,
    /// Ends the lookup of names when dropped.
    _running: watch::Sender<bool>,
}

impl RecordingReader {
    /// Takes the first reading.
    async fn begin(collection: Collection) -> anyhow::Result<(Snapshot, Self)> {
        let Collection { kernel, enrich, lookup, selection } = collection;
        let at_start = Standing::read();
        messages::warn_of_missing_sockets(&lookup);
        let names = NameCache::default();
        let worker = start_worker("reading")?;
        let (names_of_first, lookup_of_first) = (names.clone(), lookup.clone());
        let (enricher, first) = worker
            .run(move || {
                let mut enricher = Enricher::new(Reader::new(kernel), enrich, names_of_first.clone());
                let first = read_named(&mut enricher, &names_of_first, &lookup_of_first);
                (enricher, first)
            })
            .await;
        if first.is_all_refused() {
            anyhow::bail!(messages::not_permitted(at_start));
        }
        for issue in first.issues.iter().filter(|issue| issue.count > 0) {
            warn!("{}", messages::issue(issue));
        }
        if let Some(message) =
            messages::run_stats_meanwhile(kernel.run_stats, first.run_stats, "until the recording ends")
        {
            info!("{message}");
        }
        let (running, stopped) = watch::channel(false);
        tokio::spawn(lookup::run(names, lookup, start_worker("lookup")?, stopped));
        Ok((first, Self { worker, enricher: Some(enricher), selection, _running: running }))
    }

    async fn read(&mut self) -> anyhow::Result<Snapshot> {
        let mut enricher = self.enricher.take().context("the last reading was given up")?;
        let read = move || {
            let snapshot = enricher.read();
            (enricher, snapshot)
        };
        let (enricher, snapshot) = self.worker.run(read).await;
        self.enricher = Some(enricher);
        Ok(snapshot)
    }
}

/// Writes lines on a thread of its own: standard output may take nothing for any time.
struct Writer {
    worker: Worker,
    recorder: Arc<Mutex<Recorder>>,
    is_stdout: bool,
}

impl Writer {
    fn new(file: Option<PathBuf>) -> anyhow::Result<Self> {
        let is_stdout = file.is_none();
        Ok(Self {
            worker: start_worker("writing")?,
            recorder: Arc::new(Mutex::new(Recorder::new(file))),
            is_stdout,
        })
    }

    /// Writes a reading, and returns whether to go on. A closed pipe is no failure: `head` has read enough. A signal ends it after the
    /// line.
    async fn write(&self, selection: Selection, snapshot: Snapshot, stop: &mut Stop) -> anyhow::Result<bool> {
        let recorder = Arc::clone(&self.recorder);
        let write = self.worker.run(move || {
            let selected = selection.apply(Selected::all(snapshot.into()), None);
            let line = json::line(&selected)?;
            recorder.lock().unwrap_or_else(PoisonError::into_inner).write(&line)
        });
        tokio::pin!(write);
        let (written, goes_on) = tokio::select! {
            written = &mut write => (written, true),
            () = self.is_unread() => return Ok(false),
            () = stop.signal() => {
                let Ok(written) = tokio::time::timeout(LAST_LINE, write).await else {
                    warn!("ended within a line, which the output does not take");
                    return Ok(false);
                };
                (written, false)
            }
        };
        match written {
            Ok(()) => Ok(goes_on),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error).context("failed to write the recording"),
        }
    }

    /// Waits until nobody is left to read standard output.
    async fn is_unread(&self) {
        if self.is_stdout { closed(io::stdout()).await } else { std::future::pending().await }
    }
}
