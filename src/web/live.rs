//! What the page and its API show: the last two readings, and the history of some values. Entry point: [`Live::view`].
//!
//! All of it is kept up only while somebody looks: a request for rows or an object starts it, and it ends, and is freed, some time
//! after the last one.
//! Readings that scrapes and pushes take are used as well.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval_at};

use super::api::parameters::TableQuery;
use super::bounds;
use super::history::History;
use crate::metrics::columns::{Filter, SnapshotPair, Sort, Table, TableKind};
use crate::model::Snapshot;
use crate::source::Source;
use crate::worker::Worker;

/// How often readings and samples are taken, and how long after the last request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Age at which a reading is too old for a request.
    pub(super) poll: Duration,
    /// Time between two samples of the history.
    pub(super) sample: Duration,
    /// How long a request keeps it going.
    pub(super) watched: Duration,
}

impl Pace {
    /// That of the program.
    pub(super) const DEFAULT: Self =
        Self { poll: bounds::PAGE_POLL, sample: bounds::PAGE_SAMPLE, watched: bounds::PAGE_WATCHED };
}

/// The readings for the page.
pub(super) struct Live {
    source: Source,
    /// The thread on which samples are made.
    worker: Worker,
    pace: Pace,
    /// Distinguishes this process from an earlier one.
    run: u64,
    state: Mutex<LiveState>,
}

#[derive(Default)]
struct LiveState {
    /// The last request of somebody who looks.
    last_request: Option<Instant>,
    /// Number of the last view.
    number: u64,
    /// The newest view, and the history; `None` while nobody looks.
    kept: Option<KeptViews>,
}

struct KeptViews {
    view: Option<Arc<View>>,
    history: Arc<SharedHistory>,
}

/// The history of all views.
struct SharedHistory {
    /// Locked while a sample is taken, which is no time to wait for in a task: only the threads of samples and of rendering lock it.
    values: Mutex<History>,
    /// The number of samples, for tasks.
    samples: AtomicUsize,
}

impl SharedHistory {
    fn new() -> Arc<Self> {
        Arc::new(Self { values: Mutex::new(History::new()), samples: AtomicUsize::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is shown at one moment.
pub(super) struct View {
    number: u64,
    pair: SnapshotPair,
    history: Arc<SharedHistory>,
    /// Orders of rows that were shown last, the newest at the end.
    orders: Mutex<Vec<(Order, Arc<[u32]>)>>,
}

/// Which rows in which order.
#[derive(Clone, Debug, PartialEq)]
struct Order {
    kind: TableKind,
    sort: Sort,
    filter: String,
    own: bool,
}

impl Live {
    pub(super) fn new(source: Source, worker: Worker, pace: Pace) -> Arc<Self> {
        let run = RandomState::new().hash_one(0);
        Arc::new(Self { source, worker, pace, run, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, LiveState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what to show now to somebody who looks, for whom readings and samples go on: a reading that is not too old, and the
    /// one before it.
    pub(super) async fn view(self: &Arc<Self>) -> Arc<View> {
        self.note_request();
        self.view_once().await
    }

    /// Returns the same, and starts nothing.
    pub(super) async fn view_once(&self) -> Arc<View> {
        // The last reading of others, if nothing is kept: so that there are rates at once.
        let is_first = self.state().kept.as_ref().is_none_or(|kept| kept.view.is_none());
        let before = if is_first { self.source.last().await.map(|last| last.snapshot) } else { None };
        self.read(self.pace.poll, before).await
    }

    /// Returns a tag of what a view shows, which is another one as soon as something of it has changed.
    pub(super) fn tag(&self, view: &View) -> String {
        let samples = view.history.samples.load(Ordering::Relaxed);
        format!("W/\"{:016x}-{}-{samples}\"", self.run, view.number)
    }

    /// Notes a request. The first one starts everything.
    fn note_request(self: &Arc<Self>) {
        let mut state = self.state();
        state.last_request = Some(Instant::now());
        if state.kept.is_none() {
            state.kept = Some(KeptViews { view: None, history: SharedHistory::new() });
            tokio::spawn(keep(Arc::downgrade(self), self.pace.sample));
        }
    }

    /// Returns a view of a reading that is at most this old.
    async fn read(&self, age: Duration, before: Option<Arc<Snapshot>>) -> Arc<View> {
        let reading = self.source.begun_since(Instant::now().checked_sub(age)).await;
        self.view_of(reading.snapshot, before)
    }

    /// Returns the view of a snapshot: the newest one if it is not newer. `before` is the reading before the first one.
    fn view_of(&self, snapshot: Arc<Snapshot>, before: Option<Arc<Snapshot>>) -> Arc<View> {
        let mut state = self.state();
        let last = state.kept.as_ref().and_then(|kept| kept.view.clone());
        let pair = match last {
            Some(last) if last.snapshot().taken_at >= snapshot.taken_at => return last,
            Some(last) => last.pair.followed_by(snapshot),
            None => SnapshotPair::new(snapshot, before),
        };
        state.number += 1;
        let history = state.kept.as_ref().map(|kept| Arc::clone(&kept.history));
        let view = Arc::new(View {
            number: state.number,
            pair,
            history: history.unwrap_or_else(SharedHistory::new),
            orders: Mutex::default(),
        });
        if let Some(kept) = &mut state.kept {
            kept.view = Some(Arc::clone(&view));
        }
        view
    }

    /// Frees everything if there was no request for some time, and returns whether it did.
    fn free_if_unused(&self) -> bool {
        let mut state = self.state();
        let is_unused = state.last_request.is_none_or(|request| request.elapsed() > self.pace.watched);
        if is_unused {
            state.kept = None;
        }
        is_unused
    }
}

/// Returns the number of a sample, which is how many whole periods have passed, and how many were missed since the last one.
fn number(elapsed: Duration, period: Duration, last: usize) -> (usize, usize) {
    let number = usize::try_from(elapsed.as_nanos() / period.as_nanos()).unwrap_or(usize::MAX);
    (number, number.saturating_sub(last + 1))
}

/// Takes a sample in each period until there was no request for some time. A period that a slow reading took has none.
async fn keep(live: Weak<Live>, period: Duration) {
    let began = tokio::time::Instant::now();
    let mut ticks = interval_at(began + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last = 0;
    loop {
        ticks.tick().await;
        let missed;
        (last, missed) = number(began.elapsed(), period, last);
        let Some(live) = live.upgrade().filter(|live| !live.free_if_unused()) else { return };
        // The reading of the sample before is a period old.
        let view = live.read(period / 2, None).await;
        let turn = live.worker.turn().await;
        turn.run(move || view.take_sample(missed)).await;
    }
}

impl View {
    /// Returns a table; `None` if it could not be read.
    pub(super) fn table(&self, kind: TableKind) -> Option<Table<'_>> {
        self.pair.table(kind)
    }

    /// Returns the reading.
    pub(super) const fn snapshot(&self) -> &Arc<Snapshot> {
        self.pair.now()
    }

    /// Adds a sample to the history, after as many that were missed.
    fn take_sample(&self, missed: usize) {
        let mut history = self.history();
        history.miss(missed);
        history.record(|kind| self.table(kind));
        self.history.samples.store(history.samples(), Ordering::Relaxed);
    }

    /// Returns how many rows each table has that could be read.
    pub(super) fn counts(&self) -> impl Iterator<Item = (TableKind, usize)> {
        TableKind::ALL.into_iter().filter_map(|kind| Some((kind, self.table(kind)?.len())))
    }

    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock()
    }

    /// Returns the rows of a table that a query selects, in its order, and that order. The last orders are kept: to scroll is cheap.
    pub(super) fn select(&self, table: &Table<'_>, query: &TableQuery) -> (Sort, Arc<[u32]>) {
        let sort = query.sort.unwrap_or_else(|| table.default_sort());
        let order = Order { kind: query.kind, sort, filter: query.filter.clone(), own: query.own };
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = orders.iter().position(|(known, _)| *known == order) {
            let known = orders.remove(at);
            let rows = Arc::clone(&known.1);
            orders.push(known);
            return (sort, rows);
        }
        let filter = Filter::parse(&query.filter);
        let filter = if query.own { filter } else { filter.without_own() };
        let rows = table.select(&filter, sort).into_iter().map(|row| u32::try_from(row).unwrap_or(u32::MAX));
        let rows: Arc<[u32]> = rows.collect();
        if orders.len() >= bounds::PAGE_ORDERS {
            orders.remove(0);
        }
        orders.push((order, Arc::clone(&rows)));
        (sort, rows)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;
    use crate::metrics::select::Selected;
    use crate::model::{BootTime, Build, Exporter, RunStats};

    const SHORT: Pace = Pace {
        poll: Duration::from_millis(20),
        sample: Duration::from_millis(50),
        watched: Duration::from_millis(300),
    };

    /// The same, for as long as a test takes.
    const WATCHED: Pace = Pace { watched: Duration::from_mins(5), ..SHORT };

    fn golden() -> Snapshot {
        serde_json::from_str(include_str!("../../tests/golden/node/snapshot.json")).expect("it is a snapshot")
    }

    /// A source of the golden snapshot, a second later each time, and the number of its readings.
    fn source() -> (Source, Arc<AtomicUsize>) {
        slow_source(Duration::ZERO)
    }

    /// The same, with readings that take this time.
    fn slow_source(takes: Duration) -> (Source, Arc<AtomicUsize>) {
        let readings = Arc::new(AtomicUsize::new(0));
        let (counted, seconds) = (Arc::clone(&readings), AtomicU64::new(0));
        let golden = golden();
        let read = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            thread::sleep(takes);
            let later = Duration::from_secs(seconds.fetch_add(1, Ordering::Relaxed));
            let taken_at =
                BootTime(golden.taken_at.0 + u64::try_from(later.as_nanos()).expect("a short time"));
            let run_stats = RunStats { covered: later, ..golden.run_stats };
            Snapshot { taken_at, run_stats, ..golden.clone() }
        };
        let build = Build { started_at: BootTime::default(), version: "", revision: None, rustc: None };
        let exporter = move || Exporter::of(build.clone());
        let worker = Worker::start("reading").expect("a thread");
        (Source::new(worker, read, Selected::all, exporter), readings)
    }

    fn live(source: &Source) -> Arc<Live> {
        Live::new(source.clone(), Worker::start("rendering").expect("a thread"), SHORT)
    }

    #[tokio::test]
    async fn nothing_runs_and_nothing_is_kept_while_nobody_looks() {
        let (source, readings) = source();
        let live = live(&source);
        tokio::time::sleep(SHORT.watched).await;
        assert_eq!(readings.load(Ordering::Relaxed), 0, "there was no request yet");
        let view = live.view().await;
        let snapshot = Arc::downgrade(view.snapshot());
        let history = Arc::downgrade(&view.history);
        drop(view);
        tokio::time::sleep(SHORT.watched / 2).await;
        assert!(readings.load(Ordering::Relaxed) >= 2, "somebody looks");
        assert!(history.upgrade().is_some_and(|history| history.lock().samples() > 0));
        tokio::time::sleep(SHORT.watched * 2).await;
        let read = readings.load(Ordering::Relaxed);
        tokio::time::sleep(SHORT.watched).await;
        assert_eq!(readings.load(Ordering::Relaxed), read, "nobody looks any more");
        assert!(live.state().kept.is_none() && history.upgrade().is_none(), "the memory is free");
        assert!(snapshot.upgrade().is_none());
        assert!(live.view().await.history().series() == 0, "it starts again");
    }

    #[tokio::test]
    async fn readings_of_others_are_used_and_give_rates_at_once() {
        let (source, readings) = source();
        source.latest().await;
        tokio::time::sleep(SHORT.poll * 2).await;
        let live = live(&source);
        let first = live.view().await;
        assert_eq!(readings.load(Ordering::Relaxed), 2);
        let table = first.table(TableKind::Programs).expect("it is there");
        assert_eq!(table.period().map(|period| period.elapsed), Some(Duration::from_secs(1)));
        let scraped = source.begun_since(Some(Instant::now())).await;
        let second = live.view().await;
        assert!(Arc::ptr_eq(second.snapshot(), &scraped.snapshot), "it was taken for a scrape");
        assert_ne!(live.tag(&first), live.tag(&second));
        let again = live.view().await;
        assert!(Arc::ptr_eq(&second, &again));
    }

    #[tokio::test]
    async fn readings_right_after_one_another_have_rates_since_the_one_before() {
        let (source, _) = source();
        let live = live(&source);
        live.note_request();
        let at = |milliseconds: u64| {
            let golden = golden();
            Arc::new(Snapshot { taken_at: BootTime(golden.taken_at.0 + milliseconds * 1_000_000), ..golden })
        };
        let period = |view: &View| {
            let table = view.table(TableKind::Maps).expect("it is there");
            table.period().map(|period| period.elapsed.as_millis())
        };
        assert_eq!(period(&live.view_of(at(0), None)), None);
        assert_eq!(period(&live.view_of(at(2000), None)), Some(2000));
        assert_eq!(period(&live.view_of(at(2100), None)), Some(2100));
        assert_eq!(period(&live.view_of(at(1000), None)), Some(2100), "an older one is not shown");
        assert_eq!(period(&live.view_of(at(4000), None)), Some(1900));
    }

    #[test]
    fn samples_are_a_period_apart_and_missed_ones_are_counted() {
        let samples = |milliseconds: &[u64]| {
            let mut last = 0;
            let each = milliseconds.iter().map(|&elapsed| {
                let missed;
                (last, missed) = number(Duration::from_millis(elapsed), SHORT.sample, last);
                (last, missed)
            });
            each.collect::<Vec<_>>()
        };
        assert_eq!(samples(&[50, 100, 150]), [(1, 0), (2, 0), (3, 0)]);
        assert_eq!(samples(&[99, 101, 199]), [(1, 0), (2, 0), (3, 0)], "each is late");
        assert_eq!(samples(&[51, 212, 262]), [(1, 0), (4, 2), (5, 0)], "a reading took three periods");
    }

    #[tokio::test]
    async fn a_missed_sample_is_a_gap() {
        let (source, _) = slow_source(SHORT.sample * 5 / 2);
        let live = Live::new(source, Worker::start("rendering").expect("a thread"), WATCHED);
        let began = Instant::now();
        let view = live.view().await;
        let deadline = began + Duration::from_mins(1);
        while view.history().samples() < 8 && Instant::now() < deadline {
            tokio::time::sleep(SHORT.sample).await;
        }
        let history = view.history();
        let (periods, _) = number(began.elapsed(), SHORT.sample, 0);
        assert!((8..=periods).contains(&history.samples()), "{} in {periods} periods", history.samples());
        let table = view.table(TableKind::Maps).expect("it is there");
        let column = table.column("fill_ratio").expect("it is there");
        let filled =
            (0..table.len()).find(|&row| table.cell(row, column).is_known()).expect("one has a fill");
        let points = history.of(TableKind::Maps, "fill_ratio", &table.key(filled)).expect("it has a history");
        let known = points.iter().flatten().count();
        // A reading takes longer than two periods, so that at least one is missed in between.
        assert!((1..=history.samples().div_ceil(2)).contains(&known), "{points:?}");
    }

    #[tokio::test]
    async fn no_task_waits_for_a_sample() {
        let (source, _) = source();
        // So that the test takes the only sample.
        let pace = Pace { sample: Duration::from_hours(1), ..WATCHED };
        let live = Live::new(source, Worker::start("rendering").expect("a thread"), pace);
        let view = live.view().await;
        let sampling = view.history();
        let (sender, tags) = channel();
        thread::scope(|scope| {
            scope.spawn(|| sender.send(live.tag(&view)));
            let tag = tags.recv_timeout(Duration::from_secs(5));
            drop(sampling);
            assert!(tag.is_ok(), "it waited");
        });
        let before = live.tag(&view);
        view.take_sample(2);
        assert_ne!(live.tag(&view), before, "there is something new");
        assert_eq!(view.history().samples(), 3);
    }

    #[tokio::test]
    async fn orders_are_kept_and_bounded() {
        let (source, _) = source();
        let view = live(&source).view().await;
        let table = view.table(TableKind::Maps).expect("it is there");
        let query =
            |filter: &str| TableQuery { filter: filter.to_owned(), ..TableQuery::of(TableKind::Maps) };
        let (sort, all) = view.select(&table, &query(""));
        assert_eq!((sort, all.len()), (table.default_sort(), table.len()));
        assert!(Arc::ptr_eq(&all, &view.select(&table, &query("")).1));
        for number in 0..bounds::PAGE_ORDERS {
            view.select(&table, &query(&number.to_string()));
        }
        assert_eq!(view.orders.lock().expect("no panic").len(), bounds::PAGE_ORDERS);
        assert!(!Arc::ptr_eq(&all, &view.select(&table, &query("")).1));
    }
}
