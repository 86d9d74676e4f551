//! What the screen is about: readings, the tab, order, filter, cursor, details. Entry points: [`State::handle`] for input and
//! [`State::receive`] for news.
//!
//! A pure value: time is given to it, and it knows neither the terminal nor where readings come from. Rows are sorted and filtered once
//! for each reading and each change of order or filter, in `O(n log n)`; moving the cursor and drawing cost only what is shown.

mod details;
mod event_log;
mod history;
mod input;
mod key;
mod list;
mod rows;
mod summary;
mod tab;
mod tree;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

pub use self::details::{Details, Linked};
pub use self::event_log::{EVENTS_KEPT, EventLog};
pub use self::history::{HISTORIES_OF_TABLE, History, MAX_HISTORIES, MEASURES, Measure, POINTS, Points};
pub use self::input::{Flow, Input, Target};
pub use self::key::Key;
pub use self::list::List;
pub use self::rows::{OfTable, Rows};
pub use self::summary::Summary;
pub use self::tab::Tab;
pub use self::tree::Node;
use super::source::Update;
use crate::metrics::columns::{Cell, RowKey, SnapshotPair, Table, TableKind};
use crate::model::{Kind, Object, OwnerKind, RunStats, Snapshot};

/// Where readings come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This host.
    Host,
    /// A recording, with its name.
    Recording(String),
    /// Another exporter, with its URL.
    Exporter(String),
}

/// Everything that the screen is about.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own that a key turns")]
pub struct State {
    /// Another one as soon as something else is to be drawn.
    revision: u64,
    origin: Origin,
    every: Duration,
    readings: Option<SnapshotPair>,
    summary: Summary,
    /// When the last reading arrived, and since when one is being taken.
    read_at: Option<Duration>,
    reading_since: Option<Duration>,
    failure: Option<String>,
    has_ended: bool,
    /// A reading that arrived during a pause.
    held: Option<(Duration, Arc<Snapshot>)>,
    is_paused: bool,
    tab: Tab,
    lists: [List; Tab::ALL.len()],
    rows: Rows,
    page: usize,
    filter: String,
    is_typing: bool,
    shows_own: bool,
    is_tree: bool,
    collapsed: HashSet<Key>,
    shows_help: bool,
    details: Vec<Details>,
    history: History,
    events: EventLog,
}

impl State {
    /// Returns the state before the first reading.
    #[must_use]
    pub fn new(origin: Origin, every: Duration) -> Self {
        Self {
            revision: 0,
            origin,
            every,
            readings: None,
            summary: Summary::default(),
            read_at: None,
            reading_since: None,
            failure: None,
            has_ended: false,
            held: None,
            is_paused: false,
            tab: Tab::ALL[0],
            lists: std::array::from_fn(|_| List::default()),
            rows: Rows::Unknown,
            page: 1,
            filter: String::new(),
            is_typing: false,
            shows_own: true,
            is_tree: false,
            collapsed: HashSet::new(),
            shows_help: false,
            details: Vec::new(),
            history: History::default(),
            events: EventLog::default(),
        }
    }

    /// Takes news, at a time since the start.
    pub fn receive(&mut self, at: Duration, update: Update) {
        let is_hidden = match update {
            // It may be seen by the age of the last reading.
            Update::Began => true,
            Update::Happened(..) => self.tab != Tab::Events,
            Update::Read(_) => self.is_paused && self.failure.is_none(),
            Update::Failed(_) | Update::Ended => false,
        };
        self.revision += u64::from(!is_hidden);
        match update {
            Update::Began => self.reading_since = Some(at),
            Update::Read(snapshot) => {
                (self.reading_since, self.failure) = (None, None);
                if self.is_paused {
                    self.held = Some((at, snapshot));
                } else {
                    self.read(at, snapshot);
                }
            }
            Update::Happened(events, missed) => {
                self.events.add(events, missed);
                if self.tab == Tab::Events && !self.is_paused {
                    self.select();
                }
            }
            Update::Failed(reason) => (self.reading_since, self.failure) = (None, Some(reason)),
            Update::Ended => (self.reading_since, self.has_ended) = (None, true),
        }
    }

    fn read(&mut self, at: Duration, snapshot: Arc<Snapshot>) {
        let is_of_boot = |readings: &mut SnapshotPair| snapshot.is_of_boot_of(readings.now());
        let readings = if let Some(last) = self.readings.take_if(is_of_boot) {
            last.followed_by(snapshot)
        } else {
            if self.readings.is_some() {
                self.forget();
            }
            SnapshotPair::new(snapshot, None)
        };
        self.read_at = Some(at);
        self.summary = Summary::of(&readings);
        let details = self.details.iter().map(|details| &details.key);
        self.history.read(&readings, &details.collect::<Vec<_>>());
        for details in &mut self.details {
            details.read(&readings);
        }
        self.readings = Some(readings);
        self.select();
    }

    /// Forgets what is known of another boot: everything with the same id is something else now, and times are since another moment.
    fn forget(&mut self) {
        self.history = History::default();
        self.events = EventLog::default();
        self.details.clear();
        self.collapsed.clear();
        for list in &mut self.lists {
            list.return_to_top();
        }
    }

    fn list_mut(&mut self) -> &mut List {
        &mut self.lists[self.tab.position()]
    }

    /// Sets how many rows of a list are shown.
    pub fn set_page(&mut self, rows: usize) {
        if self.page != rows.max(1) {
            self.page = rows.max(1);
            self.revision += 1;
            self.move_by(0);
        }
    }

    /// Sets which line of the details is the first one on the screen, so that scrolling begins there.
    pub fn set_first_line(&mut self, shown: Option<usize>) {
        if let Some((details, line)) = self.details.last_mut().zip(shown) {
            details.scroll = line;
        }
    }

    /// Returns the table of the tab; `None` without one, or without a reading of it.
    #[must_use]
    pub fn table(&self) -> Option<Table<'_>> {
        match self.tab {
            Tab::Table(kind) => self.readings.as_ref()?.table(kind),
            Tab::Events => None,
        }
    }

    /// Returns the cursor and what goes with it, of the tab.
    #[must_use]
    pub fn list(&self) -> &List {
        &self.lists[self.tab.position()]
    }

    /// Returns what is in the list of the tab.
    #[must_use]
    pub const fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Returns the tab.
    #[must_use]
    pub const fn tab(&self) -> Tab {
        self.tab
    }

    /// Returns whether the list is the tree of owners.
    #[must_use]
    pub fn shows_tree(&self) -> bool {
        self.is_tree && self.tab == Tab::Table(TableKind::Owners)
    }

    /// Returns whether the objects of a node are hidden.
    #[must_use]
    pub fn is_collapsed(&self, node: &Node) -> bool {
        self.collapsed.contains(&node.key)
    }

    /// Returns the last reading, and the one that rates are since.
    #[must_use]
    pub const fn readings(&self) -> Option<&SnapshotPair> {
        self.readings.as_ref()
    }

    /// Returns sums over everything.
    #[must_use]
    pub const fn summary(&self) -> Summary {
        self.summary
    }

    /// Returns the open details.
    #[must_use]
    pub fn details(&self) -> Option<&Details> {
        self.details.last()
    }

    /// Returns what was measured.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Returns the events.
    #[must_use]
    pub const fn events(&self) -> &EventLog {
        &self.events
    }

    /// Returns the filter, and whether it is being typed.
    #[must_use]
    pub fn filter(&self) -> (&str, bool) {
        (&self.filter, self.is_typing)
    }

    /// Returns whether help is shown.
    #[must_use]
    pub const fn shows_help(&self) -> bool {
        self.shows_help
    }

    /// Returns whether objects of the exporter itself are shown.
    #[must_use]
    pub const fn shows_own(&self) -> bool {
        self.shows_own
    }

    /// Returns whether readings pause.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Returns a number that changes when something else is to be drawn, apart from ages.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns where readings come from, and in which interval.
    #[must_use]
    pub const fn origin(&self) -> (&Origin, Duration) {
        (&self.origin, self.every)
    }

    /// Returns whether there is no further reading.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns why the last reading failed.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Returns the age of the last reading, and for how long one is being taken, at a time since the start.
    #[must_use]
    pub fn ages(&self, now: Duration) -> (Option<Duration>, Option<Duration>) {
        let since = |time: Option<Duration>| time.map(|time| now.saturating_sub(time));
        (since(self.read_at), since(self.reading_since))
    }

    /// Returns the run statistics of the last reading.
    #[must_use]
    pub fn run_stats(&self) -> Option<RunStats> {
        self.readings.as_ref().map(|readings| readings.now().run_stats)
    }
}

/// Returns the table that has a row of a key.
fn table_of(key: &RowKey) -> TableKind {
    match key {
        RowKey::Object(Object { kind: Kind::Program, .. }) => TableKind::Programs,
        RowKey::Object(Object { kind: Kind::Map, .. }) => TableKind::Maps,
        RowKey::Object(Object { kind: Kind::Link, .. }) => TableKind::Links,
        RowKey::Object(Object { kind: Kind::Btf, .. }) => TableKind::Btfs,
        RowKey::Owner(..) => TableKind::Owners,
        RowKey::Hook(_) => TableKind::Hooks,
    }
}

/// Returns the owner of a row, from its table's columns.
fn owner_of(table: &Table<'_>, row: usize) -> Option<RowKey> {
    let text = |field| match table.cell(row, table.column(field)?) {
        Cell::Text(text) => Some(text.into_owned()),
        _ => None,
    };
    let kind = text("owner_kind")?;
    let kind = OwnerKind::ALL.into_iter().find(|each| each.as_str() == kind)?;
    Some(RowKey::Owner(kind, text("owner")?))
}
