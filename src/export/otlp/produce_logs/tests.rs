use super::*;
use crate::events::{Events, HISTORY};
use crate::export::otlp::encode::Signal;
use crate::export::otlp::settings::Compression;
use crate::model::{BootTime, EventKind, EventSource, Subject};

fn event(kind: EventKind) -> Event {
    Event::new(kind, EventSource::Kernel, (BootTime(1), BootTime(2)), Subject::default())
}

fn loads(count: usize) -> Vec<Event> {
    vec![event(EventKind::ProgramLoad); count]
}

/// A producer whose queue nobody empties.
struct Producer {
    events: Events,
    queue: Arc<Queue>,
    ledger: Arc<Ledger>,
    stop: watch::Sender<bool>,
    publisher: Option<mpsc::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

fn start() -> Producer {
    let events = Events::default();
    let ledger = Arc::new(Ledger::new("the receiver", BootTime::default()));
    let queue = Queue::new("the receiver", 1 << 20, Compression::None, Arc::clone(&ledger));
    let queue = Arc::new(queue.of_signal(Signal::Logs));
    let worker = Worker::start("encoding").expect("a thread");
    let limit = Arc::new(RequestLimit::new(1 << 20));
    let queues = vec![(Arc::clone(&queue), Arc::clone(&ledger))];
    let lane = LogLane::new(&[], limit, queues, worker, WallClock::default);
    let (stop, stopped) = watch::channel(false);
    let (publisher, publishers) = mpsc::channel(1);
    let task = tokio::spawn(produce_logs(events.subscribe(Some(0)), lane, stopped, publishers));
    Producer { events, queue, ledger, stop, publisher: Some(publisher), task }
}

impl Producer {
    /// Waits for the next batch and takes it; returns how many records it has, and how long it took.
    async fn next(&self) -> (u64, Duration) {
        let start = Instant::now();
        let front = self.queue.front(None).await.expect("the queue is open");
        self.queue.done(true);
        (front.request.expect("it is in memory").items.count, start.elapsed())
    }
}

#[tokio::test]
async fn events_are_sent_together_within_a_second_and_a_full_batch_at_once() {
    let producer = start();
    producer.events.publish(loads(2));
    tokio::time::sleep(Duration::from_millis(100)).await;
    producer.events.publish(loads(3));
    let (count, took) = producer.next().await;
    assert_eq!(count, 5);
    assert!(took < MAX_WAIT, "{took:?}");
    producer.events.publish(loads(MAX_BATCH + 1));
    let (count, took) = producer.next().await;
    assert_eq!(count, MAX_BATCH as u64);
    assert!(took < MAX_WAIT / 2, "{took:?}");
    assert_eq!(producer.next().await.0, 1);
}

#[tokio::test]
async fn what_is_published_while_others_stop_is_sent_before_the_queue_closes() {
    let mut producer = start();
    producer.events.publish(loads(1));
    producer.stop.send_replace(true);
    // The last reading of metrics finds something, more than a second later.
    tokio::time::sleep(MAX_WAIT + Duration::from_millis(200)).await;
    assert!(!producer.queue.is_closed(), "a publisher still runs");
    assert_eq!(producer.next().await.0, 1);
    producer.events.publish(loads(MAX_BATCH + 2));
    producer.publisher = None;
    producer.task.await.expect("it ends");
    assert!(producer.queue.is_closed());
    let mut left = 0;
    while let Some(front) = producer.queue.front(None).await {
        left += front.request.expect("it is in memory").items.count;
        producer.queue.done(true);
    }
    assert_eq!(left, MAX_BATCH as u64 + 2);
}

#[tokio::test]
async fn it_ends_with_those_who_publish_even_if_nothing_happened() {
    let Producer { stop, publisher, task, queue, .. } = start();
    drop((stop, publisher));
    tokio::time::timeout(MAX_WAIT, task).await.expect("it ends at once").expect("it does not panic");
    assert!(queue.is_closed() && queue.is_empty());
}

#[tokio::test]
async fn what_came_too_fast_is_counted() {
    let producer = start();
    // In one step, so that the producer sees only the end of it.
    for _ in 0..3 {
        producer.events.publish(loads(HISTORY));
    }
    let Producer { stop, publisher, task, ledger, queue, .. } = producer;
    drop((stop, publisher));
    task.await.expect("it does not panic");
    assert_eq!(ledger.logs.missed.get(), 2 * HISTORY as u64);
    assert_eq!(queue.waiting(), HISTORY as u64);
}
