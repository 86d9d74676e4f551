//! `top`: everything on the terminal, as it changes. Entry point: [`top`].
//!
//! Threads send messages to the one that has the screen, which waits for nothing else: one takes readings, one reads input, and one of
//! the runtime waits for signals, and ends the program if the screen does not. The kernel counts runs as long as the process has the descriptor for it, so however the program ends,
//! run statistics end with it.

use std::io::{self, IsTerminal as _, stderr, stdin, stdout};
use std::process::{ExitCode, exit};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bpf_metrics_exporter::cli::{Log, TopCommand, TopReadings};
use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{Differences, Enricher};
use bpf_metrics_exporter::events::{Events, Subscription};
use bpf_metrics_exporter::export::otlp::settings::Destination;
use bpf_metrics_exporter::export::otlp::transport::Fetcher;
use bpf_metrics_exporter::export::recording::{MAX_DOCUMENT_BYTES, Recording, parse};
use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::kernel::requirements::Standing;
use bpf_metrics_exporter::lookup;
use bpf_metrics_exporter::model::{Event, Snapshot};
use bpf_metrics_exporter::tui::source::{NoReading, Pace, Update, deliver};
use bpf_metrics_exporter::tui::state::{Flow, Origin, State};
use bpf_metrics_exporter::tui::terminal::{self, Terminal};
use bpf_metrics_exporter::tui::view::{Painter, Theme};
use ratatui::crossterm::event as input;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::serve::start_worker;
use crate::{USAGE, finish, log, messages};

/// How often events are looked at and the age of the last reading is drawn again.
const LOOK: Duration = Duration::from_millis(250);

/// The longest time without drawing while there is always something new.
const FRAME: Duration = Duration::from_millis(40);

/// How many messages wait for the screen. Whoever has another one waits, so that a terminal that takes nothing costs no memory.
const MAX_MESSAGES: usize = 8;

/// How long a signal waits for the screen to end. The thread that draws may wait for the terminal for ever.
const LAST_DRAWING: Duration = Duration::from_secs(1);

/// What the screen waits for.
enum Message {
    /// Keys, the mouse, another size.
    Input(input::Event),
    /// From the thread of readings.
    News(Update),
    /// A signal.
    Stop,
    /// Something without which it cannot go on.
    Failed(anyhow::Error),
}

type ReadingResult = Result<(Arc<Snapshot>, Vec<Arc<Event>>), NoReading>;

/// Shows the screen until it is ended.
pub(super) fn top(options: TopCommand, log: Log, warnings: &[String]) -> ExitCode {
    if !(stdin().is_terminal() && stdout().is_terminal()) {
        log::complain("top needs a terminal for input and output; snapshot prints the same without one");
        return ExitCode::from(USAGE);
    }
    // On the screen a log would be a mess.
    if !stderr().is_terminal()
        && let Err(error) = log::start(log)
    {
        return finish(Err(error).context("failed to start the thread of the log"));
    }
    for warning in warnings {
        log::complain(warning);
    }
    let recording = match &options.readings {
        TopReadings::Recording(path) => match Recording::open(path) {
            Ok(opened) => Some(opened),
            Err(error) => {
                log::complain(&format!("--from: {error}"));
                return ExitCode::from(USAGE);
            }
        },
        _ => None,
    };
    terminal::restore_on_panic();
    finish(run(options, recording))
}

fn run(options: TopCommand, recording: Option<(Recording, Arc<Snapshot>)>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let result = follow(options, recording, &runtime);
    // A reading, or a look-up, has no use any more.
    runtime.shutdown_background();
    result
}

fn follow(
    TopCommand { readings, every }: TopCommand,
    recording: Option<(Recording, Arc<Snapshot>)>,
    runtime: &Runtime,
) -> anyhow::Result<()> {
    let (sender, messages) = sync_channel(MAX_MESSAGES);
    stop_by_signals(runtime, &sender).context("failed to handle signals")?;
    let pace = Pace::new(every);
    // Dropped at the end, which ends the look-up of names.
    let (_running, stopped) = watch::channel(false);
    let mut events = None;
    let (origin, read): (_, Box<dyn FnMut() -> ReadingResult + Send>) = match readings {
        TopReadings::Host { kernel, enrich, lookup } => {
            let published = Events::default();
            events = Some(published.subscribe(None));
            let at_start = Standing::read();
            let names = NameCache::awaiting_lookups();
            messages::warn_of_missing_sockets(&lookup);
            runtime.spawn(lookup::run(names.clone(), lookup, start_worker("lookup")?, stopped));
            let mut enricher = None;
            let read = move || {
                // On the thread of readings, so that the first frame does not wait for the kernel either.
                let enricher = enricher.get_or_insert_with(|| {
                    let reader = Reader::new(kernel);
                    Enricher::new(reader, enrich.clone(), names.clone()).publishing(published.clone())
                });
                let snapshot = enricher.read();
                if snapshot.is_all_refused() {
                    return Err(NoReading::Failed(messages::not_permitted(at_start)));
                }
                Ok((Arc::new(snapshot), Vec::new()))
            };
            (Origin::Host, Box::new(read))
        }
        TopReadings::Recording(path) => {
            let (recording, first) = recording.context("the recording was opened before")?;
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            (Origin::Recording(name), Box::new(of_recording(recording, first)))
        }
        TopReadings::Exporter(destination) => {
            let name = destination.endpoint.to_string();
            let read = of_exporter(&destination, runtime.handle().clone())?;
            (Origin::Exporter(name), Box::new(read))
        }
    };
    let theme = Theme { colour: std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()) };
    let mut terminal = Terminal::open().context("failed to set up the terminal")?;
    start_thread("input", {
        let sender = sender.clone();
        move || read_input(&sender)
    })?;
    start_thread("reading", {
        let pace = pace.clone();
        move || deliver(&pace, read, |update| sender.send(Message::News(update)).is_ok())
    })?;
    let state = State::new(origin, every);
    let shown = Shown { state, painter: Painter::new(theme), pace, events, began: Instant::now() };
    shown.show(&mut terminal, &messages)
}

fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map(drop).context("failed to start a thread")
}

/// Sends a message when a signal arrives that ends the program. SIGHUP too: the terminal may still be there.
///
/// The program ends without the screen if that does not end in time: a terminal that takes nothing, such as that of a stalled
/// connection, also takes nothing that would restore it.
fn stop_by_signals(runtime: &Runtime, sender: &SyncSender<Message>) -> io::Result<()> {
    let _entered = runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()] {
        let (mut signal, sender) = (signal(kind)?, sender.clone());
        runtime.spawn(async move {
            if signal.recv().await.is_none() {
                return;
            }
            let deadline = Instant::now() + LAST_DRAWING;
            // Input may fill the channel while the screen is only slow.
            while matches!(sender.try_send(Message::Stop), Err(TrySendError::Full(_)))
                && Instant::now() < deadline
            {
                tokio::time::sleep(LAST_DRAWING / 100).await;
            }
            tokio::time::sleep_until(deadline.into()).await;
            terminal::leave_raw_mode();
            exit(1);
        });
    }
    Ok(())
}

/// Sends input until nobody receives it.
fn read_input(sender: &SyncSender<Message>) {
    loop {
        let message = match input::read() {
            Ok(event) => Message::Input(event),
            Err(error) => {
                Message::Failed(anyhow::Error::from(error).context("failed to read from the terminal"))
            }
        };
        let has_failed = matches!(message, Message::Failed(_));
        if sender.send(message).is_err() || has_failed {
            return;
        }
    }
}

fn of_recording(mut recording: Recording, first: Arc<Snapshot>) -> impl FnMut() -> ReadingResult {
    let (mut first, mut differences) = (Some(first), Differences::default());
    let mut has_failed = false;
    move || {
        let next = match first.take() {
            Some(first) => Ok(Some(first)),
            None if has_failed => Ok(None),
            None => recording.advance(),
        };
        match next {
            Ok(Some(snapshot)) => {
                let events = differences.update(&snapshot);
                Ok((snapshot, events))
            }
            Ok(None) => Err(NoReading::Ended),
            // What follows a broken line may begin anywhere.
            Err(error) => {
                has_failed = true;
                Err(NoReading::Failed(error.to_string()))
            }
        }
    }
}

fn of_exporter(
    destination: &Destination,
    runtime: Handle,
) -> anyhow::Result<impl FnMut() -> ReadingResult + use<>> {
    let fetcher = Fetcher::new(destination, start_worker("resolver")?).context("--url")?;
    let mut differences = Differences::default();
    let mut idle = Some(fetcher);
    Ok(move || {
        // In a task, which just disappears when the runtime ends: a timer that this thread waits for would panic.
        let mut fetcher = idle.take().ok_or(NoReading::Ended)?;
        let (fetcher, document) = run_task(&runtime, async move {
            let document = fetcher.document(MAX_DOCUMENT_BYTES).await;
            (fetcher, document)
        })?;
        idle = Some(fetcher);
        let document = document.map_err(|failure| NoReading::Failed(failure.to_string()))?;
        let snapshot = parse(&document)
            .map_err(|error| NoReading::Failed(format!("the answer is not a snapshot as JSON: {error}")))?;
        let events = differences.update(&snapshot);
        Ok((snapshot, events))
    })
}

/// Runs a task and waits for its result.
///
/// # Errors
///
/// [`NoReading::Failed`] if it panicked, and [`NoReading::Ended`] if the runtime ended first.
fn run_task<T: Send + 'static>(
    runtime: &Handle,
    task: impl Future<Output = T> + Send + 'static,
) -> Result<T, NoReading> {
    let (sender, result) = oneshot::channel();
    runtime.spawn(async move {
        let result = match tokio::spawn(task).await {
            Ok(result) => Ok(result),
            Err(error) if error.is_panic() => Err(NoReading::Failed(format!("the request failed: {error}"))),
            Err(_cancelled) => Err(NoReading::Ended),
        };
        // Nobody waits for it at the end.
        let _: Result<(), _> = sender.send(result);
    });
    result.blocking_recv().unwrap_or(Err(NoReading::Ended))
}

/// The screen and what it shows.
struct Shown {
    state: State,
    painter: Painter,
    pace: Pace,
    /// What the kernel or comparison reports of this host.
    events: Option<Subscription>,
    began: Instant,
}

impl Shown {
    /// Shows everything that comes until the end.
    fn show(mut self, terminal: &mut Terminal, messages: &Receiver<Message>) -> anyhow::Result<()> {
        loop {
            self.draw(terminal)?;
            let drawn = Instant::now();
            let mut next = match messages.recv_timeout(LOOK) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("every thread has ended"),
            };
            // What is there already is drawn at once: a key that is held down does not lag behind.
            while let Some(message) = next {
                if self.take(message)? == Flow::Quit {
                    return Ok(());
                }
                next = if drawn.elapsed() < FRAME { messages.try_recv().ok() } else { None };
            }
            if let Some(events) = &mut self.events {
                let batch = events.take(usize::MAX);
                if !batch.events.is_empty() || batch.missed > 0 {
                    self.state.receive(self.began.elapsed(), Update::Happened(batch.events, batch.missed));
                }
            }
        }
    }

    fn draw(&mut self, terminal: &mut Terminal) -> anyhow::Result<()> {
        let size = terminal.size().context("failed to read the size of the terminal")?;
        let now = self.began.elapsed();
        let drawn = self.painter.paint(&mut self.state, size, now, |draw| terminal.draw(|frame| draw(frame)));
        drawn.context("failed to draw on the terminal")
    }

    fn take(&mut self, message: Message) -> anyhow::Result<Flow> {
        match message {
            Message::Stop => return Ok(Flow::Quit),
            Message::Failed(error) => return Err(error),
            Message::News(Update::Failed(reason)) if self.state.readings().is_none() => {
                // There is nothing to show while it is tried again.
                anyhow::bail!(reason);
            }
            Message::News(update) => self.state.receive(self.began.elapsed(), update),
            Message::Input(event) => {
                let Some(input) = terminal::input(&event, self.painter.screen()) else {
                    return Ok(Flow::Continue);
                };
                let flow = self.state.handle(input);
                self.pace.pause(self.state.is_paused());
                return Ok(flow);
            }
        }
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::sync::mpsc::channel;

    use bpf_metrics_exporter::cli::{Command, Invocation, parse};

    use super::*;

    /// The exporter of `--url`.
    fn exporter(url: &str) -> Destination {
        let arguments = ["bpf-metrics-exporter", "top", "--url", url];
        let parsed = parse(arguments.map(Into::into).to_vec(), []).expect("it is valid");
        let Invocation::Run { command: Command::Top(top), .. } = parsed else { panic!("it is top") };
        let TopReadings::Exporter(destination) = top.readings else { panic!("it has a URL") };
        *destination
    }

    #[test]
    fn a_redirection_says_which_url_to_give() {
        let server = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let destination = exporter(&format!("http://{}", server.local_addr().expect("it is bound")));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let mut read = of_exporter(&destination, runtime.handle().clone()).expect("it is valid");
        let answering = thread::spawn(move || {
            let location = "Location: https://node-7/bpf\r\n";
            for location in [location, ""] {
                let (mut connection, _) = server.accept().expect("it connects");
                let request = BufReader::new(connection.try_clone().expect("it can be copied")).lines();
                let end = request.map_while(Result::ok).find(String::is_empty);
                end.expect("it sends a request");
                let answer = format!(
                    "HTTP/1.1 301 Moved Permanently\r\n{location}Connection: close\r\nContent-Length: 0\r\n\r\n"
                );
                connection.write_all(answer.as_bytes()).expect("it reads");
            }
        });
        for expected in ["give the URL of its target, https://node-7/bpf", "this one names no target"] {
            let Err(NoReading::Failed(reason)) = read() else { panic!("it is no reading") };
            assert!(reason.starts_with("HTTP status 301") && reason.ends_with(expected), "{reason}");
        }
        answering.join().expect("it answers");
    }

    #[test]
    fn a_request_that_panics_says_so() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        assert_eq!(run_task(runtime.handle(), async { 7 }), Ok(7));
        let panicked: Result<(), _> = run_task(runtime.handle(), async { panic!("an index of 7") });
        let Err(NoReading::Failed(reason)) = panicked else { panic!("{panicked:?}") };
        assert!(reason.contains("panicked") && reason.contains("an index of 7"), "{reason}");
    }

    #[test]
    fn a_request_ends_quietly_with_the_runtime() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let destination = exporter(&format!("http://{}", silent.local_addr().expect("it is bound")));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let mut read = of_exporter(&destination, runtime.handle().clone()).expect("it is valid");
        let (sender, results) = channel();
        let reading = thread::spawn(move || {
            for _ in 0..2 {
                sender.send(read()).expect("the test waits");
            }
        });
        let (_connection, _) = silent.accept().expect("it connects");
        assert!(results.recv_timeout(Duration::from_millis(200)).is_err(), "there is no answer");
        runtime.shutdown_background();
        for _ in 0..2 {
            let result = results.recv_timeout(Duration::from_secs(10)).expect("it does not panic");
            assert_eq!(result.err(), Some(NoReading::Ended));
        }
        reading.join().expect("it does not panic");
    }
}
