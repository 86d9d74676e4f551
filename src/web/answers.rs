//! Rendered answers: one for all who scrape the same reading in the same format, compression and selection.
//! Entry point: [`Answers::get`].
//!
//! They are kept compressed. One for clients that take no compression is kept as lines instead, half of the text; further ones are
//! decompressed piece by piece, so that many slow clients hold a tenth of the text each.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::bounds;
use super::collectors::Collectors;
use super::connections::Scrape;
use super::negotiate::{Coding, Format};
use crate::export::json_stream;
use crate::export::prometheus::{self, Lines, protobuf};
use crate::model::{Exporter, Snapshot};
use crate::source::{Reading, Source};
use crate::worker::Worker;

/// Size of the pieces in which an answer is stored.
const PIECE: usize = 16 << 10;

/// What is rendered of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub(super) content: AnswerContent,
    pub(super) coding: Coding,
}

/// What an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum AnswerContent {
    Metrics(Format, Collectors),
    /// The whole reading as JSON, whatever is selected of it for the metrics.
    Snapshot,
}

/// A rendered answer.
pub(super) enum Answer {
    /// Compressed as the request wants it, or with gzip.
    Compressed {
        pieces: Arc<[Bytes]>,
        /// Size of the text itself, in bytes.
        plain: u64,
    },
    /// Not compressed.
    Lines {
        lines: Arc<Lines>,
        /// Of [`bounds::PLAIN_ANSWERS`], for as long as a client takes it.
        _room: OwnedSemaphorePermit,
    },
}

/// The answers of the newest reading.
pub(super) struct Answers {
    worker: Worker,
    /// Whether `OpenMetrics` has the start of each counter.
    created: bool,
    kept: Mutex<Kept>,
    /// For answers without compression.
    room: Arc<Semaphore>,
}

/// The place of an answer; `None` until it is rendered.
type Cell = Arc<watch::Sender<Option<Arc<Answer>>>>;

#[derive(Default)]
struct Kept {
    reading: Option<Arc<Snapshot>>,
    answers: HashMap<Request, Cell>,
    used: Option<Instant>,
    /// Whether a task waits to free them.
    expires: bool,
}

impl Answers {
    pub(super) fn new(worker: Worker, created: bool) -> Arc<Self> {
        let room = Arc::new(Semaphore::new(bounds::PLAIN_ANSWERS));
        Arc::new(Self { worker, created, kept: Mutex::default(), room })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("nothing panics with it")
    }

    /// Returns the answer to a request from a reading, rendered if nobody has it yet. A rendering counts as a scrape until it ends,
    /// and is kept, also if its scraper goes away. One that has not begun ends with its scraper.
    ///
    /// # Errors
    ///
    /// If the compression fails, which takes a lack of memory.
    pub(super) async fn get(
        self: &Arc<Self>,
        source: &Source,
        reading: Reading,
        request: Request,
        scrape: &Arc<Scrape>,
    ) -> io::Result<Arc<Answer>> {
        let request = self.as_kept(request);
        let cell = self.cell(&reading.snapshot, request);
        let mut rendered = cell.subscribe();
        let turn = tokio::select! {
            biased;
            // The sender is `cell`.
            Ok(answer) = rendered.wait_for(Option::is_some) => return Ok(answer.clone().expect("waited for")),
            turn = self.worker.turn() => turn,
        };
        let (exporter, created) = (source.exporter(), self.created);
        let room = Arc::clone(&self.room);
        let scrape = Arc::clone(scrape);
        let render = move || {
            let _scrape = scrape;
            // Rendered while this one waited for its turn.
            if let Some(answer) = &*cell.borrow() {
                return Ok(Arc::clone(answer));
            }
            let answer = Arc::new(render(reading, &exporter, request, created, &room)?);
            cell.send_replace(Some(Arc::clone(&answer)));
            Ok(answer)
        };
        turn.run(render).await
    }

    /// Returns a request as its answer is kept: with gzip for a client that takes no compression, if there are no lines of it, or no room
    /// for them. One of the same kind for an older reading makes room for this one.
    fn as_kept(&self, request: Request) -> Request {
        let has_lines =
            matches!(request.content, AnswerContent::Metrics(Format::Text | Format::OpenMetrics, _));
        let has_room = || self.room.available_permits() > 0 || self.kept().answers.contains_key(&request);
        let coding = match request.coding {
            Coding::Identity if !has_lines || !has_room() => Coding::Gzip,
            coding => coding,
        };
        Request { coding, ..request }
    }

    /// Returns the place of an answer, which is not kept if the reading is not the newest.
    fn cell(self: &Arc<Self>, snapshot: &Arc<Snapshot>, request: Request) -> Cell {
        let mut kept = self.kept();
        let kept = &mut *kept;
        let is_same = kept.reading.as_ref().is_some_and(|reading| Arc::ptr_eq(reading, snapshot));
        if !is_same {
            if kept.reading.as_ref().is_some_and(|reading| reading.taken_at > snapshot.taken_at) {
                return Cell::default();
            }
            let old = (std::mem::take(&mut kept.answers), kept.reading.replace(Arc::clone(snapshot)));
            // To free a reading of a large host takes a millisecond, in which nothing else would run here.
            self.worker.submit(move || drop(old));
        }
        kept.used = Some(Instant::now());
        if !kept.expires {
            kept.expires = true;
            tokio::spawn(expire(Arc::downgrade(self)));
        }
        if kept.answers.len() >= bounds::ANSWERS && !kept.answers.contains_key(&request) {
            return Cell::default();
        }
        Arc::clone(kept.answers.entry(request).or_default())
    }
}

/// Frees the answers when nobody has used them for some time.
async fn expire(answers: Weak<Answers>) {
    loop {
        tokio::time::sleep(bounds::ANSWERS_KEPT / 2).await;
        let Some(answers) = answers.upgrade() else { return };
        let mut kept = answers.kept();
        if kept.used.is_none_or(|used| used.elapsed() > bounds::ANSWERS_KEPT) {
            *kept = Kept::default();
            return;
        }
    }
}

fn render(
    reading: Reading,
    exporter: &Exporter,
    request: Request,
    created: bool,
    room: &Arc<Semaphore>,
) -> io::Result<Answer> {
    let Reading { snapshot, mut selected } = reading;
    let text = |format| match format {
        Format::Text => Some(prometheus::Format::Text),
        Format::OpenMetrics if created => Some(prometheus::Format::OpenMetricsCreated),
        Format::OpenMetrics => Some(prometheus::Format::OpenMetrics),
        Format::Protobuf => None,
    };
    if let AnswerContent::Metrics(_, collectors) = request.content {
        selected.metrics = collectors.restrict(&selected.metrics);
    }
    let sample = selected.sample(Some(exporter));
    if let (AnswerContent::Metrics(format, _), Coding::Identity) = (request.content, request.coding)
        && let Some(format) = text(format)
        && let Ok(room) = Arc::clone(room).try_acquire_owned()
    {
        return Ok(Answer::Lines { lines: Arc::new(prometheus::lines(sample, format)), _room: room });
    }
    let mut plain = 0;
    let write = |out: &mut dyn Write| match request.content {
        AnswerContent::Snapshot => json_stream::write(&snapshot, out),
        AnswerContent::Metrics(format, _) => match text(format) {
            Some(format) => prometheus::write(sample, format, out),
            None => protobuf::write(sample, out),
        },
    };
    let stored = match request.coding {
        Coding::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(Store::default(), 1)?;
            write(&mut Counted { out: &mut encoder, bytes: &mut plain })?;
            encoder.finish()?
        }
        Coding::Gzip | Coding::Identity => {
            let mut encoder = GzEncoder::new(Store::default(), Compression::fast());
            write(&mut Counted { out: &mut encoder, bytes: &mut plain })?;
            encoder.finish()?
        }
    };
    Ok(Answer::Compressed { pieces: stored.finish(), plain })
}

/// A stored answer in the making.
#[derive(Default)]
struct Store {
    pieces: Vec<Bytes>,
    last: Vec<u8>,
}

impl Store {
    fn finish(mut self) -> Arc<[Bytes]> {
        if !self.last.is_empty() {
            self.last.shrink_to_fit();
            self.pieces.push(self.last.into());
        }
        self.pieces.into()
    }
}

impl Write for Store {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.last.capacity() == 0 {
            self.last.reserve_exact(PIECE);
        }
        let taken = bytes.len().min(PIECE - self.last.len());
        self.last.extend_from_slice(&bytes[..taken]);
        if self.last.len() == PIECE {
            self.pieces.push(std::mem::take(&mut self.last).into());
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts what passes.
struct Counted<'a> {
    out: &'a mut dyn Write,
    bytes: &'a mut u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        *self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::select::Selected;
    use crate::model::{BootTime, Build, WallClock};
    use crate::web::activity::Activity;
    use crate::web::connections::Scrapes;

    /// A source whose readings are each later than the one before.
    fn source() -> Source {
        let mut second = 0;
        let read = move || {
            second += 1;
            let taken_at = BootTime::from_secs(second);
            Snapshot::begun(taken_at, BootTime::default(), WallClock::default())
        };
        let build = Build { started_at: BootTime::default(), version: "", revision: None, rustc: None };
        let exporter = move || Exporter::of(build.clone());
        Source::new(Worker::start("reading").expect("a thread"), read, Selected::all, exporter)
    }

    #[tokio::test]
    async fn one_answer_is_kept_without_compression_and_slow_clients_get_others() {
        let source = source();
        let answers = Answers::new(Worker::start("rendering").expect("a thread"), false);
        let activity = Activity::new(Instant::now());
        let scrape = Arc::new(Scrapes::new(0).admit(&activity).expect("there is no limit"));
        let content = AnswerContent::Metrics(Format::Text, Collectors::parse("").expect("it is empty"));
        let get = async |coding| {
            let reading = source.begun_since(Some(Instant::now())).await;
            let request = Request { content, coding };
            answers.get(&source, reading, request, &scrape).await.expect("it is rendered")
        };
        let is_plain = |answer: &Answer| matches!(answer, Answer::Lines { .. });
        let mut taken = Vec::new();
        for _ in 0..bounds::PLAIN_ANSWERS {
            taken.push(get(Coding::Identity).await);
        }
        assert!(taken.iter().all(|answer| is_plain(answer)));
        assert!(!is_plain(&*get(Coding::Identity).await), "slow clients hold as many as there may be");
        assert!(!is_plain(&*get(Coding::Gzip).await), "it is compressed as it was asked for");
        taken.pop();
        // What is kept of the last reading is compressed, and so is that of this one.
        assert!(is_plain(&*get(Coding::Identity).await), "one was taken");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_freed_when_there_are_no_scrapes() {
        let source = source();
        let answers = Answers::new(Worker::start("rendering").expect("a thread"), false);
        let reading = source.latest().await;
        let key = Request { content: AnswerContent::Snapshot, coding: Coding::Zstd };
        let kept = Arc::downgrade(&answers.cell(&reading.snapshot, key));
        assert!(kept.upgrade().is_some());
        answers.kept().used = Instant::now().checked_sub(bounds::ANSWERS_KEPT * 2);
        tokio::time::sleep(bounds::ANSWERS_KEPT).await;
        assert!(kept.upgrade().is_none());
    }
}
