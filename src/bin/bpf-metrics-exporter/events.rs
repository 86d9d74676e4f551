//! `events`: what happens to BPF objects, to standard output as it happens. Entry point: [`events`].

use std::io::{self, Stdout};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bpf_metrics_exporter::cli::{EventsCommand, EventsFormat, Log};
use bpf_metrics_exporter::enrich::Enricher;
use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::events::{Batch, Events, Subscription};
use bpf_metrics_exporter::export::events::{EventFormat, EventWriter};
use bpf_metrics_exporter::host::clock::HostClock;
use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::kernel::requirements::Standing;
use bpf_metrics_exporter::lookup;
use bpf_metrics_exporter::metrics::select::EventFilter;
use bpf_metrics_exporter::model::Event;
use bpf_metrics_exporter::worker::Worker;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::output::{closed, colour};
use crate::serve::start_worker;
use crate::signals::Stop;
use crate::{finish, log, messages};

/// How many events wait to be printed: a reading can find that many at once.
const KEPT: usize = 1 << 16;

/// Events printed at a time.
const BATCH: usize = 256;

/// How long the end waits for a standard output that takes nothing.
const LAST_PRINT: Duration = Duration::from_secs(1);

/// Prints events until a signal, the end of the time, or the end of whoever reads them.
pub(super) fn events(options: EventsCommand, log: Log, warnings: &[String]) -> ExitCode {
    if let Err(error) = log::start(log) {
        return finish(Err(error).context("failed to start the thread of the log"));
    }
    for warning in warnings {
        warn!("{warning}");
    }
    finish(run(options))
}

fn run(options: EventsCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let result = runtime.block_on(follow(options));
    // A reading, or a write that nobody takes, has no use any more.
    runtime.shutdown_background();
    result
}

/// Takes readings, and prints events.
async fn follow(options: EventsCommand) -> anyhow::Result<()> {
    let EventsCommand { kernel, enrich, lookup, interval, filter, format, duration } = options;
    let at_start = Standing::read();
    let mut stop = Stop::new().context("failed to handle signals")?;
    let (reading, printing) = (start_worker("reading")?, start_worker("printing")?);
    let (names, events) = (NameCache::awaiting_lookups(), Events::keeping(KEPT));
    let subscription = events.subscribe(None);
    let hooks = enrich.hooks;
    let for_reading = names.clone();
    let first = reading.run(move || {
        let mut enricher = Enricher::new(Reader::new(kernel), enrich, for_reading).publishing(events);
        let snapshot = enricher.read();
        (enricher, snapshot)
    });
    let mut following = Following { subscription, filter };
    let printer = Printer::new(printing, format);
    let (enricher, first): (Enricher, _) = tokio::select! {
        first = first => first,
        () = stop.signal() => return following.end(&printer, Ok(())).await,
    };
    if first.is_all_refused() {
        anyhow::bail!(messages::not_permitted(at_start));
    }
    info!("{}", messages::events_seen(first.activity.as_deref(), interval, hooks));
    for issue in first.issues.iter().filter(|issue| issue.count > 0) {
        warn!("{}", messages::issue(issue));
    }
    drop(first);
    let last_events = enricher.last_events();
    messages::warn_of_missing_sockets(&lookup);
    let (_running, stopped) = watch::channel(false);
    tokio::spawn(lookup::run(names, lookup, start_worker("lookup")?, stopped));
    tokio::spawn(read_at_each(interval, reading, enricher));

    let ended = tokio::select! {
        ended = following.print(&printer) => ended,
        () = stop.signal() => Ok(()),
        () = end_of(duration) => Ok(()),
        () = closed(io::stdout()) => return Ok(()),
    };
    if let Some(last_events) = last_events {
        last_events.publish();
    }
    following.end(&printer, ended).await
}

/// Takes readings for their events, for ever.
async fn read_at_each(interval: Duration, reading: Worker, mut enricher: Enricher) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first reading was taken before.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let read = move || {
            drop(enricher.read());
            enricher
        };
        enricher = reading.run(read).await;
    }
}

/// The events that are printed.
struct Following {
    subscription: Subscription,
    filter: EventFilter,
}

impl Following {
    /// Prints events for ever, or until that fails.
    async fn print(&mut self, printer: &Printer) -> io::Result<()> {
        printer.with(|printing| printing.writer().map(drop)).await?;
        loop {
            let batch = self.subscription.next(BATCH).await;
            self.print_batch(printer, batch).await?;
        }
    }

    /// Prints what is left unless printing failed before. A closed pipe is no failure: `head` has read enough.
    async fn end(&mut self, printer: &Printer, so_far: io::Result<()>) -> anyhow::Result<()> {
        let ended = match so_far {
            Ok(()) => tokio::time::timeout(LAST_PRINT, self.print_rest(printer)).await.unwrap_or_else(|_| {
                warn!("ended without the last events, which standard output does not take");
                Ok(())
            }),
            failed => failed,
        };
        match ended {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("failed to write to standard output")
            }
            _ => Ok(()),
        }
    }

    /// Prints what has happened by now, and the end. What was begun before is printed before.
    async fn print_rest(&mut self, printer: &Printer) -> io::Result<()> {
        let batch = self.subscription.take(KEPT);
        self.print_batch(printer, batch).await?;
        printer.with(Printing::finish).await
    }

    async fn print_batch(&self, printer: &Printer, batch: Batch) -> io::Result<()> {
        let Batch { mut events, missed } = batch;
        if missed > 0 {
            warn!("{missed} events are missing here: they came faster than they could be printed");
        }
        events.retain(|event| self.filter.matches(event));
        if events.is_empty() {
            return Ok(());
        }
        printer.with(move |printing| printing.write(&events)).await
    }
}

/// Standard output, written on a thread of its own: it may take nothing for any time.
struct Printer {
    worker: Worker,
    printing: Arc<Mutex<Printing>>,
}

struct Printing {
    format: EventsFormat,
    /// `None` until something is printed.
    writer: Option<EventWriter<Stdout>>,
    clock: HostClock,
}

impl Printer {
    fn new(worker: Worker, format: EventsFormat) -> Self {
        let printing = Printing { format, writer: None, clock: HostClock::default() };
        Self { worker, printing: Arc::new(Mutex::new(printing)) }
    }

    async fn with<T: Send + 'static>(&self, print: impl FnOnce(&mut Printing) -> T + Send + 'static) -> T {
        let printing = Arc::clone(&self.printing);
        self.worker.run(move || print(&mut printing.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

impl Printing {
    /// Returns the writer, which prints its beginning the first time.
    fn writer(&mut self) -> io::Result<&mut EventWriter<Stdout>> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => EventWriter::begin(io::stdout(), self.event_format())?,
        };
        Ok(self.writer.insert(writer))
    }

    fn event_format(&self) -> EventFormat {
        match self.format {
            EventsFormat::Text => EventFormat::Text { colour: colour() },
            EventsFormat::Json => EventFormat::Json,
            EventsFormat::Ndjson => EventFormat::Ndjson,
        }
    }

    fn write(&mut self, events: &[Arc<Event>]) -> io::Result<()> {
        let clock = self.clock.read();
        self.writer()?.write(events, clock)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.writer()?.finish()
    }
}

/// Waits until the time is over, if there is an end.
async fn end_of(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
