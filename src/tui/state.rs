//! What the screen is about: readings, the tab, order, filter, cursor, details. Entry points: [`State::handle`] for input and
//! [`State::receive`] for news.
//!
//! A pure value: time is given to it, and it knows neither the terminal nor where readings come from. Rows are sorted and filtered once
//! for each reading and each change of order or filter, in `O(n log n)`; moving the cursor and drawing cost only what is shown.

mod details;
mod event_log;
mod history;
mod list;
mod tree;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

pub use self::details::{Details, Linked};
pub use self::event_log::{EVENTS_KEPT, EventLog};
pub use self::history::{HISTORIES_OF_TABLE, History, MAX_HISTORIES, MEASURES, Measure, POINTS, Points};
pub use self::list::List;
pub use self::tree::Node;
use super::source::Update;
use crate::metrics::columns::{Cell, Column, Filter, RowKey, SnapshotPair, Sort, Table, TableKind};
use crate::metrics::overview::totals;
use crate::model::{Kind, Object, OwnerKind, RunStats, Snapshot};

/// The longest filter, in characters.
const MAX_FILTER: usize = 200;

/// How many details are open above each other at most; the oldest are forgotten first.
const MAX_DEPTH: usize = 50;

/// A part of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// A table.
    Table(TableKind),
    /// What happened.
    Events,
}

impl Tab {
    /// Every tab, in the order of their digits.
    pub const ALL: [Self; 8] = [
        Self::Table(TableKind::Programs),
        Self::Table(TableKind::Maps),
        Self::Table(TableKind::Links),
        Self::Table(TableKind::Owners),
        Self::Table(TableKind::Hooks),
        Self::Table(TableKind::Orphans),
        Self::Table(TableKind::Btfs),
        Self::Events,
    ];

    /// Returns its heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Table(TableKind::Btfs) => "BTF",
            Self::Table(kind) => kind.title(),
            Self::Events => "Events",
        }
    }

    fn position(self) -> usize {
        Self::ALL.iter().position(|&tab| tab == self).expect("every tab is in the list")
    }
}

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

/// What a user does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A printable key.
    Char(char),
    /// The key of this name.
    Up,
    /// Likewise.
    Down,
    /// Likewise.
    Left,
    /// Likewise.
    Right,
    /// Likewise.
    PageUp,
    /// Likewise.
    PageDown,
    /// Likewise.
    Home,
    /// Likewise.
    End,
    /// Likewise.
    Tab,
    /// Tab with shift.
    BackTab,
    /// Likewise.
    Enter,
    /// Likewise.
    Escape,
    /// Likewise.
    Backspace,
    /// Ctrl-C.
    Interrupt,
    /// A click on something.
    Click(Target),
    /// The wheel, in rows; negative for upwards.
    Wheel(isize),
}

/// What the mouse is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The heading of a tab.
    Tab(Tab),
    /// The heading of a column, by its field.
    Heading(&'static str),
    /// A row, by its position in the list.
    Row(usize),
}

/// Whether the program goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Continue,
    /// It ends.
    Quit,
}

/// The rows of a table that are in the list, and what about the table is found out once for each reading.
#[derive(Clone, Debug, PartialEq)]
pub struct OfTable {
    /// Rows by their positions in the table, in the order of the list.
    pub rows: Vec<usize>,
    /// The order.
    pub sort: Sort,
    /// Rows of the table.
    pub total: usize,
    /// Every column.
    pub columns: Vec<Column>,
    /// The positions of the columns that have a value in some row.
    pub known: Vec<usize>,
}

/// What is in the list of the tab.
#[derive(Clone, Debug, PartialEq)]
pub enum Rows {
    /// Nothing yet, or the kernel refuses this table.
    Unknown,
    /// Rows of the table.
    Table(OfTable),
    /// Owners and their objects.
    Tree(Vec<Node>),
    /// Events, by their numbers in the log.
    Events(Vec<u64>),
}

impl Rows {
    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Unknown => 0,
            Self::Table(OfTable { rows, .. }) => rows.len(),
            Self::Events(numbers) => numbers.len(),
            Self::Tree(nodes) => nodes.len(),
        }
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Identity of a row of a list over readings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// An object, an owner or an attachment.
    Row(RowKey),
    /// What has no owner.
    Unowned,
    /// An event, by its number in the log.
    Event(u64),
}

/// Sums over everything that a reading found, whatever is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// CPU time of all programs per time; `None` without rates.
    pub cpu: Option<f64>,
    /// Runs of all programs per second; `None` without rates.
    pub runs: Option<f64>,
    /// Memory of all programs and maps; `None` if none of it is known.
    pub mem: Option<u64>,
}

/// Everything that the screen is about.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own that a key turns")]
pub struct State {
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
            // After another boot, everything with the same id is something else.
            self.history = History::default();
            self.details.clear();
            SnapshotPair::new(snapshot, None)
        };
        self.read_at = Some(at);
        self.summary = summary(&readings);
        let details = self.details.iter().map(|details| &details.key);
        self.history.read(&readings, &details.collect::<Vec<_>>());
        for details in &mut self.details {
            details.read(&readings);
        }
        self.readings = Some(readings);
        self.select();
    }

    /// Takes input.
    pub fn handle(&mut self, input: Input) -> Flow {
        if input == Input::Interrupt {
            return Flow::Quit;
        }
        if self.is_typing && self.type_filter(&input) {
            return Flow::Continue;
        }
        if self.shows_help {
            self.shows_help = false;
            return if input == Input::Char('q') { Flow::Quit } else { Flow::Continue };
        }
        match input {
            Input::Char('q') => return Flow::Quit,
            Input::Char('?') => self.shows_help = true,
            Input::Char('p' | ' ') => self.pause(),
            Input::Char(digit @ '1'..='8') => self.open_tab(Tab::ALL[digit as usize - '1' as usize]),
            Input::Click(Target::Tab(tab)) => self.open_tab(tab),
            input if !self.details.is_empty() => self.handle_in_details(&input),
            input => self.handle_in_list(&input),
        }
        Flow::Continue
    }

    fn handle_in_list(&mut self, input: &Input) {
        let page = self.page.try_into().unwrap_or(isize::MAX);
        match input {
            Input::Up => self.move_by(-1),
            Input::Down => self.move_by(1),
            Input::PageUp => self.move_by(-page),
            Input::PageDown => self.move_by(page),
            Input::Home => self.move_by(isize::MIN),
            Input::End => self.move_by(isize::MAX),
            Input::Wheel(rows) => self.move_by(*rows),
            Input::Left | Input::Right if self.shows_tree() => self.expand(*input == Input::Right),
            Input::Left => self.list_mut().shift_left(),
            Input::Right => self.shift_right(),
            Input::Tab => self.turn(1),
            Input::BackTab => self.turn(Tab::ALL.len() - 1),
            Input::Enter => self.open_details(),
            Input::Escape => self.set_filter(String::new()),
            Input::Click(Target::Row(row)) => self.click(*row),
            Input::Click(Target::Heading(field)) => self.sort_by_heading(field),
            Input::Char('/') => self.is_typing = true,
            Input::Char('s' | '>') => self.sort_by_next(true),
            Input::Char('S' | '<') => self.sort_by_next(false),
            Input::Char('r') => self.reverse(),
            Input::Char('o') => {
                self.shows_own = !self.shows_own;
                self.select();
            }
            Input::Char('t') => self.toggle_tree(),
            _ => {}
        }
    }

    fn handle_in_details(&mut self, input: &Input) {
        let Some(details) = self.details.last_mut() else { return };
        let page = self.page;
        match input {
            Input::Escape | Input::Backspace => {
                self.details.pop();
            }
            Input::Up => details.scroll_to(details.scroll.saturating_sub(1)),
            Input::Down => details.scroll_to(details.scroll.saturating_add(1)),
            Input::PageUp => details.scroll_to(details.scroll.saturating_sub(page)),
            Input::PageDown => details.scroll_to(details.scroll.saturating_add(page)),
            Input::Home => details.scroll_to(0),
            Input::End => details.scroll_to(usize::MAX),
            Input::Wheel(rows) => details.scroll_to(details.scroll.saturating_add_signed(*rows)),
            Input::Tab | Input::Right => details.choose(true),
            Input::BackTab | Input::Left => details.choose(false),
            Input::Enter => {
                let chosen = details.chosen().map(|linked| linked.key.clone());
                self.open(chosen);
            }
            Input::Click(Target::Row(row)) => {
                let linked = details.linked.get(*row).map(|linked| linked.key.clone());
                self.open(linked);
            }
            _ => {}
        }
    }

    /// Handles what is typed into the filter. Returns false for what is not: the cursor can be moved meanwhile.
    fn type_filter(&mut self, input: &Input) -> bool {
        match input {
            Input::Char(character) => {
                if self.filter.chars().count() < MAX_FILTER {
                    self.set_filter(format!("{}{character}", self.filter));
                }
            }
            Input::Backspace => {
                let mut filter = self.filter.clone();
                filter.pop();
                self.set_filter(filter);
            }
            Input::Enter => self.is_typing = false,
            Input::Escape => {
                self.is_typing = false;
                self.set_filter(String::new());
            }
            Input::Tab | Input::BackTab | Input::Click(_) => {
                self.is_typing = false;
                return false;
            }
            _ => return false,
        }
        true
    }

    fn set_filter(&mut self, filter: String) {
        if self.filter != filter {
            self.filter = filter;
            self.select();
        }
    }

    fn pause(&mut self) {
        self.is_paused = !self.is_paused;
        if !self.is_paused {
            match self.held.take() {
                Some((at, snapshot)) => self.read(at, snapshot),
                None => self.select(),
            }
        }
    }

    fn open_tab(&mut self, tab: Tab) {
        self.details.clear();
        if self.tab != tab {
            self.tab = tab;
            self.select();
        }
    }

    fn turn(&mut self, by: usize) {
        self.open_tab(Tab::ALL[(self.tab.position() + by) % Tab::ALL.len()]);
    }

    fn toggle_tree(&mut self) {
        let owners = Tab::Table(TableKind::Owners);
        self.is_tree = self.tab != owners || !self.is_tree;
        self.tab = owners;
        // The same place in a tree is another one.
        self.lists[owners.position()].return_to_top();
        self.select();
    }

    /// Shows the objects of an owner or hides them. From an object, hiding leads to its owner.
    fn expand(&mut self, is_expanded: bool) {
        let Rows::Tree(nodes) = &self.rows else { return };
        let position = self.list().position();
        let Some(node) = nodes.get(position) else { return };
        if node.depth > 0 {
            let owner = nodes[..position].iter().rposition(|node| node.depth == 0);
            if let Some(owner) = owner.filter(|_| !is_expanded) {
                self.move_to(owner);
            }
            return;
        }
        let Some(key) = self.key(position) else { return };
        if is_expanded {
            self.collapsed.remove(&key);
        } else {
            self.collapsed.insert(key);
        }
        self.select();
    }

    fn move_by(&mut self, rows: isize) {
        self.move_to(self.list().position().saturating_add_signed(rows));
    }

    fn move_to(&mut self, position: usize) {
        let (count, page) = (self.rows.len(), self.page);
        let position = position.min(count.saturating_sub(1));
        let key = self.key(position);
        self.list_mut().move_to(position, key, count, page);
    }

    fn click(&mut self, row: usize) {
        if row >= self.rows.len() {
            return;
        }
        if self.list().position() == row {
            self.open_details();
        } else {
            self.move_to(row);
        }
    }

    fn shift_right(&mut self) {
        let Rows::Table(OfTable { known, .. }) = &self.rows else { return };
        let most = known.len().saturating_sub(1);
        self.list_mut().shift_right(most);
    }

    fn sort_by_heading(&mut self, field: &'static str) {
        let Rows::Table(OfTable { columns, sort, .. }) = &self.rows else { return };
        let Some(position) = columns.iter().position(|column| column.field == field) else { return };
        let descending =
            if position == sort.column { !sort.descending } else { columns[position].is_numeric };
        self.sort_by(field, descending);
    }

    fn sort_by_next(&mut self, forward: bool) {
        let Rows::Table(OfTable { columns, known, sort, .. }) = &self.rows else { return };
        if known.is_empty() {
            return;
        }
        let position = known.iter().position(|&column| column == sort.column).unwrap_or(0);
        let by = if forward { 1 } else { known.len() - 1 };
        let Column { field, is_numeric, .. } = columns[known[(position + by) % known.len()]];
        self.sort_by(field, is_numeric);
    }

    fn reverse(&mut self) {
        let Rows::Table(OfTable { columns, sort, .. }) = &self.rows else { return };
        let (field, descending) = (columns[sort.column].field, !sort.descending);
        self.sort_by(field, descending);
    }

    fn sort_by(&mut self, field: &'static str, descending: bool) {
        self.list_mut().sort = Some((field, descending));
        self.select();
    }

    fn open_details(&mut self) {
        let key = match self.key(self.list().position()) {
            Some(Key::Row(key)) => Some(key),
            Some(Key::Event(number)) => self.events.get(number).and_then(|event| {
                let (kind, id) = (event.subject.kind?, event.subject.id?);
                Some(RowKey::Object(Object { kind, id }))
            }),
            Some(Key::Unowned) | None => None,
        };
        self.open(key);
    }

    fn open(&mut self, key: Option<RowKey>) {
        let (Some(key), Some(readings)) = (key, &self.readings) else { return };
        self.history.keep(&key, readings);
        let details = Details::of(key, readings);
        if self.details.len() == MAX_DEPTH {
            self.details.remove(0);
        }
        self.details.push(details);
    }

    /// Selects and sorts the rows of the tab, and finds the row of the cursor again.
    fn select(&mut self) {
        self.rows = self.selected();
        let (count, page) = (self.rows.len(), self.page);
        let list = self.list();
        let position = match list.key() {
            // What is at the top stays there: the most expensive, or the last event.
            Some(key) if list.position() > 0 => self.position_of(key).unwrap_or(list.position()),
            _ => 0,
        };
        let position = position.min(count.saturating_sub(1));
        let key = self.key(position);
        self.list_mut().move_to(position, key, count, page);
    }

    fn selected(&self) -> Rows {
        let kind = match self.tab {
            Tab::Table(kind) => kind,
            Tab::Events => return Rows::Events(self.events.select(&self.filter)),
        };
        let Some(readings) = &self.readings else { return Rows::Unknown };
        let filter = Filter::parse(&self.filter);
        let filter = if self.shows_own { filter } else { filter.without_own() };
        if self.shows_tree() {
            return Rows::Tree(tree::select(readings, &filter, &self.collapsed));
        }
        let Some(table) = readings.table(kind) else { return Rows::Unknown };
        let columns = table.columns().to_vec();
        let known = (0..columns.len()).filter(|&column| table.has_values(column)).collect();
        let sort = self.list().order(&table);
        Rows::Table(OfTable { rows: table.select(&filter, sort), sort, total: table.len(), columns, known })
    }

    fn position_of(&self, key: &Key) -> Option<usize> {
        match (&self.rows, key) {
            (Rows::Table(OfTable { rows, .. }), Key::Row(key)) => {
                let table = self.table()?;
                rows.iter().position(|&row| table.key(row) == *key)
            }
            (Rows::Tree(nodes), key) => nodes.iter().position(|node| node.key == *key),
            (Rows::Events(numbers), Key::Event(number)) => numbers.iter().position(|each| each == number),
            _ => None,
        }
    }

    fn key(&self, position: usize) -> Option<Key> {
        match &self.rows {
            Rows::Unknown => None,
            Rows::Table(OfTable { rows, .. }) => {
                rows.get(position).and_then(|&row| Some(Key::Row(self.table()?.key(row))))
            }
            Rows::Tree(nodes) => nodes.get(position).map(|node| node.key.clone()),
            Rows::Events(numbers) => numbers.get(position).copied().map(Key::Event),
        }
    }

    fn list_mut(&mut self) -> &mut List {
        &mut self.lists[self.tab.position()]
    }

    /// Sets how many rows of a list are shown.
    pub fn set_page(&mut self, rows: usize) {
        if self.page != rows.max(1) {
            self.page = rows.max(1);
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

fn summary(readings: &SnapshotPair) -> Summary {
    // With the time of programs that were unloaded in between.
    let totals = totals(readings.now(), readings.earlier().map(|earlier| &**earlier));
    let cpu = totals.into_iter().filter_map(|total| total.cpu_ratio).reduce(|sum, ratio| sum + ratio);
    let mut summary = Summary { cpu, ..Summary::default() };
    if let Some(table) = readings.table(TableKind::Programs)
        && let Some(column) = table.column("runs_per_second")
    {
        let numbers = (0..table.len()).filter_map(|row| table.cell(row, column).number());
        summary.runs = numbers.reduce(|sum, number| sum + number);
    }
    let of_maps = readings.now().maps.iter().flatten().filter_map(|map| map.mem);
    let of_programs = readings.now().programs.iter().flatten().filter_map(|program| program.facts.mem);
    summary.mem = of_programs.chain(of_maps).reduce(u64::saturating_add);
    summary
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
