//! Cost of a reading per object, with few objects and with many: by iterators, the first reading and those with a cache, and by the id
//! walk with the same content. The gain of one pass over known objects. The cost of a map with a million entries, and of analysing what
//! programs can do.

use std::thread;
use std::time::Duration;
use test_support::measure;

use caps::{CapSet, Capability};

use bpf_metrics_exporter::kernel::{Reader, ReaderChoice, ReaderOptions};
use bpf_metrics_exporter::model::{Kind, Part, ReaderKind, Snapshot};
use test_support::measure::{each, least, ratio, report, runs};
use test_support::objects::{Herd, Map, run_statistics};

fn main() {
    if !measure::may_make_objects() {
        return;
    }
    report(format_args!("cost of a reading, half programs and half maps, all metrics on"));
    report(format_args!(
        "{:>8} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "objects", "walk, ns", "first, ns", "iter, ns", "walk/iter", "first/iter", "iter/100"
    ));
    let mut of_100 = None;
    for count in [100, 1_000, 20_000] {
        let herd = Herd::without_program_fds(count / 2, count / 2).expect("objects can be made");
        let times = runs(if count > 5_000 { 15 } else { 100 });
        let mut iter = reader(ReaderKind::Iter);
        let first = {
            // A reader is expensive to make: only its first reading is timed.
            let readers = runs(if count > 5_000 { 5 } else { 10 });
            least(readers, || reader(ReaderKind::Iter), |mut reader| (reader.read(), reader))
        };
        let objects = total(&iter.read());
        let later = least(times, || (), |()| iter.read());
        drop(iter);
        let walk = steady(ReaderKind::Walk, times);
        drop(herd);
        let of_100 = *of_100.get_or_insert(each(later, objects));
        report(format_args!(
            "{objects:>8} {:>10.0} {:>10.0} {:>10.0} {:>10.1} {:>10.1} {:>10.2}",
            each(walk, objects),
            each(first, objects),
            each(later, objects),
            ratio(walk, later),
            ratio(first, later),
            each(later, objects) / of_100,
        ));
    }
    one_pass();
    entries();
    growth();
    analysis();
}

/// Cost of the tables of programs and maps: in one pass over those that are known, and by a visit of each, which a reader makes that may
/// not list ids.
fn one_pass() {
    const PROGRAMS: usize = 7_000;
    const MAPS: usize = 9_000;
    let _herd = Herd::without_program_fds(PROGRAMS, MAPS).expect("objects can be made");
    let _statistics = run_statistics().expect("statistics can be switched on");
    let measured = |may_list: bool| {
        let measure = move || {
            let mut reader = reader(ReaderKind::Iter);
            if !may_list {
                caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN)
                    .expect("a thread may drop capabilities");
            }
            reader.read();
            let resting = least_of_tables(&mut reader, || None);
            // One program and one map come in each reading, and the ones before them go.
            let changing = least_of_tables(&mut reader, || Herd::new(1, 1).ok());
            (resting, changing)
        };
        thread::spawn(measure).join().expect("a reading does not panic")
    };
    let ((pass, with_new), (visit, visit_with_new)) = (measured(true), measured(false));
    report(format_args!(
        "{PROGRAMS} programs and {MAPS} maps: a visit of each / one pass {:.2}, with new ones in each reading {:.2}; \
         a pass takes {:.0} ns for each",
        ratio(visit, pass),
        ratio(visit_with_new, with_new),
        each(pass, PROGRAMS + MAPS)
    ));
}

/// Returns the least time of the tables of programs and maps in readings, before each of which other objects are made.
fn least_of_tables(reader: &mut Reader, mut make: impl FnMut() -> Option<Herd>) -> Duration {
    let mut kept = None;
    let mut of_reading = || {
        kept = make();
        let snapshot = reader.read();
        let tables = snapshot.collectors.iter();
        let tables = tables.filter(|of| [Part::Program, Part::Map].contains(&of.part));
        tables.map(|collector| collector.duration).sum()
    };
    let least = (0..runs(60)).map(|_| of_reading()).min().expect("there is a reading");
    drop(kept);
    least
}

/// Cost of a million entries: none, since they are not walked.
fn entries() {
    const MILLION: u32 = 1_000_000;
    let _herd = Herd::new(500, 500).expect("objects can be made");
    let mut reader = reader(ReaderKind::Iter);
    reader.read();
    let without = least(runs(300), || (), |()| reader.read());
    let hash = Map::hash_of(MILLION, 0).expect("a map can be made");
    let found = reader.read().maps.into_iter().flatten().find(|map| map.facts.id == hash.id());
    assert_eq!(found.expect("it is found").entries, Some(MILLION.into()));
    let with = least(runs(300), || (), |()| reader.read());
    report(format_args!(
        "a reading of 1,000 objects and a hash, with a million entries / without: {:.3}",
        ratio(with, without)
    ));
}

/// Cost of maps whose number of entries changes, and with it their memory.
fn growth() {
    const MAPS: usize = 9_000;
    let herd = Herd::new(0, MAPS).expect("objects can be made");
    let growing: Vec<&Map> = herd.maps().iter().filter(|map| map.shape().flags != 0).collect();
    let (key, value) = ([0; 4], [0; 8]);
    let mut full = false;
    let mut change = || {
        full = !full;
        for map in &growing {
            if full { map.insert(&key, &value) } else { map.delete(&key) }.expect("there is room for one");
        }
    };
    let mut reader = reader(ReaderKind::Iter);
    for _ in 0..4 {
        change();
        reader.read();
    }
    let moving = least(runs(30), &mut change, |()| reader.read());
    let resting = least(runs(30), || (), |()| reader.read());
    drop(reader);
    // Each of their memory is asked by a reader that has not seen them before.
    let asked = {
        let mut readers: Vec<_> = (0..runs(5)).map(|_| self::reader(ReaderKind::Iter)).collect();
        let mut unread = readers.iter_mut();
        least(runs(5), || unread.next().expect("one for each run"), Reader::read)
    };
    let of_one = |time: Duration| each(time.saturating_sub(resting), growing.len());
    report(format_args!(
        "{MAPS} maps, of which {} change their entries: a reading / with none that changes {:.2}, {:.0} ns for each",
        growing.len(),
        ratio(moving, resting),
        of_one(moving)
    ));
    report(format_args!(
        "  a first reading, which asks for the memory of all / that: {:.1}",
        ratio(asked, moving)
    ));
}

/// Cost of analysing programs, which the first reading does unless it may not open them, the symbols of the kernel included.
fn analysis() {
    const PROGRAMS: usize = 7_000;
    let _herd = Herd::without_program_fds(PROGRAMS, 0).expect("objects can be made");
    let measured = |may_open: bool| {
        let measure = move || {
            let mut readers: Vec<_> = (0..runs(5)).map(|_| reader(ReaderKind::Iter)).collect();
            if !may_open {
                caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN)
                    .expect("a thread may drop capabilities");
            }
            let mut unread = readers.iter_mut();
            let first = least(runs(5), || unread.next().expect("one for each run"), Reader::read);
            (first, least(runs(100), || (), |()| readers[0].read()))
        };
        thread::spawn(measure).join().expect("a reading does not panic")
    };
    let ((first, later), (without, _)) = (measured(true), measured(false));
    report(format_args!(
        "{PROGRAMS} programs: analysing one takes {:.0} ns, {:.0} times as long as reading it again",
        each(first.saturating_sub(without), PROGRAMS),
        ratio(first.saturating_sub(without), later)
    ));
    report(format_args!("first reading with analyses / without: {:.1}", ratio(first, without)));
}

fn steady(kind: ReaderKind, times: u32) -> Duration {
    let mut reader = reader(kind);
    reader.read();
    least(times, || (), |()| reader.read())
}

fn reader(kind: ReaderKind) -> Reader {
    Reader::new(ReaderOptions { reader: ReaderChoice::Only(kind), ..ReaderOptions::default() })
}

/// How many objects were read.
fn total(snapshot: &Snapshot) -> usize {
    Kind::ALL.map(|kind| snapshot.ids(kind).len()).iter().sum()
}
