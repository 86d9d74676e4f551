use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::export::otlp::encode::Signal;
use crate::model::BootTime;
use crate::worker::Worker;

fn request(bytes: usize, count: u64) -> Request {
    let items = Items { signal: Signal::Metrics, count };
    Request { bytes: vec![0; bytes].into(), compression: Compression::None, items }
}

fn queue(max_bytes: u64) -> (Arc<Queue>, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::new("the receiver", BootTime::default()));
    (Arc::new(Queue::new("the receiver", max_bytes, Compression::None, Arc::clone(&ledger))), ledger)
}

fn push_reading<const COUNT: usize>(queue: &Arc<Queue>, requests: [Request; COUNT]) {
    queue.begin_reading();
    for request in requests {
        queue.push(|_| request);
    }
}

async fn front_count(queue: &Arc<Queue>) -> u64 {
    let front = queue.front(None).await.expect("the queue is not empty");
    front.request.expect("it is not known").items.count
}

#[tokio::test]
async fn a_reading_after_a_loss_or_a_failure_is_to_have_every_point() {
    let (queue, _) = queue(450);
    push_reading(&queue, [request(100, 1), request(100, 2)]);
    assert_eq!(front_count(&queue).await, 1);
    queue.done(true);
    assert!(!queue.take_may_lack(), "it was accepted");
    assert_eq!(front_count(&queue).await, 2);
    queue.retry();
    assert!(queue.take_may_lack(), "the receiver may be another one");
    assert!(!queue.take_may_lack(), "once");
    assert_eq!(front_count(&queue).await, 2);
    queue.done(false);
    assert!(queue.take_may_lack(), "it was refused");
    for _ in 0..5 {
        push_reading(&queue, [request(100, 1)]);
    }
    assert!(queue.take_may_lack(), "the oldest were dropped");
    queue.unreadable(Items { signal: Signal::Metrics, count: 1 }, &std::io::Error::other("torn"));
    assert!(queue.take_may_lack(), "it was damaged");
}

#[tokio::test]
async fn whole_readings_are_dropped_oldest_first_and_every_point_is_counted() {
    let (queue, ledger) = queue(450);
    push_reading(&queue, [request(100, 1), request(100, 2)]);
    push_reading(&queue, [request(100, 4), request(100, 8)]);
    push_reading(&queue, [request(100, 16)]);
    assert_eq!((ledger.metrics.overflowed.get(), ledger.backlog.get()), (3, 300));
    assert_eq!(front_count(&queue).await, 4);
    queue.done(true);
    assert_eq!(ledger.backlog.get(), 200);
    queue.close();
    assert_eq!(queue.shut_down(), Rest { dropped: 24, kept: 0 });
    assert_eq!(ledger.metrics.shut_down.get(), 24);
    assert!(queue.front(None).await.is_none());
}

#[tokio::test]
async fn a_reading_that_was_delivered_in_part_is_dropped_last() {
    let (queue, ledger) = queue(450);
    push_reading(&queue, [request(100, 1), request(100, 2), request(100, 4)]);
    assert_eq!(front_count(&queue).await, 1);
    queue.done(true);
    push_reading(&queue, [request(100, 8)]);
    push_reading(&queue, [request(200, 16)]);
    assert_eq!(ledger.metrics.overflowed.get(), 8, "the first has begun");
    assert_eq!(front_count(&queue).await, 2);
    push_reading(&queue, [request(450, 32)]);
    assert_eq!(ledger.metrics.overflowed.get(), 8 + 16 + 4, "all but what is in flight");
    assert_eq!(queue.waiting(), 32, "the newest is kept complete");
}

#[tokio::test]
async fn the_newest_reading_is_kept_complete() {
    let (queue, ledger) = queue(10);
    push_reading(&queue, [request(100, 1)]);
    push_reading(&queue, [request(100, 2), request(100, 3)]);
    assert_eq!(ledger.metrics.overflowed.get(), 1);
    assert_eq!(queue.waiting(), 5);
}

#[tokio::test]
async fn a_request_to_retry_is_the_first_again() {
    let (queue, ledger) = queue(250);
    push_reading(&queue, [request(100, 1)]);
    assert_eq!(front_count(&queue).await, 1);
    push_reading(&queue, [request(100, 2)]);
    queue.retry();
    assert_eq!(ledger.backlog.get(), 200);
    let front = queue.front(None).await.expect("it is not empty");
    assert!(queue.front(Some(front.id)).await.expect("it is not empty").request.is_none(), "it is known");
}

#[tokio::test]
async fn a_cancelled_delivery_leaves_its_request_in_the_queue() {
    let (queue, ledger) = queue(100);
    push_reading(&queue, [request(100, 1)]);
    drop(queue.front(None).await);
    push_reading(&queue, [request(100, 2)]);
    assert_eq!(front_count(&queue).await, 1, "in flight, hence not dropped");
    queue.done(true);
    queue.done(true);
    assert_eq!(front_count(&queue).await, 2, "only what is in flight is removed");
    assert_eq!((ledger.metrics.overflowed.get(), ledger.backlog.get()), (0, 100));
}

#[tokio::test]
async fn a_queue_that_is_behind_compresses_until_all_is_delivered() {
    let (queue, _) = queue(1 << 20);
    let form = |queue: &Arc<Queue>| {
        let mut form = None;
        queue.push(|compression| {
            form = Some(compression);
            request(1, 1)
        });
        (form.expect("it was asked for"), queue.keeps_plain())
    };
    let past = Instant::now();
    queue.begin_reading();
    queue.wait_until_drained(past);
    assert_eq!(form(&queue), (Compression::None, true), "nothing waited");
    queue.wait_until_drained(past);
    assert_eq!(form(&queue), (Compression::Zstd, false), "it was not drained in time");
    for _ in 0..2 {
        assert_eq!(front_count(&queue).await, 1);
        queue.done(true);
    }
    assert_eq!(form(&queue), (Compression::None, true), "all was delivered");
    assert_eq!(front_count(&queue).await, 1);
    queue.retry();
    assert_eq!(form(&queue), (Compression::Zstd, false), "the receiver did not accept it");
    queue.wait_until_drained(Instant::now() + Duration::from_hours(1));
}

#[tokio::test]
async fn the_producer_is_woken_when_its_request_is_done() {
    let (queue, _) = queue(1 << 20);
    push_reading(&queue, [request(1, 1)]);
    let waiting = Arc::clone(&queue);
    let thread =
        std::thread::spawn(move || waiting.wait_until_drained(Instant::now() + Duration::from_mins(5)));
    assert_eq!(front_count(&queue).await, 1);
    queue.done(true);
    thread.join().expect("it does not panic");
    assert!(queue.keeps_plain(), "it was in time");
}

#[tokio::test]
async fn accepted_requests_of_the_newest_reading_are_known() {
    let (queue, _) = queue(1 << 20);
    push_reading(&queue, [request(1, 1)]);
    push_reading(&queue, [request(1, 1), request(1, 1), request(1, 1)]);
    for accepted in [true, true, false, true] {
        assert_eq!(front_count(&queue).await, 1);
        queue.done(accepted);
    }
    assert_eq!(queue.accepted(), [0, 2]);
    queue.begin_reading();
    assert!(queue.accepted().is_empty());
}

#[tokio::test]
async fn settled_requests_release_their_buffer() {
    let (queue, _) = queue(100);
    let sent = request(100, 1);
    let bytes = sent.bytes.clone();
    push_reading(&queue, [sent]);
    drop(queue.front(None).await);
    queue.done(true);
    assert!(bytes.is_unique());
}

const URL: &str = "http://receiver:4317";

/// A queue on disk, as a start of the program has it.
async fn on_disk(directory: &Path, max_bytes: u64) -> (Arc<Queue>, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::new("the receiver", BootTime::default()));
    let worker = Worker::start("disk").expect("a thread");
    let queue = Queue::new("the receiver", max_bytes, Compression::None, Arc::clone(&ledger));
    let queue = Arc::new(queue.on(Disk::new(directory, URL, "the receiver", max_bytes, worker)));
    queue.load().await;
    (queue, ledger)
}

/// Takes everything, each with its first byte, the number of items, and whether it was read in order.
async fn drain(queue: &Arc<Queue>) -> Vec<u64> {
    let mut counts = Vec::new();
    while !queue.is_empty() {
        counts.push(front_count(queue).await);
        queue.done(true);
    }
    counts
}

fn segments(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("it is there")
        .flat_map(|own| fs::read_dir(own.expect("it can be listed").path()).expect("it can be read"))
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "segment"))
        .collect();
    files.sort();
    files
}

/// Lets go of the lock: the thread of the disk ends some time after its last handle.
async fn close(queue: Arc<Queue>) {
    queue.flush().await;
    let ended = Arc::downgrade(&queue);
    drop(queue);
    while ended.upgrade().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_on_disk_survives_in_order_and_is_delivered_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let (queue, _) = on_disk(directory.path(), 1 << 20).await;
    push_reading(&queue, [request(100, 1), request(100, 2)]);
    push_reading(&queue, [request(100, 3)]);
    assert_eq!(front_count(&queue).await, 1);
    queue.done(true);
    queue.flush().await;
    assert_eq!(queue.shut_down(), Rest { dropped: 0, kept: 5 });
    close(queue).await;

    let (queue, ledger) = on_disk(directory.path(), 1 << 20).await;
    assert_eq!(ledger.backlog.get(), 200);
    push_reading(&queue, [request(100, 4)]);
    assert_eq!(drain(&queue).await, [2, 3, 4]);
    close(queue).await;

    let (queue, _) = on_disk(directory.path(), 1 << 20).await;
    assert!(queue.is_empty());
    close(queue).await;
    assert!(segments(directory.path()).is_empty(), "what is not needed any more is removed");
}

#[tokio::test]
async fn the_files_are_for_their_user_only_and_for_one_exporter() {
    let directory = tempfile::tempdir().expect("a directory");
    let (queue, _) = on_disk(directory.path(), 1 << 20).await;
    push_reading(&queue, [request(100, 1)]);
    queue.flush().await;
    let own =
        fs::read_dir(directory.path()).expect("it is there").next().expect("one").expect("it can be listed");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&own.path()), 0o700);
    for entry in fs::read_dir(own.path()).expect("it is there") {
        assert_eq!(mode(&entry.expect("it can be listed").path()), 0o600);
    }

    let (other, ledger) = on_disk(directory.path(), 1 << 20).await;
    assert!(other.is_empty(), "it belongs to the first");
    push_reading(&other, [request(100, 2)]);
    assert_eq!(drain(&other).await, [2], "it is kept in memory");
    assert_eq!(ledger.metrics.unreadable.get(), 0);
    close(other).await;
    assert_eq!(drain(&queue).await, [1]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_costs_nothing_but_the_restart() {
    let directory = tempfile::NamedTempFile::new().expect("a file");
    let (queue, ledger) = on_disk(directory.path(), 1 << 20).await;
    push_reading(&queue, [request(100, 1), request(100, 2)]);
    queue.flush().await;
    assert_eq!(front_count(&queue).await, 1);
    queue.done(true);
    assert_eq!(queue.shut_down(), Rest { dropped: 2, kept: 0 });
    assert_eq!(ledger.metrics.shut_down.get(), 2);
}

#[tokio::test]
async fn a_queue_returns_to_a_disk_that_can_be_used_again() {
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("backlog");
    fs::write(&directory, "a file is in the way").expect("it can be written");
    let (queue, _) = on_disk(&directory, 1 << 20).await;
    push_reading(&queue, [request(100, 1)]);
    queue.flush().await;
    fs::remove_file(&directory).expect("it can be removed");
    queue.flush().await;
    push_reading(&queue, [request(100, 2)]);
    queue.flush().await;
    assert_eq!(queue.shut_down(), Rest { dropped: 0, kept: 3 });
    close(queue).await;
    let (queue, _) = on_disk(&directory, 1 << 20).await;
    assert_eq!(drain(&queue).await, [1, 2]);
}

#[tokio::test]
async fn damaged_records_are_counted_and_the_others_are_delivered() {
    let directory = tempfile::tempdir().expect("a directory");
    let (queue, _) = on_disk(directory.path(), 1 << 20).await;
    push_reading(&queue, [request(100, 1), request(100, 2), request(100, 4)]);
    close(queue).await;
    let segments = segments(directory.path());
    let mut bytes = fs::read(&segments[0]).expect("it can be read");
    bytes[148 + 60] ^= 1;
    fs::write(&segments[0], bytes).expect("it can be written");

    let (queue, ledger) = on_disk(directory.path(), 1 << 20).await;
    assert_eq!(drain(&queue).await, [1, 4]);
    assert_eq!((ledger.metrics.unreadable.get(), ledger.backlog.get()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_disk_does_not_give_for_a_while_is_not_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let (queue, _) = on_disk(directory.path(), 1 << 20).await;
    push_reading(&queue, [request(100, 1), request(100, 2)]);
    close(queue).await;
    let segments = segments(directory.path());
    let aside = directory.path().join("aside");
    let (queue, ledger) = on_disk(directory.path(), 1 << 20).await;
    fs::rename(&segments[0], &aside).expect("it can be renamed");
    fs::create_dir(&segments[0]).expect("its name is free");
    // Time passes as soon as nothing else is to be done.
    let early = tokio::time::timeout(DISK_RETRY * 3, queue.front(None)).await;
    assert!(early.is_err(), "it cannot be read: {early:?}");
    fs::remove_dir(&segments[0]).expect("it is empty");
    fs::rename(&aside, &segments[0]).expect("it can be renamed");
    assert_eq!(drain(&queue).await, [1, 2]);
    assert_eq!(ledger.metrics.unreadable.get(), 0);
}

#[tokio::test]
async fn what_is_no_file_of_the_backlog_does_not_hide_the_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let (queue, _) = on_disk(directory.path(), 1 << 20).await;
    push_reading(&queue, [request(100, 1)]);
    close(queue).await;
    let segment = &segments(directory.path())[0];
    fs::create_dir(segment.with_file_name("00000000000000000077.segment")).expect("its name is free");
    let link = segment.with_file_name("00000000000000000078.segment");
    std::os::unix::fs::symlink(segment, link).expect("its name is free");
    let (queue, _) = on_disk(directory.path(), 1 << 20).await;
    assert_eq!(drain(&queue).await, [1]);
    push_reading(&queue, [request(100, 2)]);
    queue.flush().await;
    assert_eq!(queue.shut_down(), Rest { dropped: 0, kept: 2 }, "the directory is used");
}

#[tokio::test]
async fn backlogs_of_no_destination_are_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let (queue, _) = on_disk(directory.path(), 1 << 20).await;
    push_reading(&queue, [request(100, 1)]);
    close(queue).await;
    assert_eq!(Disk::of_others(directory.path(), &[URL.to_owned()]), []);
    let others = Disk::of_others(directory.path(), &["http://another:4317".to_owned()]);
    let [(path, size)] = &others[..] else { panic!("{others:?}") };
    assert_eq!((path.parent(), *size), (Some(directory.path()), 148));
}

#[tokio::test]
async fn a_receiver_that_may_not_exist_has_the_newest_reading_only() {
    let ledger = Arc::new(Ledger::new("the receiver", BootTime::default()));
    let queue = Queue::new("the receiver", 1 << 20, Compression::None, Arc::clone(&ledger));
    let queue = Arc::new(queue.until_accepted());
    for count in [1, 2, 4] {
        push_reading(&queue, [request(100, count), request(100, count)]);
    }
    assert_eq!((ledger.backlog.get(), ledger.metrics.overflowed.get()), (200, 6));
    assert_eq!(front_count(&queue).await, 4);
    queue.done(true);
    for count in [1, 2] {
        push_reading(&queue, [request(100, count)]);
    }
    assert_eq!((ledger.backlog.get(), ledger.metrics.overflowed.get()), (300, 6), "it exists");
}

#[tokio::test]
async fn the_files_are_bounded_like_the_queue() {
    const MAX: u64 = 1 << 20;
    let directory = tempfile::tempdir().expect("a directory");
    let (queue, ledger) = on_disk(directory.path(), MAX).await;
    push_reading(&queue, [request(1000, 1), request(1000, 1)]);
    assert_eq!(front_count(&queue).await, 1);
    queue.done(true);
    assert_eq!(front_count(&queue).await, 1);
    queue.retry();
    for _ in 0..1000 {
        push_reading(&queue, [request(10_000, 1)]);
        queue.flush().await;
    }
    let size: u64 =
        segments(directory.path()).iter().map(|path| fs::metadata(path).expect("it is there").len()).sum();
    // A segment that is not complete, one with a single request of a reading that has begun, and one of which only the last is left.
    assert!(size < MAX + 3 * (MAX / 8 + 10_048), "{size} bytes");
    assert!(ledger.metrics.overflowed.get() > 890);
    close(queue).await;
    let dropped = ledger.metrics.overflowed.get();
    let (queue, ledger) = on_disk(directory.path(), MAX).await;
    assert_eq!(drain(&queue).await.len() as u64, 1 + 1000 - dropped);
    assert_eq!((ledger.metrics.unreadable.get(), ledger.metrics.overflowed.get()), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// What a program leaves that ends at any moment: files that end anywhere.
    #[test]
    fn files_cut_off_anywhere_have_what_was_written_before(cut: prop::sample::Index, lengths in prop::collection::vec(0..500_usize, 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let directory = tempfile::tempdir().expect("a directory");
            let (queue, _) = on_disk(directory.path(), 1 << 20).await;
            for (&len, count) in lengths.iter().zip(1..) {
                push_reading(&queue, [request(len, count)]);
            }
            close(queue).await;
            let segments = segments(directory.path());
            let file = fs::OpenOptions::new().write(true).open(&segments[0]).expect("it is there");
            let len = file.metadata().expect("it is there").len();
            let cut = cut.index(usize::try_from(len).expect("it is short") + 1) as u64;
            file.set_len(cut).expect("it can be cut");
            let mut end = 0;
            let whole = lengths.iter().zip(1..).take_while(|(len, _)| {
                end += 48 + **len as u64;
                end <= cut
            });
            let whole: Vec<u64> = whole.map(|(_, count)| count).collect();
            let (queue, ledger) = on_disk(directory.path(), 1 << 20).await;
            push_reading(&queue, [request(1, 99)]);
            prop_assert_eq!(drain(&queue).await, [&whole[..], &[99]].concat());
            prop_assert_eq!(ledger.metrics.unreadable.get(), 0);
            Ok(())
        })?;
    }
}
