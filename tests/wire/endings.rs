//! The end of a series: a program is unloaded between two cycles, and every receiver drops it.

use crate::exporter::Exporter;
use crate::processes::{SOON, Scratch, eventually};
use crate::received::{self, Point};
use crate::receivers::{Collector, Verbosity, VictoriaMetrics};
use test_support::http::free_address;
use test_support::objects::Program;
use test_support::objects::uapi::program_type;

/// Number of series of a program: its metrics, its holder, and what it can do: it drops packets.
const METRICS: usize = 12;

pub(crate) fn test() {
    let scratch = Scratch::new();
    let victoria = VictoriaMetrics::start(&scratch.folder("victoria"));
    let folder = scratch.folder("collector");
    let collector =
        Collector::start(&folder, free_address(), Verbosity::Detailed, Some(&victoria.endpoint()));
    let ends = Program::ready(program_type::XDP, "wire_ends").expect("the kernel has XDP");
    let stays = Program::ready(program_type::XDP, "wire_stays").expect("the kernel has XDP");
    let (ended, stayed) = (ends.id().to_string(), stays.id().to_string());
    let exporter = Exporter::start(&scratch.folder("exporter"), collector.receives, "1s", &[]);

    let series_of = |id: &str| victoria.query(&format!(r#"{{__name__=~"bpf_program_.*",id="{id}"}}"#));
    for id in [&ended, &stayed] {
        eventually("VictoriaMetrics has all series of a program", SOON, || match series_of(id)?.len() {
            METRICS => Ok(()),
            count => Err(format!("it has {count}")),
        });
    }
    drop(ends);
    eventually("VictoriaMetrics has no series of a program that is gone", SOON, || {
        match series_of(&ended)? {
            none if none.is_empty() => Ok(()),
            some => Err(format!("it has {some:?}")),
        }
    });
    assert_eq!(series_of(&stayed).map(|series| series.len()), Ok(METRICS), "of the program that stayed");
    let mut scraped = exporter.scrape().into_keys().filter(|series| series.name.starts_with("bpf_program_"));
    assert!(!scraped.any(|series| series.labels.get("id") == Some(&ended)), "scrapes still have it");

    let points = eventually("two more cycles come after the last of the program", SOON, || {
        let points = points(&collector);
        let last = of_program(&points, &ended).map(|point| point.time).max();
        let after = of_program(&points, &stayed).filter(|point| Some(point.time) > last);
        match after.count() {
            count if count >= 2 * METRICS => Ok(points),
            count => Err(format!("{count} points of the program that stayed")),
        }
    });
    assert!(of_program(&points, &stayed).all(|point| point.value.is_some()), "a marker for what stayed");
    let (values, markers): (Vec<&Point>, Vec<&Point>) =
        of_program(&points, &ended).partition(|point| point.value.is_some());
    assert_eq!(markers.len(), METRICS, "one marker for each series: {markers:#?}");
    for marker in markers {
        let is_same = |point: &&Point| point.metric == marker.metric && point.attributes == marker.attributes;
        let series: Vec<_> = values.iter().copied().filter(is_same).collect();
        assert!(!series.is_empty(), "a marker for nothing: {marker:?}");
        assert_eq!(marker.start, series[0].start, "a marker begins where its series began");
        assert!(series.iter().all(|point| point.time < marker.time), "a value after the end: {series:#?}");
    }
}

fn points(collector: &Collector) -> Vec<Point> {
    received::read(&collector.received()).into_iter().flat_map(|request| request.points).collect()
}

/// Returns the points of a program, values and stale markers, in order of arrival.
fn of_program<'a>(points: &'a [Point], id: &str) -> impl Iterator<Item = &'a Point> {
    points.iter().filter(move |point| point.metric.name.starts_with("bpf_program_") && point.has("id", id))
}
