//! The wall clock is set while the exporter runs: back by an hour, and right after a boot without a date.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use tokio::runtime::Builder;

use crate::exporter::Exporter;
use crate::processes::{SOON, Scratch, eventually};
use test_support::http::free_address;
use test_support::objects::Program;
use test_support::objects::uapi::program_type;
use test_support::points::{self, Point};
use test_support::receiver;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// A `clock_gettime` whose wall clock is ahead by the seconds in a file.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    long result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) {
        FILE *file = fopen(getenv("WALL_CLOCK_AHEAD"), "re");
        long seconds;
        if (file == NULL || fscanf(file, "%ld", &seconds) != 1) abort();
        time->tv_sec += seconds;
        fclose(file);
    }
    return result;
}
"#;

/// A wall clock that a test can set.
struct SettableClock {
    library: PathBuf,
    ahead: PathBuf,
}

impl SettableClock {
    fn new(folder: &Path, ahead: i64) -> Self {
        let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
        fs::write(&source, LIBRARY).expect("the folder is writable");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        assert!(compile.status().expect("there is a C compiler").success());
        let clock = Self { library, ahead: folder.join("ahead") };
        clock.set(ahead);
        clock
    }

    /// Sets it, in one step.
    fn set(&self, ahead: i64) {
        let new = self.ahead.with_extension("new");
        fs::write(&new, ahead.to_string())
            .and_then(|()| fs::rename(&new, &self.ahead))
            .expect("it is writable");
    }

    /// The exporter's own restriction of files would refuse the library the file that it reads.
    fn environment(&self) -> [(&str, &Path); 3] {
        [
            ("LD_PRELOAD", &self.library),
            ("WALL_CLOCK_AHEAD", &self.ahead),
            ("BPF_METRICS_EXPORTER_LANDLOCK", Path::new("false")),
        ]
    }
}

pub(crate) fn set_back() {
    let scratch = Scratch::new();
    let clock = SettableClock::new(&scratch.folder("clock"), 0);
    let received = Arc::new(Mutex::new(Vec::new()));
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = runtime.block_on(receiver::start("127.0.0.1:0".parse().expect("an address"), {
        let received = Arc::clone(&received);
        move |request| {
            received.lock().expect("nothing panics").extend(points::decode(request).0);
            receiver::ok(request)
        }
    }));
    let program = Program::ready(program_type::XDP, "clocked").expect("the kernel has XDP");
    let id = program.id().to_string();
    let folder = scratch.folder("exporter");
    let mut exporter = Exporter::start_in(&clock.environment(), &folder, server.address, "1s", &[]);
    let of_program = || -> Vec<Point> {
        // The series of holders have no start.
        let is_own = |point: &&Point| {
            point.start > 0 && point.metric.starts_with("bpf_program_") && point.labels.get("id") == Some(&id)
        };
        received.lock().expect("nothing panics").iter().filter(is_own).cloned().collect()
    };
    // Waits for two more cycles, and returns the points of all of them.
    let two_cycles = |points_before: &[Point]| {
        eventually("two more cycles are received", SOON, || {
            let points = of_program().split_off(points_before.len());
            let times: BTreeSet<u64> = points.iter().map(|point| point.time).collect();
            if times.len() > 2 { Ok(points) } else { Err(format!("times: {times:?}")) }
        })
    };
    two_cycles(&[]);
    clock.set(-HOUR.as_secs());
    exporter.process.says("the wall clock was set by -3600.0 s; times are reported by the new clock");
    two_cycles(&of_program());
    exporter.process.stop();

    let received = received.lock().expect("nothing panics");
    let wrong: Vec<_> = received.iter().filter(|point| point.start > point.time).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} points are older than their start: {wrong:#?}",
        wrong.len(),
        received.len()
    );
    drop(received);
    let points = of_program();
    let first = points[0].time;
    let (new, old): (Vec<&Point>, Vec<&Point>) = points.iter().partition(|point| point.time < first);
    let (values, markers): (Vec<&Point>, Vec<&Point>) = new.iter().partition(|point| point.value.is_some());
    let load_time = |points: &[&Point]| -> Timestamp {
        let info = points.iter().find(|point| point.metric == "bpf_program_info").expect("it was sent");
        info.labels["load_time"].parse().expect("it is a date")
    };
    let (loaded, reported) = (load_time(&old), load_time(&values));
    let moved = loaded.duration_since(reported);
    assert!((moved - HOUR).abs() <= SignedDuration::from_secs(1), "{loaded} is {reported} by the new clock");
    let starts = |points: &[&Point], date: Timestamp| {
        points.iter().all(|point| i128::from(point.start) == date.as_nanosecond())
    };
    assert!(starts(&old, loaded), "series start with the object: {old:#?}");
    // It was loaded within the hour: with the old start, points would be older than it.
    assert!(starts(&values, reported), "{values:#?}");
    let [marker] = markers[..] else { panic!("only the series with a date is another one: {markers:#?}") };
    assert_eq!(marker.metric, "bpf_program_info");
    assert_eq!(marker.labels["load_time"], loaded.to_string());
}

pub(crate) fn set_right() {
    let scratch = Scratch::new();
    let clock = SettableClock::new(&scratch.folder("clock"), -800_000_000);
    let before = Timestamp::now();
    let program = Program::ready(program_type::XDP, "clocked").expect("the kernel has XDP");
    let after = Timestamp::now();
    let nowhere = free_address();
    let mut exporter =
        Exporter::start_in(&clock.environment(), &scratch.folder("exporter"), nowhere, "1h", &[]);
    let id = program.id().to_string();
    let load_time = || {
        let values = exporter.scrape();
        let (label, _) = values
            .iter()
            .find(|(series, _)| series.name == "bpf_program_info" && series.labels["id"] == id)
            .expect("it is loaded");
        let (_, value) = values
            .iter()
            .find(|(series, _)| series.name == "bpf_program_load_time_seconds" && series.labels["id"] == id)
            .expect("it is loaded");
        let label: Timestamp = label.labels["load_time"].parse().expect("it is a date");
        assert_eq!(format!("{value}"), label.as_second().to_string());
        label
    };
    assert!(load_time() < before - SignedDuration::from_secs(700_000_000));
    clock.set(0);
    eventually("the load time is right", SOON, || match load_time() {
        time if time.as_second() >= before.as_second() && time <= after => Ok(()),
        wrong => Err(wrong.to_string()),
    });
    exporter.process.says("the wall clock was set by +800000000.0 s");
}
