//! Rendered answers: one for all who scrape the same reading in the same format, compression and selection, kept compressed.
//! Entry point: [`Answers::get`].
//!
//! A client that takes no compression gets its copy decompressed piece by piece, so that slow clients hold a twentieth of the text.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Instant;

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Bytes;
use tokio::sync::watch;

use super::bounds;
use super::collectors::Collectors;
use super::connections::Scrape;
use super::negotiate::{Coding, Format};
use crate::export::json_stream;
use crate::export::prometheus::{self, protobuf};
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
pub(super) struct Answer {
    /// The compressed text.
    pub(super) pieces: Arc<[Bytes]>,
    /// Size of the text itself, in bytes.
    pub(super) plain: u64,
}

/// How a request's answer is stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    content: AnswerContent,
    is_zstd: bool,
}

/// The answers of the newest reading.
pub(super) struct Answers {
    worker: Worker,
    /// Whether `OpenMetrics` has the start of each counter.
    created: bool,
    kept: Mutex<Kept>,
}

/// The place of an answer; `None` until it is rendered.
type Cell = Arc<watch::Sender<Option<Arc<Answer>>>>;

#[derive(Default)]
struct Kept {
    reading: Option<Arc<Snapshot>>,
    answers: HashMap<Key, Cell>,
    used: Option<Instant>,
    /// Whether a task waits to free them.
    expires: bool,
}

impl Answers {
    pub(super) fn new(worker: Worker, created: bool) -> Arc<Self> {
        Arc::new(Self { worker, created, kept: Mutex::default() })
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
        let Request { content, coding } = request;
        let key = Key { content, is_zstd: coding == Coding::Zstd };
        let cell = self.cell(&reading.snapshot, key);
        let mut rendered = cell.subscribe();
        let turn = tokio::select! {
            biased;
            // The sender is `cell`.
            Ok(answer) = rendered.wait_for(Option::is_some) => return Ok(answer.clone().expect("waited for")),
            turn = self.worker.turn() => turn,
        };
        let (exporter, created) = (source.exporter(), self.created);
        let scrape = Arc::clone(scrape);
        let render = move || {
            let _scrape = scrape;
            // Rendered while this one waited for its turn.
            if let Some(answer) = &*cell.borrow() {
                return Ok(Arc::clone(answer));
            }
            let answer = Arc::new(render(reading, &exporter, key, created)?);
            cell.send_replace(Some(Arc::clone(&answer)));
            Ok(answer)
        };
        turn.run(render).await
    }

    /// Returns the place of an answer, which is not kept if the reading is not the newest.
    fn cell(self: &Arc<Self>, snapshot: &Arc<Snapshot>, key: Key) -> Cell {
        let mut kept = self.kept();
        let kept = &mut *kept;
        let is_same = kept.reading.as_ref().is_some_and(|reading| Arc::ptr_eq(reading, snapshot));
        if !is_same {
            if kept.reading.as_ref().is_some_and(|reading| reading.taken_at > snapshot.taken_at) {
                return Cell::default();
            }
            kept.answers.clear();
            kept.reading = Some(Arc::clone(snapshot));
        }
        kept.used = Some(Instant::now());
        if !kept.expires {
            kept.expires = true;
            tokio::spawn(expire(Arc::downgrade(self)));
        }
        if kept.answers.len() >= bounds::ANSWERS && !kept.answers.contains_key(&key) {
            return Cell::default();
        }
        Arc::clone(kept.answers.entry(key).or_default())
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

fn render(reading: Reading, exporter: &Exporter, key: Key, created: bool) -> io::Result<Answer> {
    let Reading { snapshot, mut selected } = reading;
    let mut plain = 0;
    let mut write = |out: &mut dyn Write| match key.content {
        AnswerContent::Snapshot => json_stream::write(&snapshot, out),
        AnswerContent::Metrics(format, collectors) => {
            selected.metrics = collectors.restrict(&selected.metrics);
            let sample = selected.sample(Some(exporter));
            match format {
                Format::Text => prometheus::write(sample, prometheus::Format::Text, out),
                Format::OpenMetrics if created => {
                    prometheus::write(sample, prometheus::Format::OpenMetricsCreated, out)
                }
                Format::OpenMetrics => prometheus::write(sample, prometheus::Format::OpenMetrics, out),
                Format::Protobuf => protobuf::write(sample, out),
            }
        }
    };
    let stored = if key.is_zstd {
        let mut encoder = zstd::stream::write::Encoder::new(Store::default(), 1)?;
        write(&mut Counted { out: &mut encoder, bytes: &mut plain })?;
        encoder.finish()?
    } else {
        let mut encoder = GzEncoder::new(Store::default(), Compression::fast());
        write(&mut Counted { out: &mut encoder, bytes: &mut plain })?;
        encoder.finish()?
    };
    Ok(Answer { pieces: stored.finish(), plain })
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
