//! How the page lives: with the back button, through restarts of the exporter, and hidden.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use test_support::objects::Map;
use test_support::objects::uapi::map_type;

use crate::Test;
use crate::exporter::Exporter;
use crate::scene::Scene;
use crate::webdriver::SOON;

pub(crate) const TESTS: &[Test] = &[
    ("the_back_button_leads_through_all_that_was_seen", back),
    ("a_page_recovers_from_a_restart_of_the_exporter", restart),
    ("a_hidden_page_requests_nothing", hidden),
];

fn back() {
    let map = Map::ready(map_type::HASH, "page_back").expect("it can be made");
    let scene = Scene::open("?tab=programs");
    let browser = &scene.browser;
    let heading = "return document.querySelector('#app h1')?.innerText ?? null";
    browser.wait_for("programs", heading, &json!("Programs"));
    browser.click("#tabs a[data-tab=maps]");
    browser.wait_for("maps", heading, &json!("Maps"));
    browser.click("#filter input[type=search]");
    browser.press("page_back");
    scene.has_column("name", &["page_back".to_owned()]);
    browser.click(&format!("tr[data-key='map/{}'] th a", map.id()));
    browser.wait_for("its page", heading, &json!(format!("map {}", map.id())));
    browser.back();
    browser.wait_for("maps again", heading, &json!("Maps"));
    scene.has_column("name", &["page_back".to_owned()]);
    let filter = "return document.querySelector('#filter input[type=search]').value";
    browser.wait_for("the filter again", filter, &json!("page_back"));
    browser.back();
    browser.wait_for("programs again", heading, &json!("Programs"));
    browser.wait_for("no filter", filter, &json!(""));
    scene.is_quiet();
}

fn restart() {
    let before = Map::ready(map_type::HASH, "page_restart_1").expect("it can be made");
    let scene = Scene::open("?tab=maps&sort=name&q=page_restart");
    scene.has_column("name", &["page_restart_1".to_owned()]);
    let Scene { exporter, browser } = scene;
    let address = exporter.address();
    drop(exporter);
    let banner = "return document.querySelector('.banner p')?.innerText ?? null";
    let said: String = browser.wait("it says that the exporter has gone", banner, &[]);
    assert!(said.contains("does not answer"), "{said}");
    let rows = "return document.querySelectorAll('#rows tbody tr[data-key]').length";
    browser.wait_for("what was known stays", rows, &json!(1));
    let old = "return document.querySelector('.age.old')?.innerText ?? null";
    let age: String = browser.wait("its age is marked", old, &[]);
    assert!(age.starts_with("read "), "{age}");

    let after = Map::ready(map_type::HASH, "page_restart_2").expect("it can be made");
    let scene = Scene { exporter: Exporter::at(address), browser };
    scene.has_column("name", &["page_restart_1".to_owned(), "page_restart_2".to_owned()]);
    scene.browser.wait_for("all is well again", banner, &json!(null));
    drop((before, after));
}

/// How long a hidden page is watched: a visible one would request rows twice.
const HIDDEN: Duration = Duration::from_secs(5);

/// What the page has requested, since `clear`.
const REQUESTS: &str = "return performance.getEntriesByType('resource').length";

fn hidden() {
    let scene = Scene::open("?tab=maps");
    let browser = &scene.browser;
    let clear = || browser.run::<()>("performance.clearResourceTimings()", &[]);
    let requests = || browser.run::<u32>(REQUESTS, &[]);
    let is_live = "return performance.getEntriesByType('resource').length > 0";
    clear();
    browser.wait_for("a visible page is live", is_live, &json!(true));
    let turn = |is_hidden: bool| {
        browser.run::<()>(
            "Object.defineProperty(document, 'hidden', {configurable: true, value: arguments[0]});
            document.dispatchEvent(new Event('visibilitychange'))",
            &[json!(is_hidden)],
        );
    };
    turn(true);
    // One that is under way ends: until none was added for as long as two polls of a visible page take.
    let deadline = Instant::now() + SOON;
    loop {
        clear();
        thread::sleep(HIDDEN);
        if requests() == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "a hidden page requests nothing");
    }
    turn(false);
    browser.wait_for("it is live again", is_live, &json!(true));
    scene.is_quiet();
}
