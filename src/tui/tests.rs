use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{
    Event as TerminalEvent, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};
use ratatui::style::{Color, Modifier};

use super::source::Update;
use super::state::{
    EVENTS_KEPT, Flow, HISTORIES_OF_TABLE, Input, Key, MAX_HISTORIES, MEASURES, Node, OfTable, Origin,
    POINTS, Rows, State, Tab, Target,
};
use super::terminal::input;
use super::view::{Painter, Screen, Theme, draw, page};
use crate::metrics::columns::{RowKey, TableKind};
use crate::metrics::overview::totals;
use crate::model::{
    BootTime, Event, EventKind, EventSource, Kind, Map, MapFacts, Object, Program, ProgramFacts, Snapshot,
    Subject,
};
use crate::text::is_invisible;

const SECOND: Duration = Duration::from_secs(1);

/// A snapshot of a real mixture of objects.
fn golden() -> Snapshot {
    serde_json::from_str(include_str!("../../tests/golden/node/snapshot.json")).expect("it is a snapshot")
}

/// The same, later, after programs ran: id, runs, and time of each.
fn later(snapshot: &Snapshot, seconds: u64, ran: &[(u32, u64, Duration)]) -> Snapshot {
    let mut later = snapshot.clone();
    later.taken_at = BootTime(snapshot.taken_at.0 + seconds * 1_000_000_000);
    later.run_stats.covered += Duration::from_secs(seconds);
    for program in later.programs.iter_mut().flatten() {
        if let Some((_, runs, time)) = ran.iter().find(|(id, ..)| *id == program.facts.id) {
            program.runs = Some(program.runs.unwrap_or(0) + runs);
            program.run_time = Some(program.run_time.unwrap_or_default() + *time);
        }
    }
    let ran_for: Duration = ran.iter().map(|(_, _, time)| *time).sum();
    for total in &mut later.totals {
        total.run_time = total.run_time.map(|time| time + ran_for);
    }
    later
}

fn state() -> State {
    let mut state = State::new(Origin::Host, SECOND);
    state.set_page(10);
    state
}

fn read(state: &mut State, snapshot: &Snapshot) {
    state.receive(SECOND, Update::Read(Arc::new(snapshot.clone())));
}

/// A state with two readings between which program 17 ran 1000 times for 2 ms in all, and program 2 twice for 4 ms.
fn running() -> State {
    let mut state = state();
    let first = golden();
    read(&mut state, &first);
    let ran = [(17, 1000, Duration::from_millis(2)), (2, 2, Duration::from_millis(4))];
    read(&mut state, &later(&first, 1, &ran));
    state
}

fn keys(state: &mut State, keys: &str) {
    for key in keys.chars() {
        assert_eq!(state.handle(Input::Char(key)), Flow::Continue, "{key}");
    }
}

fn ids(state: &State) -> Vec<u32> {
    let Rows::Table(OfTable { rows, .. }) = state.rows() else { panic!("{:?}", state.rows()) };
    let table = state.table().expect("there is a table");
    let id = |&row: &usize| match table.key(row) {
        RowKey::Object(object) => object.id,
        other => panic!("{other}"),
    };
    rows.iter().map(id).collect()
}

fn program(of: &Program, id: u32, name: &str) -> Program {
    let mut program = of.clone();
    let facts = ProgramFacts { id, name: name.to_owned(), ..ProgramFacts::clone(&program.facts) };
    program.facts = Arc::new(facts);
    program
}

fn many(programs: u32) -> Snapshot {
    let golden = golden();
    let of = &golden.programs.as_ref().expect("it has programs")[0];
    let all = (1..=programs).map(|id| program(of, id, &format!("program_{id}")));
    Snapshot { programs: Some(all.collect()), ..golden }
}

fn rendered(state: &State, (width, height): (u16, u16), colour: bool) -> (Buffer, Screen) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("it has no errors");
    let mut screen = Screen::default();
    terminal
        .draw(|frame| screen = draw(frame, state, Theme { colour }, 2 * SECOND))
        .expect("it has no errors");
    (terminal.backend().buffer().clone(), screen)
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area().width).max(1);
    let lines = buffer.content().chunks(width);
    lines.map(|line| line.iter().map(ratatui::buffer::Cell::symbol).collect::<String>() + "\n").collect()
}

fn key_of(kind: Kind, id: u32) -> RowKey {
    RowKey::Object(Object { kind, id })
}

#[test]
fn the_most_expensive_program_is_first_and_rates_are_of_the_last_period() {
    let state = running();
    assert_eq!(ids(&state)[..2], [2, 17]);
    let summary = state.summary();
    assert!((summary.cpu.expect("there are rates") - 0.006).abs() < 1e-9, "{summary:?}");
    assert!((summary.runs.expect("there are rates") - 1002.0).abs() < 1e-9, "{summary:?}");
    let mem: u64 = 4096
        + golden().programs.iter().flatten().skip(1).filter_map(|program| program.facts.mem).sum::<u64>()
        + golden().maps.iter().flatten().filter_map(|map| map.mem).sum::<u64>();
    assert_eq!(summary.mem, Some(mem));
}

#[test]
fn the_cpu_time_is_that_of_the_overview() {
    let (first, mut state) = (golden(), state());
    let mut second = later(&first, 1, &[(17, 1000, Duration::from_millis(2))]);
    // A program that ran for a while, and was unloaded.
    second.totals[0].run_time = second.totals[0].run_time.map(|time| time + Duration::from_millis(100));
    read(&mut state, &first);
    read(&mut state, &second);
    let shown = state.summary().cpu.expect("there are rates");
    assert!((shown - 0.102).abs() < 1e-9, "{shown}");
    assert_eq!(Some(shown), totals(&second, Some(&first))[0].cpu_ratio);
}

#[test]
fn another_boot_begins_anew() {
    let mut state = self::state();
    state.receive(Duration::ZERO, Update::Happened(vec![event(1)], 2));
    read(&mut state, &golden());
    assert_eq!((state.events().len(), state.events().missed()), (1, 2), "there was no other boot before");
    read(&mut state, &later(&golden(), 1, &[(2, 1, Duration::from_millis(1))]));
    keys(&mut state, "4t");
    let Rows::Tree(nodes) = state.rows() else { panic!("it is the tree") };
    let (first, count) = (nodes[0].clone(), nodes.len());
    state.handle(Input::Left);
    assert!(state.is_collapsed(&first) && state.rows().len() < count);
    keys(&mut state, "8");
    state.handle(Input::Down);
    keys(&mut state, "1");
    state.handle(Input::Down);
    assert_eq!(state.list().position(), 1);
    state.handle(Input::Enter);
    let key = key_of(Kind::Program, 2);
    assert!(state.details().is_some() && state.history().of(&key).is_some());
    let mut rebooted = golden();
    rebooted.taken_at = BootTime::from_secs(60);
    read(&mut state, &rebooted);
    assert!(state.details().is_none() && state.history().of(&key).is_none());
    assert_eq!(
        (state.events().len(), state.events().missed()),
        (0, 0),
        "times of events are since that boot"
    );
    assert!(!state.is_collapsed(&first), "an owner with this name is another one");
    assert_eq!((state.list().position(), state.list().offset()), (0, 0));
    let readings = state.readings().expect("there is one");
    assert!(
        readings.earlier(TableKind::Maps).is_none() && readings.now().taken_at == BootTime::from_secs(60)
    );
    read(&mut state, &later(&rebooted, 1, &[(2, 1, Duration::from_millis(1))]));
    let (_, _, points) = state.history().of(&key).expect("it ran");
    assert_eq!(points.of(1).collect::<Vec<_>>(), [Some(1.0)]);
}

#[test]
fn another_boot_that_lasts_longer_is_seen_by_its_date() {
    let mut state = running();
    state.handle(Input::Enter);
    let first = golden();
    let mut rebooted = later(&first, 100, &[(2, 5, Duration::from_millis(1))]);
    rebooted.reader_started_at = BootTime(first.reader_started_at.0 + 1);
    rebooted.clock.booted_at += Duration::from_hours(1);
    read(&mut state, &rebooted);
    assert!(state.details().is_none() && state.history().of(&key_of(Kind::Program, 2)).is_none());
    let readings = state.readings().expect("there is one");
    assert!(readings.earlier(TableKind::Programs).is_none() && state.summary().cpu.is_none());
}

#[test]
fn a_rate_stays_known_between_samples_of_run_statistics() {
    let mut state = running();
    let first = golden();
    let cpu = state.summary().cpu;
    assert!(cpu.is_some());
    // The sample is over: neither run times nor what is covered grow.
    let mut after =
        later(&first, 1, &[(17, 1000, Duration::from_millis(2)), (2, 2, Duration::from_millis(4))]);
    for seconds in 2..6 {
        after.taken_at = BootTime(first.taken_at.0 + seconds * 1_000_000_000);
        read(&mut state, &after);
        assert_eq!(state.summary().cpu, cpu, "after {seconds} s");
        assert_eq!(ids(&state)[..2], [2, 17], "the order stays");
    }
}

#[test]
fn a_table_is_sorted_by_keys_and_headings() {
    let mut state = running();
    keys(&mut state, "r");
    assert_eq!(ids(&state)[..2], [17, 2], "reversed; what is unknown stays last");
    keys(&mut state, "s");
    let Rows::Table(OfTable { sort, columns, .. }) = state.rows() else { panic!("it is a table") };
    assert_eq!((columns[sort.column].field, sort.descending), ("runs_per_second", true));
    assert_eq!(ids(&state)[..2], [17, 2]);
    keys(&mut state, "SS<");
    let Rows::Table(OfTable { sort, columns, .. }) = state.rows() else { panic!("it is a table") };
    assert_eq!((columns[sort.column].field, sort.descending), ("owner", false), "texts ascend");
    state.handle(Input::Click(Target::Heading("id")));
    assert_eq!(ids(&state), [401, 18, 17, 2]);
    state.handle(Input::Click(Target::Heading("id")));
    assert_eq!(ids(&state), [2, 17, 18, 401]);
    // Each table has its own order.
    keys(&mut state, "21");
    assert_eq!(ids(&state), [2, 17, 18, 401]);
}

#[test]
fn the_cursor_follows_its_row_and_stays_at_the_top() {
    let mut state = running();
    let first =
        later(&golden(), 1, &[(2, 2, Duration::from_millis(4)), (17, 1000, Duration::from_millis(2))]);
    assert_eq!(state.list().position(), 0);
    // Now program 17 costs the most.
    read(&mut state, &later(&first, 1, &[(17, 5, Duration::from_millis(9))]));
    assert_eq!((ids(&state)[0], state.list().position()), (17, 0), "the top is the most expensive");
    state.handle(Input::Down);
    let position = state.list().position();
    assert_eq!((position, ids(&state)[position]), (1, 2));
    keys(&mut state, "r");
    let position = state.list().position();
    assert_eq!((position, ids(&state)[position]), (0, 2), "the cursor is still on program 2");
    state.handle(Input::End);
    assert_eq!(state.list().position(), 3);
    state.handle(Input::PageUp);
    state.handle(Input::Up);
    assert_eq!(state.list().position(), 0);
}

#[test]
fn a_list_is_scrolled_with_the_cursor_and_never_past_its_end() {
    let mut state = state();
    read(&mut state, &many(100));
    state.set_page(10);
    state.handle(Input::PageDown);
    assert_eq!((state.list().position(), state.list().offset()), (10, 1));
    state.handle(Input::End);
    assert_eq!((state.list().position(), state.list().offset()), (99, 90));
    state.set_page(40);
    assert_eq!(state.list().offset(), 60, "a larger screen is filled");
    state.set_page(5);
    assert_eq!(state.list().offset(), 95);
    state.handle(Input::Wheel(-3));
    assert_eq!((state.list().position(), state.list().offset()), (96, 95));
    state.handle(Input::Home);
    assert_eq!((state.list().position(), state.list().offset()), (0, 0));
    read(&mut state, &many(3));
    state.handle(Input::End);
    assert_eq!((state.list().position(), state.list().offset()), (2, 0));
    read(&mut state, &Snapshot { programs: None, ..golden() });
    assert_eq!(*state.rows(), Rows::Unknown, "refused is not empty");
}

#[test]
fn a_filter_applies_while_it_is_typed() {
    let mut state = running();
    keys(&mut state, "/cil");
    assert_eq!((state.filter(), ids(&state)), (("cil", true), vec![17]));
    keys(&mut state, "q");
    assert_eq!(ids(&state), [0; 0]);
    state.handle(Input::Backspace);
    state.handle(Input::Enter);
    assert_eq!((state.filter(), ids(&state)), (("cil", false), vec![17]));
    keys(&mut state, "2");
    assert_eq!(state.tab(), Tab::Table(TableKind::Maps), "keys have their meaning again");
    state.handle(Input::Escape);
    assert_eq!(state.filter(), ("", false));
    keys(&mut state, "1/mem_bytes>4096");
    assert!(!ids(&state).contains(&2));
    state.handle(Input::Escape);
    assert_eq!(state.filter(), ("", false));
    keys(&mut state, "/");
    keys(&mut state, &"x".repeat(1000));
    assert_eq!(state.filter().0.len(), 200);
    assert_eq!(state.handle(Input::Interrupt), Flow::Quit);
}

#[test]
fn own_objects_can_be_left_out() {
    let mut state = state();
    read(&mut state, &Snapshot { own_programs: vec![17], ..golden() });
    assert_eq!(ids(&state).len(), 4);
    keys(&mut state, "o");
    assert!(!ids(&state).contains(&17) && !state.shows_own());
    keys(&mut state, "4t");
    let Rows::Tree(nodes) = state.rows() else { panic!("it is a tree") };
    assert!(nodes.iter().all(|node| node.key != Key::Row(key_of(Kind::Program, 17))));
    keys(&mut state, "o1");
    assert!(ids(&state).contains(&17));
}

#[test]
fn a_pause_keeps_everything_and_the_last_reading_comes_after_it() {
    let mut state = running();
    let before = ids(&state);
    keys(&mut state, "p");
    read(&mut state, &many(7));
    read(&mut state, &many(8));
    assert!(state.is_paused());
    assert_eq!(ids(&state), before);
    keys(&mut state, " ");
    assert_eq!(ids(&state).len(), 8);
}

#[test]
fn details_show_what_is_connected_and_what_is_gone() {
    let mut state = running();
    state.handle(Input::Down);
    state.handle(Input::Enter);
    let details = state.details().expect("they are open");
    assert_eq!(details.key, key_of(Kind::Program, 17));
    assert_eq!(details.sections[1].title, "Programs");
    let mean = details.sections[0].values[0].iter().find(|fact| fact.name == "mean_run_time_seconds");
    let mean = mean.and_then(|fact| fact.cell.number()).expect("it ran");
    assert!((mean - 2e-6).abs() < 1e-9, "{mean}");
    let map = details.linked.iter().find(|linked| linked.relation == "Maps").expect("it uses maps").clone();
    assert!(!map.name.is_empty() && !map.object_type.is_empty());
    let (_, measures, points) = state.history().of(&details.key).expect("a program has graphs");
    assert_eq!(measures.len(), 3);
    assert_eq!(points.of(1).collect::<Vec<_>>(), [Some(1000.0)], "there were no rates before");
    while state.details().and_then(|details| details.chosen()) != Some(&map) {
        state.handle(Input::Tab);
    }
    state.handle(Input::Enter);
    assert_eq!(state.details().map(|details| &details.key), Some(&map.key));
    // It disappears while it is looked at.
    let mut without = later(&golden(), 2, &[]);
    let RowKey::Object(object) = map.key else { panic!("it is an object") };
    without.maps.as_mut().expect("it has maps").retain(|map| map.facts.id != object.id);
    read(&mut state, &without);
    let details = state.details().expect("they are still open");
    assert!(details.is_gone && !details.sections.is_empty());
    state.handle(Input::Escape);
    assert_eq!(state.details().map(|details| &details.key), Some(&key_of(Kind::Program, 17)));
    state.handle(Input::Escape);
    assert!(state.details().is_none());
    for _ in 0..200 {
        state.handle(Input::Enter);
        state.handle(Input::Tab);
    }
    keys(&mut state, "2");
    assert!(state.details().is_none(), "a tab closes them");
}

#[test]
fn details_are_scrolled_after_an_object_was_chosen() {
    let mut state = running();
    let shown = |state: &mut State| {
        let (_, screen) = rendered(state, (100, 16), true);
        state.set_first_line(screen.first_line);
        screen.first_line.expect("details are shown")
    };
    state.handle(Input::Down);
    state.handle(Input::Enter);
    state.handle(Input::End);
    let last = shown(&mut state);
    state.handle(Input::Tab);
    let at_choice = shown(&mut state);
    assert!(at_choice <= 1 && last > 10, "{at_choice}, {last}");
    state.handle(Input::Down);
    assert_eq!(shown(&mut state), at_choice + 1, "from what was shown");
    for (input, line) in [
        (Input::End, last),
        (Input::Up, last - 1),
        (Input::Home, 0),
        (Input::Wheel(3), 3),
        (Input::PageDown, 13),
        (Input::PageUp, 3),
    ] {
        state.handle(input.clone());
        assert_eq!(shown(&mut state), line.min(last), "{input:?}");
    }
    state.handle(Input::End);
    shown(&mut state);
    state.handle(Input::BackTab);
    assert!(shown(&mut state) < last, "the choice is shown again");
}

#[test]
fn every_row_of_every_tab_has_details() {
    let mut state = running();
    for digit in "1234567".chars() {
        keys(&mut state, &digit.to_string());
        assert!(!state.rows().is_empty(), "{digit}");
        for row in 0..state.rows().len() {
            state.handle(Input::Home);
            (0..row).for_each(|_| {
                state.handle(Input::Down);
            });
            state.handle(Input::Enter);
            let details = state.details().unwrap_or_else(|| panic!("{digit}, {row}"));
            assert!(!details.is_gone, "{}", details.key);
            state.handle(Input::Escape);
        }
    }
}

#[test]
fn owners_have_their_objects_below_them_in_the_tree() {
    let mut state = running();
    keys(&mut state, "t");
    let nodes = |state: &State| match state.rows() {
        Rows::Tree(nodes) => nodes.clone(),
        other => panic!("{other:?}"),
    };
    let all = nodes(&state);
    let snapshot = golden();
    let objects = snapshot.programs.as_ref().map_or(0, Vec::len)
        + snapshot.maps.as_ref().map_or(0, Vec::len)
        + snapshot.links.as_ref().map_or(0, Vec::len);
    assert_eq!(all.iter().filter(|node| node.depth == 1).count(), objects, "each is there once");
    let owners: Vec<&Node> = all.iter().filter(|node| node.depth == 0).collect();
    assert_eq!(owners.iter().map(|node| node.objects).sum::<usize>(), objects);
    // Totals of owners are as before, so that the one with most memory is first.
    let of_program =
        all.iter().position(|node| node.key == Key::Row(key_of(Kind::Program, 17))).expect("it is there");
    assert_eq!(of_program, 1, "{all:?}");
    state.handle(Input::Down);
    state.handle(Input::Left);
    assert_eq!(state.list().position(), 0, "from an object to its owner");
    state.handle(Input::Left);
    let collapsed = nodes(&state);
    assert_eq!(collapsed.len(), all.len() - all[0].objects);
    assert!(state.is_collapsed(&collapsed[0]));
    state.handle(Input::Right);
    assert_eq!(nodes(&state), all);
    keys(&mut state, "/cil_from");
    let found = nodes(&state);
    let what: Vec<_> = found.iter().map(|node| (node.table, node.depth)).collect();
    let expected = [(TableKind::Owners, 0), (TableKind::Programs, 1), (TableKind::Links, 1)];
    assert_eq!(what, expected, "the owner, the program, and its link, which has the name of the program");
    state.handle(Input::Escape);
    keys(&mut state, "t");
    assert!(!state.shows_tree() && matches!(state.rows(), Rows::Table(_)));
    keys(&mut state, "1t");
    assert!(state.shows_tree());
}

#[test]
fn histories_are_bounded() {
    let mut state = state();
    let count = u32::try_from(MAX_HISTORIES).expect("it is small") + 500;
    let mut snapshot = many(count);
    snapshot.maps = None;
    read(&mut state, &snapshot);
    for _ in 0..2 {
        let ran: Vec<_> = (1..=count).map(|id| (id, 1, Duration::from_micros(1))).collect();
        snapshot = later(&snapshot, 1, &ran);
        read(&mut state, &snapshot);
    }
    let with_history = (1..=count).filter(|&id| state.history().of(&key_of(Kind::Program, id)).is_some());
    assert_eq!(with_history.count(), HISTORIES_OF_TABLE);
    let others = state.history().len() - HISTORIES_OF_TABLE;
    // Whatever is looked at has one.
    state.handle(Input::End);
    state.handle(Input::Enter);
    let key = state.details().expect("they are open").key.clone();
    assert!(state.history().of(&key).is_some());
    assert!(state.history().len() <= HISTORIES_OF_TABLE + others + 1);

    let mut state = self::state();
    let mut snapshot = golden();
    for _ in 0..POINTS + 20 {
        snapshot = later(&snapshot, 1, &[(17, 10, Duration::from_micros(3))]);
        read(&mut state, &snapshot);
    }
    let (_, _, points) = state.history().of(&key_of(Kind::Program, 17)).expect("it has a history");
    let runs: Vec<_> = points.of(1).collect();
    assert_eq!((runs.len(), runs[POINTS - 1]), (POINTS, Some(10.0)));
    // What is gone is forgotten.
    read(&mut state, &Snapshot { programs: Some(Vec::new()), ..later(&snapshot, 1, &[]) });
    assert!(state.history().of(&key_of(Kind::Program, 17)).is_none());
}

#[test]
fn many_maps_leave_histories_for_programs() {
    let mut state = state();
    let mut snapshot = golden();
    let of = snapshot.maps.as_ref().expect("it has maps")[0].clone();
    let map = |id| Map { facts: Arc::new(MapFacts { id, ..MapFacts::clone(&of.facts) }), ..of.clone() };
    snapshot.maps = Some((1..=5000).map(map).collect());
    read(&mut state, &snapshot);
    read(&mut state, &later(&snapshot, 1, &[(17, 10, Duration::from_millis(1))]));
    assert!(state.history().of(&key_of(Kind::Map, 1)).is_some());
    assert!(state.history().of(&key_of(Kind::Map, 5000)).is_none());
    assert!(state.history().of(&key_of(Kind::Program, 17)).is_some());
    assert!(state.history().len() <= MAX_HISTORIES);
}

#[test]
fn each_measure_is_a_column() {
    for (kind, measures) in MEASURES {
        let columns = kind.columns();
        for measure in measures {
            assert!(columns.iter().any(|column| column.field == measure.field), "{kind:?}: {measure:?}");
        }
    }
}

fn event(id: u32) -> Arc<Event> {
    let subject = Subject {
        kind: Some(Kind::Program),
        id: Some(id),
        name: Some(format!("trace_{id}")),
        ..Subject::default()
    };
    let at = (BootTime::from_secs(1), BootTime::from_secs(1));
    Arc::new(Event::new(EventKind::ProgramLoad, EventSource::Kernel, at, subject))
}

#[test]
fn the_last_events_are_kept_and_lead_to_their_objects() {
    let mut state = running();
    keys(&mut state, "8");
    assert!(state.rows().is_empty());
    state.receive(SECOND, Update::Happened(vec![event(17), event(5)], 0));
    state.handle(Input::Down);
    state.handle(Input::Enter);
    assert_eq!(state.details().map(|details| &details.key), Some(&key_of(Kind::Program, 17)));
    state.handle(Input::Escape);
    state.receive(SECOND, Update::Happened(vec![event(6)], 0));
    assert_eq!(state.list().position(), 2, "the cursor stays on its event");
    keys(&mut state, "/TRACE_5");
    assert_eq!(state.rows().len(), 1);
    state.handle(Input::Escape);
    let storm = (0..2 * u32::try_from(EVENTS_KEPT).expect("it is small")).map(event);
    state.receive(SECOND, Update::Happened(storm.collect(), 7));
    assert_eq!((state.rows().len(), state.events().missed()), (EVENTS_KEPT, 7));
    let (buffer, _) = rendered(&state, (80, 24), true);
    assert!(text(&buffer).contains("7 missed"), "{}", text(&buffer));
}

#[test]
fn events_stay_where_they_are_during_a_pause() {
    let mut state = running();
    keys(&mut state, "8");
    let kept = u32::try_from(EVENTS_KEPT).expect("it is small");
    state.receive(SECOND, Update::Happened((1..=kept).map(event).collect(), 0));
    let before = text(&rendered(&state, (80, 24), true).0);
    keys(&mut state, "p");
    state.receive(SECOND, Update::Happened((kept + 1..=kept + 5).map(event).collect(), 0));
    let lines = |text: &str| text.lines().skip(2).take(20).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&text(&rendered(&state, (80, 24), true).0)), lines(&before));
    state.handle(Input::Down);
    state.handle(Input::Enter);
    assert_eq!(state.details().map(|details| &details.key), Some(&key_of(Kind::Program, kept - 1)));
    state.handle(Input::Escape);
    // The first one has made room.
    state.handle(Input::End);
    state.handle(Input::Enter);
    assert!(state.details().is_none());
    keys(&mut state, "p");
    state.handle(Input::Home);
    state.handle(Input::Enter);
    assert_eq!(state.details().map(|details| &details.key), Some(&key_of(Kind::Program, kept + 5)));
}

#[test]
fn keys_and_the_mouse_are_input() {
    let state = running();
    let (_, screen) = rendered(&state, (80, 24), true);
    let key = |code, modifiers| input(&TerminalEvent::Key(KeyEvent::new(code, modifiers)), &screen);
    assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Input::Interrupt));
    assert_eq!(key(KeyCode::Char('x'), KeyModifiers::CONTROL), None);
    assert_eq!(key(KeyCode::Char('S'), KeyModifiers::SHIFT), Some(Input::Char('S')));
    let mouse = |kind, column, row| {
        let modifiers = KeyModifiers::NONE;
        input(&TerminalEvent::Mouse(MouseEvent { kind, column, row, modifiers }), &screen)
    };
    let click = |column, row| mouse(MouseEventKind::Down(MouseButton::Left), column, row);
    assert_eq!(click(15, 1), Some(Input::Click(Target::Tab(Tab::Table(TableKind::Maps)))));
    assert_eq!(click(3, 2), Some(Input::Click(Target::Heading("id"))));
    assert_eq!(click(40, 4), Some(Input::Click(Target::Row(1))));
    assert_eq!(click(40, 20), None, "there is no such row");
    assert_eq!(mouse(MouseEventKind::ScrollDown, 1, 1), Some(Input::Wheel(3)));
    let mut state = state;
    state.handle(Input::Click(Target::Row(1)));
    assert_eq!((state.list().position(), state.details().is_none()), (1, true));
    state.handle(Input::Click(Target::Row(1)));
    assert!(state.details().is_some(), "a second click opens it");
}

#[test]
fn the_status_line_says_how_current_everything_is() {
    let shown = |state: &State| text(&rendered(state, (160, 24), true).0);
    let mut state = state();
    assert!(shown(&state).contains("reading ..."));
    read(&mut state, &golden());
    assert!(
        shown(&state).contains("run statistics on while top runs | every 1s, 1 s ago"),
        "{}",
        shown(&state)
    );
    // Two intervals later it is slow.
    state.receive(Duration::ZERO, Update::Began);
    let (buffer, _) = rendered(&state, (160, 24), true);
    assert!(!text(&buffer).contains("reading for"), "{}", text(&buffer));
    let mut terminal = Terminal::new(TestBackend::new(160, 24)).expect("it has no errors");
    let late = |frame: &mut ratatui::Frame<'_>| drop(draw(frame, &state, Theme { colour: true }, 9 * SECOND));
    terminal.draw(late).expect("it has no errors");
    assert!(text(terminal.backend().buffer()).contains("| reading for 9 s"));
    state.receive(SECOND, Update::Failed("connection refused".to_owned()));
    assert!(shown(&state).contains("failed: connection refused"));
    let mut off = golden();
    off.run_stats.by_exporter = false;
    read(&mut state, &off);
    assert!(shown(&state).contains("run statistics off: no run times"));
    off.run_stats.by_sysctl = Some(true);
    read(&mut state, &off);
    assert!(shown(&state).contains("run statistics on by sysctl"));
    let mut recording = State::new(Origin::Recording("host.ndjson".to_owned()), SECOND);
    read(&mut recording, &golden());
    assert!(shown(&recording).contains("run statistics were on | host.ndjson"));
    recording.receive(SECOND, Update::Ended);
    assert!(shown(&recording).contains("end of host.ndjson"));
    let mut exporter = State::new(Origin::Exporter("http://node-7:10048".to_owned()), SECOND);
    read(&mut exporter, &golden());
    assert!(shown(&exporter).contains("| http://node-7:10048, 1 s ago"), "{}", shown(&exporter));
    exporter.receive(SECOND, Update::Failed("the request panicked".to_owned()));
    exporter.receive(SECOND, Update::Ended);
    let line = shown(&exporter);
    assert!(
        line.contains("failed: the request panicked |") && line.contains("no further readings"),
        "{line}"
    );
}

#[test]
fn without_colour_there_is_none_and_the_cursor_is_seen() {
    let mut state = running();
    for digit in "12345678t".chars() {
        keys(&mut state, &digit.to_string());
        let (buffer, _) = rendered(&state, (100, 30), false);
        let colours = |cell: &ratatui::buffer::Cell| (cell.fg, cell.bg);
        assert!(buffer.content().iter().all(|cell| colours(cell) == (Color::Reset, Color::Reset)));
        if !state.rows().is_empty() {
            assert!(buffer[(20, 3)].modifier.contains(Modifier::REVERSED), "{digit}");
        }
    }
}

#[test]
fn moving_in_twenty_thousand_rows_costs_only_what_is_shown() {
    let mut state = state();
    let snapshot = many(20_000);
    read(&mut state, &snapshot);
    let ran = [(20_000, 10, Duration::from_millis(1))];
    read(&mut state, &later(&snapshot, 1, &ran));
    assert_eq!(ids(&state)[0], 20_000);
    let began = std::time::Instant::now();
    for _ in 0..1000 {
        state.handle(Input::Down);
    }
    let took = began.elapsed();
    assert!(took < 5 * SECOND, "a thousand rows took {took:?}, which is more than a sort for each would");
    assert_eq!(state.list().position(), 1000);
}

#[test]
fn a_frame_is_drawn_when_something_has_changed() {
    let mut state = running();
    let mut painter = Painter::new(Theme { colour: true });
    let mut terminal = Terminal::new(TestBackend::new(100, 30)).expect("it has no errors");
    let mut frames = |state: &mut State, height: u16, now: Duration| {
        let mut frames = 0;
        let result = painter.paint(state, (100, height), now, |draw| {
            frames += 1;
            terminal.draw(|frame| draw(frame)).map(drop)
        });
        result.expect("it has no errors");
        frames
    };
    assert_eq!(frames(&mut state, 30, SECOND), 1, "the first one");
    for milliseconds in 1000..2000 {
        assert_eq!(frames(&mut state, 30, Duration::from_millis(milliseconds)), 0, "nothing is new");
    }
    assert_eq!(frames(&mut state, 30, 2 * SECOND), 1, "the reading is a second older");
    let moved =
        MouseEvent { kind: MouseEventKind::Moved, column: 3, row: 4, modifiers: KeyModifiers::empty() };
    assert_eq!(input(&TerminalEvent::Mouse(moved), &Screen::default()), None);
    let hidden = [Update::Began, Update::Happened(vec![event(1)], 0)];
    for update in hidden {
        state.receive(2 * SECOND, update);
    }
    assert_eq!(frames(&mut state, 30, 2 * SECOND), 0, "events have a tab of their own");
    let again = later(&golden(), 2, &[]);
    let changes: [&dyn Fn(&mut State); 6] = [
        &|state| keys(state, "s"),
        &|state| assert_eq!(state.handle(Input::Down), Flow::Continue),
        &|state| keys(state, "8"),
        &|state| state.receive(2 * SECOND, Update::Happened(vec![event(2)], 0)),
        &|state| state.receive(2 * SECOND, Update::Failed("no luck".to_owned())),
        &|state| state.receive(2 * SECOND, Update::Read(Arc::new(again.clone()))),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        change(&mut state);
        assert_eq!(frames(&mut state, 30, 2 * SECOND), 1, "{number}");
        assert_eq!(frames(&mut state, 30, 2 * SECOND), 0, "{number}");
    }
    assert_eq!(frames(&mut state, 20, 2 * SECOND), 1, "another size");
}

#[test]
fn a_frame_costs_only_what_is_shown() {
    let least = |programs: u32| {
        let mut state = state();
        let snapshot = many(programs);
        read(&mut state, &snapshot);
        read(&mut state, &later(&snapshot, 1, &[(1, 10, Duration::from_millis(1))]));
        let drawn = || {
            let began = std::time::Instant::now();
            rendered(&state, (160, 50), true);
            began.elapsed()
        };
        (0..20).map(|_| drawn()).min().expect("there are some")
    };
    let (few, many) = (least(100), least(20_000));
    assert!(many < few * 20, "a frame of 20,000 rows took {many:?}, one of 100 rows {few:?}");
}

/// A name of any origin.
fn hostile() -> impl Strategy<Value = String> {
    "(\\PC|\\p{Cf}|\\p{Cc}|[\u{1b}\u{202e}\u{200b}日本]){0,40}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_name_and_no_size_does_harm(
        names in prop::collection::vec(hostile(), 4),
        filter in hostile(),
        (width, height) in (0_u16..200, 0_u16..60),
        presses in "[1-8sSrotp?]{0,12}",
        colour: bool,
    ) {
        let mut snapshot = golden();
        for (program, name) in snapshot.programs.iter_mut().flatten().zip(&names) {
            program.facts = Arc::new(ProgramFacts { name: name.clone(), ..ProgramFacts::clone(&program.facts) });
        }
        let mut state = state();
        read(&mut state, &snapshot);
        state.receive(SECOND, Update::Happened(vec![event(1)], 0));
        state.receive(SECOND, Update::Failed(names[0].clone()));
        read(&mut state, &later(&snapshot, 1, &[(17, 10, Duration::from_millis(1))]));
        for (position, press) in presses.chars().enumerate() {
            state.handle(Input::Char(press));
            if position % 3 == 2 {
                state.handle(Input::Enter);
            }
            state.set_page(page(height));
            let (buffer, screen) = rendered(&state, (width, height), colour);
            state.set_first_line(screen.first_line);
            // A character of two columns leaves its second one empty.
            let symbols = buffer.content().iter().map(ratatui::buffer::Cell::symbol);
            prop_assert!(symbols.flat_map(str::chars).all(|character| !is_invisible(character)));
        }
        state.handle(Input::Escape);
        state.handle(Input::Char('/'));
        filter.chars().for_each(|character| { state.handle(Input::Char(character)); });
        let (buffer, _) = rendered(&state, (width, height), colour);
        prop_assert!(!text(&buffer).replace('\n', "").contains(is_invisible));
    }
}
