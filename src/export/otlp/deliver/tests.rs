use proptest::prelude::*;

use super::*;
use crate::export::otlp::encode::Signal;
use crate::export::otlp::ledger::SignalCounts;
use crate::export::otlp::queue::Disk;
use crate::export::otlp::transport::FailureKind;
use crate::model::BootTime;
use crate::worker::Worker;

const MAX_BYTES: u64 = 300;

const BACKOFF: Backoff = Backoff { min: MIN_BACKOFF, max: MAX_BACKOFF };

#[test]
fn a_delay_given_by_the_receiver_is_the_minimum() {
    let delay = Duration::from_mins(1);
    assert!(retry_delay(BACKOFF, 0, Retry::After(delay)) >= delay);
    assert!(
        retry_delay(BACKOFF, 0, Retry::After(Duration::MAX)) <= MAX_DEMANDED_DELAY + BACKOFF.max,
        "a mistake of the receiver"
    );
}

#[test]
fn a_demanded_delay_above_the_bound_is_logged_with_the_bound() {
    let reason = |delay| {
        let retry = Retry::After(Duration::from_secs(delay));
        Reason { reason: "busy", retry }.to_string()
    };
    assert_eq!(
        reason(315_360_000),
        "busy; the receiver demands a delay of 315360000 s, of which 600 s are used"
    );
    assert_eq!(reason(7), "busy; the receiver demands a delay of 7 s");
}

/// Settles requests of logs, of three records each.
struct Logs<'a> {
    delivery: Delivery<'a>,
    queue: &'a Arc<Queue>,
}

impl Logs<'_> {
    /// Sends the next request and settles it. Returns the delay if it is to be sent again.
    async fn settle(&mut self, result: Result<Answer, Failure>) -> Option<Duration> {
        if self.queue.is_empty() {
            let items = Items { signal: Signal::Logs, count: 3 };
            let compression = Compression::None;
            self.queue.push(|_| Request { bytes: vec![0; 10].into(), compression, items });
        }
        let front = self.queue.front(self.delivery.parts.of).await.expect("it is open");
        let request = self.delivery.next_part(front).expect("it can be read");
        self.delivery.settle(request, result, 0)
    }
}

#[tokio::test(start_paused = true)]
async fn logs_are_dropped_only_once_a_receiver_has_said_for_long_that_it_takes_none() {
    let ledger = Arc::new(Ledger::new("the receiver", BootTime::default()));
    let queue = Queue::new("the receiver", MAX_BYTES, Compression::None, Arc::clone(&ledger));
    let queue = Arc::new(queue.of_signal(Signal::Logs));
    let settings = settings();
    let delivery = Delivery::new(&queue, &ledger, &settings);
    let mut logs = Logs { delivery, queue: &queue };
    let failure = |kind, remedy| Err(Failure { kind, reason: "no".to_owned(), remedy });
    let none = || failure(FailureKind::Http(404), Remedy::Drop);
    let counts = || (ledger.logs.retryable.get(), ledger.logs.failed.get(), ledger.logs.refused.get());

    assert!(logs.settle(none()).await.is_some_and(|delay| delay <= MIN_BACKOFF));
    tokio::time::advance(NOT_TAKEN).await;
    let outage = failure(FailureKind::Connect, Remedy::Retry(Retry::WithBackoff));
    assert!(logs.settle(outage).await.is_some(), "an outage is no such answer");
    assert!(logs.settle(none()).await.is_some());
    tokio::time::advance(NOT_TAKEN.saturating_sub(MIN_BACKOFF)).await;
    assert!(logs.settle(none()).await.is_some());
    assert_eq!((counts(), logs.delivery.skips()), ((4, 0, 0), false));

    tokio::time::advance(MIN_BACKOFF).await;
    assert_eq!(logs.settle(none()).await, None);
    assert_eq!((counts(), logs.delivery.skips()), ((4, 1, 3), true));
    tokio::time::advance(NOT_TAKEN).await;
    assert!(!logs.delivery.skips(), "it is tried again");
    assert_eq!(logs.settle(failure(FailureKind::Grpc(tonic::Code::Unimplemented), Remedy::Drop)).await, None);
    assert_eq!((counts(), logs.delivery.skips()), ((4, 2, 6), true));

    tokio::time::advance(NOT_TAKEN).await;
    assert_eq!(logs.settle(Ok(Answer::default())).await, None);
    for _ in 0..3 {
        assert!(logs.settle(none()).await.is_some(), "it takes logs");
        tokio::time::advance(NOT_TAKEN).await;
    }
    assert_eq!((counts(), logs.delivery.skips()), ((7, 2, 6), false));
}

/// A step of the producer or of the delivery.
#[derive(Clone, Debug)]
enum Step {
    BeginReading,
    Push { bytes: usize, count: u64 },
    Front,
    Settle(Outcome),
    ShutDown,
}

/// Outcome of an attempt; a cancelled one settles nothing.
#[derive(Clone, Debug)]
enum Outcome {
    Accepted { rejected: u64 },
    Refused,
    Failed,
    Cancelled,
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        3 => (0..30_u64).prop_map(|rejected| Outcome::Accepted { rejected }),
        1 => Just(Outcome::Refused),
        2 => Just(Outcome::Failed),
        1 => Just(Outcome::Cancelled),
    ];
    prop_oneof![
        20 => Just(Step::BeginReading),
        60 => (1..150_usize, 0..20_u64).prop_map(|(bytes, count)| Step::Push { bytes, count }),
        40 => Just(Step::Front),
        40 => outcome.prop_map(Step::Settle),
        1 => Just(Step::ShutDown),
    ]
}

/// What became of points.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    accepted: u64,
    rejected: u64,
    refused: u64,
    overflowed: u64,
    shut_down: u64,
}

/// Reference for the queue and its counts: a plain list.
#[derive(Debug, Default)]
struct Model {
    requests: Vec<ModelRequest>,
    in_flight: bool,
    reading: u32,
    /// The reading of the last request that was settled.
    begun: Option<u32>,
    counts: Counts,
    /// Requests survive the end of the delivery.
    on_disk: bool,
}

#[derive(Debug)]
struct ModelRequest {
    bytes: usize,
    count: u64,
    reading: u32,
}

impl Model {
    fn bytes(&self) -> u64 {
        self.requests.iter().map(|request| request.bytes as u64).sum()
    }

    fn points(&self) -> u64 {
        self.requests.iter().map(|request| request.count).sum()
    }

    fn push(&mut self, bytes: usize, count: u64) {
        self.requests.push(ModelRequest { bytes, count, reading: self.reading });
        while self.bytes() > MAX_BYTES {
            let first = usize::from(self.in_flight);
            let mut readings: Vec<u32> =
                self.requests[first..].iter().map(|request| request.reading).collect();
            readings.retain(|reading| *reading != self.reading);
            let begun = if self.in_flight { Some(self.requests[0].reading) } else { self.begun };
            let whole = readings.iter().find(|reading| Some(**reading) != begun);
            let Some(&oldest) = whole.or(readings.first()) else { return };
            let mut index = 0;
            self.requests.retain(|request| {
                index += 1;
                let keep = index <= first || request.reading != oldest;
                self.counts.overflowed += if keep { 0 } else { request.count };
                keep
            });
        }
    }

    fn settle(&mut self, outcome: &Outcome) {
        if matches!(outcome, Outcome::Cancelled) {
            return;
        }
        self.in_flight = false;
        if matches!(outcome, Outcome::Failed) {
            return;
        }
        let ModelRequest { count, reading, .. } = self.requests.remove(0);
        self.begun = Some(reading);
        match *outcome {
            Outcome::Accepted { rejected } => {
                self.counts.rejected += rejected.min(count);
                self.counts.accepted += count - rejected.min(count);
            }
            _ => self.counts.refused += count,
        }
    }

    fn shut_down(&mut self) -> u64 {
        self.in_flight = false;
        if self.on_disk {
            return 0;
        }
        let dropped = self.points();
        self.counts.shut_down += dropped;
        self.requests.clear();
        dropped
    }
}

fn counts(ledger: &Ledger) -> Counts {
    let SignalCounts { accepted, rejected, refused, overflowed, shut_down, .. } = &ledger.metrics;
    Counts {
        accepted: accepted.get(),
        rejected: rejected.get(),
        refused: refused.get(),
        overflowed: overflowed.get(),
        shut_down: shut_down.get(),
    }
}

/// The result of a transport.
fn result(outcome: &Outcome) -> Result<Answer, Failure> {
    let failure = |remedy| {
        Err(Failure { kind: FailureKind::Grpc(tonic::Code::Unknown), reason: "no".to_owned(), remedy })
    };
    match *outcome {
        Outcome::Accepted { rejected } => Ok(Answer { rejected, message: String::new() }),
        Outcome::Refused => failure(Remedy::Drop),
        Outcome::Failed | Outcome::Cancelled => failure(Remedy::Retry(Retry::WithBackoff)),
    }
}

fn settings() -> DeliverySettings {
    DeliverySettings {
        receiver: "the receiver".to_owned(),
        compression: Compression::None.into(),
        interval: Duration::from_secs(10),
        max_request: Arc::new(RequestLimit::new(1 << 20)),
    }
}

/// Takes the steps with a queue, and compares it with the model after each.
async fn follow(
    queue: Arc<Queue>,
    ledger: &Ledger,
    on_disk: bool,
    steps: Vec<Step>,
) -> Result<(), TestCaseError> {
    let settings = settings();
    let mut delivery = Delivery::new(&queue, ledger, &settings);
    let (mut model, mut front, mut pushed) = (Model { on_disk, ..Model::default() }, None, 0);
    for step in steps {
        match step {
            Step::BeginReading => {
                queue.begin_reading();
                model.reading += 1;
            }
            Step::Push { bytes, count } => {
                let items = Items { signal: Signal::Metrics, count };
                let compression = Compression::None;
                queue.push(|_| Request { bytes: vec![0; bytes].into(), compression, items });
                queue.flush().await;
                model.push(bytes, count);
                pushed += count;
            }
            Step::Front if model.requests.is_empty() => {}
            Step::Front => {
                let next = queue.front(delivery.parts.of).await.expect("it is not empty");
                let request = delivery.next_part(next).expect("it can be read");
                let first = &model.requests[0];
                prop_assert_eq!((request.bytes.len(), request.items.count), (first.bytes, first.count));
                model.in_flight = true;
                front = Some(request);
            }
            Step::Settle(outcome) => {
                let Some(request) = front.take() else { continue };
                if !matches!(outcome, Outcome::Cancelled) {
                    let delay = delivery.settle(request, result(&outcome), 0);
                    prop_assert_eq!(delay.is_some(), matches!(outcome, Outcome::Failed));
                }
                model.settle(&outcome);
            }
            Step::ShutDown => {
                front = None;
                delivery.parts = Parts::default();
                prop_assert_eq!(queue.shut_down().dropped, model.shut_down());
            }
        }
        prop_assert_eq!(&counts(ledger), &model.counts);
        prop_assert_eq!(ledger.backlog.get(), model.bytes());
        let in_flight = if model.in_flight { model.requests[0].count } else { 0 };
        prop_assert_eq!(queue.waiting() + in_flight, model.points());
        let Counts { accepted, rejected, refused, overflowed, shut_down } = counts(ledger);
        prop_assert_eq!(accepted + rejected + refused + overflowed + shut_down + model.points(), pushed);
    }
    Ok(())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

fn memory() -> (Queue, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::new("the receiver", BootTime::default()));
    (Queue::new("the receiver", MAX_BYTES, Compression::None, Arc::clone(&ledger)), ledger)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_point_is_counted_once(steps in prop::collection::vec(step(), 0..200)) {
        let (queue, ledger) = memory();
        runtime().block_on(follow(Arc::new(queue), &ledger, false, steps))?;
    }

    #[test]
    fn every_point_is_counted_once_on_disk(steps in prop::collection::vec(step(), 0..60)) {
        let directory = tempfile::tempdir().expect("a directory");
        let (queue, ledger) = memory();
        let worker = Worker::start("disk").expect("a thread");
        let queue = Arc::new(queue.on(Disk::new(directory.path(), "http://receiver", "the receiver", MAX_BYTES, worker)));
        runtime().block_on(follow(queue, &ledger, true, steps))?;
    }
}
