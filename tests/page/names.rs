//! Names that others chose do no harm, and nothing is fetched from elsewhere.

use std::ffi::CStr;

use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::objects::uapi::map_type;
use test_support::objects::{Map, Mount};

use crate::Test;
use crate::scene::{Scene, TABS, hold_as};

pub(crate) const TESTS: &[Test] = &[
    ("names_that_are_markup_or_control_characters_are_text", hostile),
    ("nothing_is_requested_from_elsewhere", own_origin),
];

const BPF: &CStr = c"bpf";

/// The name of a process has 15 bytes at most, so each is one attack.
const PROCESSES: [(&str, &str); 4] = [
    ("<svg onload=x>", "<svg onload=x>"),
    ("</td><script>", "</td><script>"),
    ("\"'><i id=hurt>", "\"'><i id=hurt>"),
    ("a\u{1b}[2J\u{202e}b", "a\\x1b[2J\\u{202e}b"),
];

/// The name of a pin has no full stop.
const PIN: &str = "<img src=x onerror=alert(1)>&amp;";

fn hostile() {
    let folder = TempDir::new().expect("a folder");
    let mount = Mount::visible(BPF, folder.path()).expect("a BPF file system");
    let mut maps: Vec<_> = (0..PROCESSES.len())
        .map(|number| Map::ready(map_type::HASH, &format!("page_hurt_{number}")).expect("it can be made"))
        .collect();
    let _holders: Vec<_> = PROCESSES.iter().zip(&maps).map(|((name, _), map)| hold_as(name, map)).collect();
    let _pin = maps[0].pin(&mount.path().join(PIN)).expect("it can be pinned");
    let ids: Vec<_> = maps.iter().map(Map::id).collect();
    // All but the pinned one belong to their processes alone.
    maps.truncate(1);
    let scene = Scene::open("?tab=maps&q=page_hurt&sort=name");
    let browser = &scene.browser;
    browser.run::<()>("document.querySelector('.check:last-child input').click()", &[]);
    let texts =
        "return [...document.querySelectorAll('#rows tbody tr[data-key]')].map((row) => row.innerText)";
    let _true: bool = browser.wait(
        "every process is named",
        "return arguments[0].every((name) => document.querySelector('#rows').innerText.includes(name))",
        &[json!(PROCESSES.map(|(_, shown)| shown))],
    );
    let rows: Vec<String> = browser.run(texts, &[]);
    assert_eq!(rows.len(), PROCESSES.len(), "{rows:#?}");

    let harm = "return [...document.querySelectorAll('svg[onload], img, script:not([src]), #hurt, [onerror], [onload]')]
        .map((element) => element.outerHTML)";
    let is_unharmed = |place: &str| {
        let harm: Vec<String> = browser.run(harm, &[]);
        assert_eq!(harm, Vec::<String>::new(), "{place}");
        let title: String = browser.run("return document.title", &[]);
        assert!(title.contains("bpf-metrics-exporter"), "{place}: {title}");
    };
    is_unharmed("the table");
    for (id, (_, shown)) in ids.iter().zip(PROCESSES) {
        scene.show(&format!("?key=map/{id}"));
        let named = "return document.querySelector('#app').innerText.includes(arguments[0])";
        let _true: bool = browser.wait("the process is named", named, &[json!(shown)]);
        is_unharmed("the page of a map");
    }
    scene.show(&format!("?key=map/{}", maps[0].id()));
    let named = "return document.querySelector('#app').innerText.includes(arguments[0])";
    let _true: bool = browser.wait("the pin is named", named, &[json!(PIN)]);
    is_unharmed("the page of a pinned map");

    // An owner may have any name, and a page of its own.
    let (_, owner) = PROCESSES[1];
    let link = "return [...document.querySelectorAll('#app .words a')].find((link) => link.innerText === arguments[0])?.href ?? null";
    scene.show(&format!("?key=map/{}", ids[1]));
    let _url: String = browser.wait("its process is its owner", link, &[json!(owner)]);
    browser.run::<()>("[...document.querySelectorAll('#app .words a')].find((link) => link.innerText === arguments[0]).click()", &[json!(owner)]);
    let title = "return document.querySelector('#app h1').innerText.includes(arguments[0]) && document.querySelector('.figures') !== null";
    let _true: bool = browser.wait("the page of the owner", title, &[json!(owner)]);
    is_unharmed("the page of an owner");

    // What is typed is text as well, also in the plain page.
    scene.show("?tab=maps&q=%3Cimg%20src=x%20onerror=alert(1)%3E");
    is_unharmed("a filter");
    scene.is_quiet();
}

fn own_origin() {
    let map = Map::ready(map_type::HASH, "page_origin").expect("it can be made");
    let scene = Scene::open("");
    for tab in TABS {
        scene.show(&format!("?tab={tab}"));
    }
    scene.show("?tab=programs");
    let polled = "return performance.getEntriesByType('resource').filter((entry) => \
                  entry.name.includes('/api/v1/objects')).length > 1";
    scene.browser.wait::<bool>("the rows are requested once more", polled, &[]);
    scene.show(&format!("?key=map/{}", map.id()));
    let origin = scene.exporter.url("");
    let fetched: Vec<String> =
        scene.browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)", &[]);
    let requests = scene.browser.requests();
    assert!(requests.len() > 20 && fetched.len() > 3, "{requests:?} {fetched:?}");
    let elsewhere: Vec<_> = requests
        .iter()
        .chain(&fetched)
        // The page of an empty tab is the browser's own.
        .filter(|url| ![&*origin, "chrome://", "data:"].iter().any(|start| url.starts_with(start)))
        .collect();
    assert_eq!(elsewhere, Vec::<&String>::new());
    let policy: Value = scene.browser.run(
        "return fetch(location.href).then((answer) => answer.headers.get('content-security-policy'))",
        &[],
    );
    assert!(policy.as_str().is_some_and(|policy| policy.contains("default-src 'none'")), "{policy}");
    scene.is_quiet();
}
