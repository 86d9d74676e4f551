//! What a user does, and what follows. Entry point: [`State::handle`].

use super::details::Details;
use super::key::Key;
use super::rows::{OfTable, Rows};
use super::{State, Tab};
use crate::metrics::columns::{Column, RowKey, TableKind};
use crate::model::Object;

/// The longest filter, in characters.
const MAX_FILTER: usize = 200;

/// How many details are open above each other at most; the oldest are forgotten first.
const MAX_DEPTH: usize = 50;

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

impl State {
    /// Takes input.
    pub fn handle(&mut self, input: Input) -> Flow {
        self.revision += 1;
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

    pub(super) fn move_by(&mut self, rows: isize) {
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
}
