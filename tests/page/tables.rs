//! Tables fill, sort, filter and change, also with 20,000 objects; each object has a page that is linked to what belongs to it.

use serde_json::{Value, json};
use test_support::objects::uapi::{map_type, program_type};
use test_support::objects::{Herd, Map, Program};

use crate::Test;
use crate::scene::{COLUMN, LIVE, Scene};

pub(crate) const TESTS: &[Test] = &[
    ("tables_fill_sort_and_filter", fill_sort_and_filter),
    ("objects_appear_and_disappear_while_somebody_looks", appear_and_disappear),
    ("twenty_thousand_objects_show_at_once_and_scroll_to_the_last", many),
    ("the_page_of_an_object_leads_to_what_belongs_to_it", object_pages),
    ("every_tab_shows_what_it_is_named_after", every_tab),
    ("events_show_as_they_happen", events),
];

fn fill_sort_and_filter() {
    let maps: Vec<_> = ["page_sort_b", "page_sort_a", "page_sort_c"]
        .into_iter()
        .map(|name| Map::ready(map_type::HASH, name).expect("it can be made"))
        .collect();
    let scene = Scene::open("?tab=maps");
    let browser = &scene.browser;
    browser.wait_for(
        "the table has rows",
        "return document.querySelectorAll('#rows tbody tr').length > 2",
        &json!(true),
    );

    browser.click("#filter input[type=search]");
    browser.press("page_sort ");
    let ids: Vec<_> = maps.iter().map(|map| map.id().to_string()).collect();
    let query = "return new URLSearchParams(location.search).get('q')";
    browser.wait_for("the filter is in the URL", query, &json!("page_sort"));
    browser.wait_for("three rows match", &rows(), &json!(3));
    let typed: String = browser.run("return document.querySelector('#filter input[type=search]').value", &[]);
    assert_eq!(typed, "page_sort ", "what was typed stays, for the next word");
    let summary = "return document.querySelector('.summary .figure').innerText";
    browser.wait_for(
        "the number of rows",
        &format!("return /^3 of [\\d,]+$/.test((() => {{ {summary} }})())"),
        &json!(true),
    );

    let names = |order: [&str; 3]| order.map(|letter| format!("page_sort_{letter}")).to_vec();
    browser.click("th[data-field=name] button");
    scene.has_column("name", &names(["a", "b", "c"]));
    let sorted = "return document.querySelector('th[data-field=name]').getAttribute('aria-sort')";
    browser.wait_for("the order is marked", sorted, &json!("ascending"));
    browser.click("th[data-field=name] button");
    scene.has_column("name", &names(["c", "b", "a"]));
    browser.wait_for("the other order is marked", sorted, &json!("descending"));

    // Numbers begin with the largest.
    browser.click("th[data-field=id] button");
    let mut descending = ids;
    descending.reverse();
    scene.has_column("id", &descending);

    browser.click("#filter input[type=search]");
    browser.press("_a");
    scene.has_column("name", &["page_sort_a".to_owned()]);
    browser.press("nothing_has_this_name");
    browser.wait_for("no row matches", &rows(), &json!(0));
    let empty = "return document.querySelector('.empty')?.innerText ?? null";
    browser.wait_for("it says so", empty, &json!("Nothing matches the filter."));
    scene.is_quiet();
}

/// Counts the rows in the document.
fn rows() -> String {
    "return document.querySelectorAll('#rows tbody tr[data-key]').length".to_owned()
}

fn appear_and_disappear() {
    let scene = Scene::open("?tab=programs&q=page_live");
    scene.browser.wait_for("no row", &rows(), &json!(0));
    let one = Program::ready(program_type::SOCKET_FILTER, "page_live_1").expect("it can be made");
    scene.has_column("name", &["page_live_1".to_owned()]);
    let two = Program::ready(program_type::SOCKET_FILTER, "page_live_2").expect("it can be made");
    scene.browser.wait_for("a second row", &rows(), &json!(2));
    drop(one);
    scene.has_column("name", &["page_live_2".to_owned()]);
    drop(two);
    scene.browser.wait_for("no row again", &rows(), &json!(0));
    scene.is_quiet();
}

fn many() {
    const COUNT: usize = 20_000;
    let herd = Herd::without_program_fds(COUNT, 0).expect("they can be made");
    let scene = Scene::open("?tab=programs&q=herd_p_");
    let browser = &scene.browser;
    browser.wait_for(
        "rows",
        "return document.querySelectorAll('#rows tbody tr[data-key]').length > 10",
        &json!(true),
    );
    // Once more, with the exporter's first reading done: what is measured is the page.
    scene.show("?tab=programs&q=herd_p_&sort=id");
    let times: Value = browser.run(
        "const [page] = performance.getEntriesByType('navigation');
        const paint = performance.getEntriesByName('first-contentful-paint')[0];
        const live = performance.getEntriesByName('live')[0];
        return {response: page.responseEnd, painted: paint?.startTime ?? null, live: live.startTime}",
        &[],
    );
    report(&format!("{COUNT} programs: {times} ms after navigation"));

    let in_document = "return document.querySelectorAll('#rows tbody tr').length";
    let bounded = |place: &str| {
        let rows: usize = browser.run(in_document, &[]);
        assert!((10..100).contains(&rows), "{rows} rows in the document at {place}");
    };
    bounded("the top");
    let total = "return document.querySelector('#rows').getAttribute('aria-rowcount')";
    // With its heading.
    browser.wait_for("the number of rows", total, &json!((COUNT + 1).to_string()));

    // The highest ids come first: the last row is the first program.
    let newest = scene.column("id");
    assert!(newest.is_sorted_by_key(|id| std::cmp::Reverse(id.parse::<u32>().expect("an id"))), "{newest:?}");
    browser.run::<()>("document.querySelector('#app .scroll').scrollTo({top: 1e9})", &[]);
    let last = "const rows = document.querySelectorAll('#rows tbody tr');
        return rows[rows.length - 1]?.getAttribute('aria-rowindex') === arguments[0]
            && rows[rows.length - 1].dataset.key !== undefined";
    let _true: bool = browser.wait("the last row", last, &[json!((COUNT + 1).to_string())]);
    bounded("the end");
    let names: Option<Vec<String>> = browser.run(COLUMN, &[json!("name")]);
    let names = names.expect("there is a column with names");
    assert_eq!(names.last().map(String::as_str), Some("herd_p_00000"), "{names:?}");
    let visible =
        "const row = [...document.querySelectorAll('#rows tbody tr')].at(-1).getBoundingClientRect();
        const region = document.querySelector('#app .scroll').getBoundingClientRect();
        return row.top >= region.top && row.bottom <= region.bottom + 1";
    assert!(browser.run::<bool>(visible, &[]), "the last row is visible");

    let frames: Value = {
        browser.run::<()>(
            "const region = document.querySelector('#app .scroll');
            region.scrollTo({top: 0});
            const times = [];
            let last;
            const step = (now) => {
                if (last !== undefined) times.push(now - last);
                last = now;
                region.scrollTop += 200;
                if (times.length < 200) requestAnimationFrame(step);
                else window.frameTimes = times.sort((one, other) => one - other);
            };
            requestAnimationFrame(step)",
            &[],
        );
        browser.wait(
            "200 frames",
            "const times = window.frameTimes;
            return times === undefined ? null : {median: times[100], most: times[199]}",
            &[],
        )
    };
    report(&format!("{COUNT} programs, scrolled by 40,000 pixels: {frames} ms per frame"));

    // A place in the middle, without the way there.
    let half = format!("document.querySelector('#app .scroll').scrollTo({{top: {}}})", COUNT * 15);
    browser.run::<()>(&half, &[]);
    let filled = "const region = document.querySelector('#app .scroll').getBoundingClientRect();
        const rows = [...document.querySelectorAll('#rows tbody tr[data-key]')].map((row) => row.getBoundingClientRect());
        return rows.length > 0 && rows[0].top <= region.top + 40 && rows.at(-1).bottom >= region.bottom";
    let _true: bool = browser.wait("rows in the middle", filled, &[]);
    bounded("the middle");
    scene.is_quiet();
    drop(herd);
}

#[expect(clippy::print_stderr, reason = "a figure that is reported, not required")]
fn report(figure: &str) {
    eprintln!("{figure}");
}

fn object_pages() {
    let map = Map::ready(map_type::HASH, "page_object_map").expect("it can be made");
    let program = Program::using("page_object", &[&map]).expect("it can be made");
    let scene = Scene::open("?tab=programs&q=page_object");
    let browser = &scene.browser;
    scene.has_column("name", &["page_object".to_owned()]);
    browser.click(&format!("tr[data-key='program/{}'] th a", program.id()));
    let heading = "return document.querySelector('#app h1').innerText";
    browser.wait_for("its page", heading, &json!(format!("program {}", program.id())));
    let known = "return document.querySelector('#app .sheet')?.innerText.includes(arguments[0])";
    for text in ["page_object", "bpf_program_mem_bytes", "page_object_map"] {
        let _true: bool = browser.wait(&format!("{text:?} on its page"), known, &[json!(text)]);
    }
    browser.click(&format!("tr[data-key='map/{}'] th a", map.id()));
    browser.wait_for("the page of its map", heading, &json!(format!("map {}", map.id())));
    let _true: bool = browser.wait("what uses the map", known, &[json!("page_object")]);
    let owner = "return [...document.querySelectorAll('#app .words a')].some((link) => link.search.startsWith('?key=owner/'))";
    let _true: bool = browser.wait("its owner", owner, &[]);
    browser.click("#app .words a[href^='?key=owner/']");
    let _true: bool = browser.wait(
        "the page of its owner",
        "return new URLSearchParams(location.search).get('key').startsWith('owner/')
            && document.querySelector('#app .figures') !== null",
        &[],
    );
    scene.is_quiet();

    scene.show(&format!("?key=map/{}", map.id()));
    let id = map.id();
    drop((program, map));
    let gone =
        "return document.querySelector('.banner p')?.innerText.startsWith('It no longer exists') ?? false";
    let _true: bool = scene.browser.wait(&format!("map {id} has gone"), gone, &[]);
}

fn every_tab() {
    let program = Program::ready(program_type::SOCKET_FILTER, "page_tab").expect("it can be made");
    let scene = Scene::open("");
    let browser = &scene.browser;
    for (tab, title) in [
        ("programs", "Programs"),
        ("maps", "Maps"),
        ("links", "Links"),
        ("owners", "Owners"),
        ("hooks", "Hooks"),
        ("orphans", "Orphans"),
        ("btfs", "BTF objects"),
        ("events", "Events"),
        ("exporter", "Exporter"),
    ] {
        browser.click(&format!("#tabs a[data-tab={tab}]"));
        browser.wait_for(tab, "return document.querySelector('#app h1').innerText", &json!(title));
        let _true: bool = browser.wait(tab, LIVE, &[]);
        let current = "return document.querySelector('#tabs a[aria-current]').dataset.tab";
        browser.wait_for("the tab is marked", current, &json!(tab));
        let titled: String = browser.run("return document.title", &[]);
        assert!(titled.starts_with(title), "{titled}");
    }
    for text in ["--web.listen-address", "bpf_exporter_", "works"] {
        let known = "return document.querySelector('#app').innerText.includes(arguments[0])";
        let _true: bool = browser.wait(&format!("{text:?} of the exporter"), known, &[json!(text)]);
    }
    scene.is_quiet();
    drop(program);
}

fn events() {
    let scene = Scene::open("?tab=events&q=page_event");
    let browser = &scene.browser;
    let live = "return document.querySelector('.summary .state')?.innerText ?? null";
    browser.wait_for("it is connected", live, &json!("live"));
    let program = Program::ready(program_type::SOCKET_FILTER, "page_event").expect("it can be made");
    let seen = "return [...document.querySelectorAll('#rows tbody tr')].some((row) => row.innerText.includes(arguments[0]))";
    let _true: bool = browser.wait("its load", seen, &[json!("program.load")]);
    drop(program);
    let _true: bool = browser.wait("its end", seen, &[json!("program.unload")]);
    scene.is_quiet();
}
