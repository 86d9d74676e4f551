use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::export::otlp::encode::{Items, Signal};
use crate::export::otlp::ledger::SignalCounts;
use crate::export::otlp::settings::Compression;
use crate::model::BootTime;

const MAX_BYTES: u64 = 300;

#[test]
fn a_delay_given_by_the_receiver_is_the_minimum() {
    let delay = Duration::from_mins(1);
    assert!(retry_delay(0, Retry::After(delay)) >= delay);
    assert!(
        retry_delay(0, Retry::After(Duration::MAX)) <= MAX_DEMANDED_DELAY + BACKOFF.max,
        "a mistake of the receiver"
    );
}

/// A step of the producer or of the delivery.
#[derive(Clone, Debug)]
enum Step {
    BeginSample,
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
        20 => Just(Step::BeginSample),
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
    sample: u32,
    counts: Counts,
}

#[derive(Debug)]
struct ModelRequest {
    bytes: usize,
    count: u64,
    sample: u32,
}

impl Model {
    fn bytes(&self) -> u64 {
        self.requests.iter().map(|request| request.bytes as u64).sum()
    }

    fn points(&self) -> u64 {
        self.requests.iter().map(|request| request.count).sum()
    }

    fn push(&mut self, bytes: usize, count: u64) {
        self.requests.push(ModelRequest { bytes, count, sample: self.sample });
        let first = usize::from(self.in_flight);
        while self.bytes() > MAX_BYTES && self.requests[first].sample != self.sample {
            self.counts.overflowed += self.requests.remove(first).count;
        }
    }

    fn settle(&mut self, outcome: &Outcome) {
        if matches!(outcome, Outcome::Cancelled) {
            return;
        }
        self.in_flight = false;
        match *outcome {
            Outcome::Accepted { rejected } => {
                let count = self.requests.remove(0).count;
                self.counts.rejected += rejected.min(count);
                self.counts.accepted += count - rejected.min(count);
            }
            Outcome::Refused => self.counts.refused += self.requests.remove(0).count,
            Outcome::Failed | Outcome::Cancelled => {}
        }
    }

    fn shut_down(&mut self) -> u64 {
        let dropped = self.points();
        self.counts.shut_down += dropped;
        self.requests.clear();
        self.in_flight = false;
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

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_point_is_counted_once(steps in prop::collection::vec(step(), 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let ledger = Arc::new(Ledger::new(BootTime::default()));
        let queue = MemoryQueue::new(MAX_BYTES, Arc::clone(&ledger));
        let mut outcomes = OutcomeLog::new("the receiver", &ledger);
        let (mut model, mut front, mut pushed) = (Model::default(), None, 0);
        for step in steps {
            match step {
                Step::BeginSample => {
                    queue.begin_sample();
                    model.sample += 1;
                }
                Step::Push { bytes, count } => {
                    let items = Items { signal: Signal::Metrics, count };
                    queue.push(Arc::new(Request { bytes: vec![0; bytes].into(), compression: Compression::None, items }));
                    model.push(bytes, count);
                    pushed += count;
                }
                Step::Front if model.requests.is_empty() => {}
                Step::Front => {
                    let request = runtime.block_on(queue.front()).expect("it is not empty");
                    let first = &model.requests[0];
                    prop_assert_eq!((request.bytes.len(), request.items.count), (first.bytes, first.count));
                    model.in_flight = true;
                    front = Some(request);
                }
                Step::Settle(outcome) => {
                    let Some(request) = front.take() else { continue };
                    if !matches!(outcome, Outcome::Cancelled) {
                        let retry = settle(&queue, &mut outcomes, request, result(&outcome));
                        prop_assert_eq!(retry.is_some(), matches!(outcome, Outcome::Failed));
                    }
                    model.settle(&outcome);
                }
                Step::ShutDown => {
                    front = None;
                    prop_assert_eq!(queue.shut_down(), model.shut_down());
                }
            }
            prop_assert_eq!(&counts(&ledger), &model.counts);
            prop_assert_eq!(ledger.backlog.get(), model.bytes());
            let in_flight = if model.in_flight { model.requests[0].count } else { 0 };
            prop_assert_eq!(queue.waiting() + in_flight, model.points());
            let Counts { accepted, rejected, refused, overflowed, shut_down } = counts(&ledger);
            prop_assert_eq!(accepted + rejected + refused + overflowed + shut_down + model.points(), pushed);
        }
    }
}
