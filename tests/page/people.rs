//! Whoever uses it: by keyboard, with a screen reader, on a telephone, without JavaScript, in light and dark.

use std::fs;

use serde_json::{Value, json};
use test_support::objects::uapi::{map_type, program_type};
use test_support::objects::{Map, Program};

use crate::Test;
use crate::scene::{LIVE, Scene, TABS};
use crate::webdriver::{self, key};

pub(crate) const TESTS: &[Test] = &[
    ("everything_can_be_done_with_the_keyboard", keyboard),
    ("axe_finds_no_violation_in_light_and_dark", accessible),
    ("nothing_is_beyond_the_edge_at_400_pixels", narrow),
    ("tables_are_readable_without_javascript", without_script),
    ("the_theme_is_that_of_the_system_or_the_chosen_one", themes),
];

/// Returns a name of what has the focus.
const FOCUS: &str = "
    const focused = document.activeElement;
    if (focused === document.body) return 'body';
    const row = focused.closest('tbody tr[data-key]');
    if (row !== null) return row.dataset.key;
    const heading = focused.closest('thead th');
    if (heading !== null) return `heading ${heading.dataset.field}`;
    return focused.getAttribute('aria-label') ?? focused.innerText.trim() ?? focused.tagName";

/// Returns whether one can see what has the focus.
const IS_MARKED: &str = "
    const focused = document.activeElement;
    const style = getComputedStyle(focused);
    const box = focused.getBoundingClientRect();
    return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2
        && box.width > 0 && box.right > 0 && box.left < innerWidth && box.bottom > 0 && box.top < innerHeight";

fn keyboard() {
    let programs: Vec<_> = (0..60)
        .map(|number| {
            Program::ready(program_type::SOCKET_FILTER, &format!("page_key_{number:02}"))
                .expect("it can be made")
        })
        .collect();
    let scene = Scene::open("?tab=programs&sort=name&q=page_key");
    let browser = &scene.browser;
    let focus = || -> String { browser.run(FOCUS, &[]) };
    let key_of = |index: usize| format!("program/{}", programs[index].id());
    let _true: bool =
        browser.wait("rows", "return document.querySelectorAll('tr[data-key]').length > 10", &[]);

    // From the first to the last: each stop can be seen, none is a trap, and a long table is few stops.
    let mut stops = Vec::new();
    loop {
        browser.press(key::TAB);
        let stop = focus();
        if stop == "body" || stops.len() > 60 {
            break;
        }
        assert!(browser.run::<bool>(IS_MARKED, &[]), "the focus on {stop:?} cannot be seen, after {stops:?}");
        stops.push(stop);
    }
    assert!(stops.len() < 50, "{stops:?}");
    assert_eq!(stops[0], "Skip to content");
    for expected in ["Filter", "Programs", "heading name", &key_of(0), "Metrics"] {
        assert!(stops.iter().any(|stop| stop == expected), "no stop at {expected:?} of {stops:?}");
    }

    browser.press("/");
    assert_eq!(focus(), "Filter");
    browser.press(key::ESCAPE);
    browser.wait_for(
        "Escape empties the filter",
        "return new URLSearchParams(location.search).get('q')",
        &Value::Null,
    );
    assert_eq!(focus(), "Filter");
    browser.press("page_key");
    let matching = "return document.querySelector('#rows').getAttribute('aria-rowcount')";
    browser.wait_for("the filter applies", matching, &json!("61"));
    let _true: bool = browser.wait("rows", LIVE, &[]);
    while focus() != "Programs" {
        browser.press(key::TAB);
    }
    browser.press(key::DOWN);
    browser.wait_for("Down enters the table", FOCUS, &json!(key_of(0)));
    browser.press(key::DOWN);
    browser.wait_for("Down is the next row", FOCUS, &json!(key_of(1)));
    browser.press(key::UP);
    browser.wait_for("Up is the row before", FOCUS, &json!(key_of(0)));
    browser.press(key::END);
    browser.wait_for("End is the last row", FOCUS, &json!(key_of(59)));
    assert!(browser.run::<bool>(IS_MARKED, &[]), "the last row is visible");
    browser.press(key::HOME);
    browser.wait_for("Home is the first row", FOCUS, &json!(key_of(0)));
    browser.press(key::DOWN);
    browser.wait_for("the second row", FOCUS, &json!(key_of(1)));

    browser.press(key::ENTER);
    let heading = "return document.activeElement.tagName === 'H1' && document.activeElement.innerText";
    browser.wait_for("Enter opens it", heading, &json!(format!("program {}", programs[1].id())));
    browser.back();
    browser.wait_for("back is where it was", FOCUS, &json!(key_of(1)));

    browser.run::<()>("document.querySelector('th[data-field=name] button').focus()", &[]);
    browser.press(key::ENTER);
    let sorted = "return document.querySelector('th[data-field=name]').getAttribute('aria-sort')";
    browser.wait_for("Enter sorts", sorted, &json!("descending"));
    browser.press(" ");
    browser.wait_for("Space sorts", sorted, &json!("ascending"));
    browser.press("?");
    browser.wait_for("the keys", "return document.querySelector('dialog')?.open ?? false", &json!(true));
    browser.press(key::ESCAPE);
    browser.wait_for("Escape closes them", "return document.querySelector('dialog').open", &json!(false));
    scene.is_quiet();
}

fn prefers(scene: &Scene, scheme: &str) {
    let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
    scene.browser.devtools("Emulation.setEmulatedMedia", &features);
}

fn accessible() {
    let map = Map::ready(map_type::HASH, "page_axe_map").expect("it can be made");
    let program = Program::using("page_axe", &[&map]).expect("it can be made");
    let axe = fs::read_to_string(webdriver::axe()).expect("it is there");
    let scene = Scene::open("");
    let mut parts: Vec<_> = TABS.map(|tab| format!("?tab={tab}")).to_vec();
    parts.push(format!("?key=program/{}", program.id()));
    parts.push(format!("?key=map/{}", map.id()));
    parts.push("?tab=maps&q=nothing_has_this_name".to_owned());
    for part in &parts {
        scene.show(part);
        scene.browser.run::<()>(&axe, &[]);
        for scheme in ["light", "dark"] {
            prefers(&scene, scheme);
            // The colours change over some milliseconds.
            scene
                .browser
                .run::<()>("document.getAnimations().forEach((animation) => animation.finish())", &[]);
            scene.browser.run::<()>(
                "window.found = null;
                axe.run({resultTypes: ['violations']}).then(
                    (results) => { window.found = results; },
                    (error) => { window.found = {error: String(error)}; })",
                &[],
            );
            let found: Value = scene.browser.wait("axe has looked", "return window.found", &[]);
            let violations = found["violations"].as_array().unwrap_or_else(|| panic!("{part}: {found}"));
            let violations: Vec<_> = violations.iter().map(of_violation).collect();
            assert!(violations.is_empty(), "{part} in {scheme}: {violations:#?}");
            assert!(
                found["passes"].as_array().is_some_and(|rules| rules.len() > 10),
                "{part}: it looked at little"
            );
        }
    }
}

fn of_violation(violation: &Value) -> String {
    let nodes = violation["nodes"].as_array().into_iter().flatten();
    let nodes: Vec<_> =
        nodes.take(3).map(|node| format!("{} {}", node["html"], node["failureSummary"])).collect();
    format!("{}: {nodes:?}", violation["id"])
}

fn narrow() {
    let map = Map::ready(map_type::HASH, "page_narrow_map").expect("it can be made");
    let program = Program::using("page_narrow_one", &[&map]).expect("it can be made");
    let scene = Scene::open("");
    let size = json!({"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": true});
    scene.browser.devtools("Emulation.setDeviceMetricsOverride", &size);
    let mut parts: Vec<_> = TABS.map(|tab| format!("?tab={tab}")).to_vec();
    parts.push(format!("?key=program/{}", program.id()));
    parts.push(format!("?key=map/{}", map.id()));
    for part in &parts {
        scene.show(part);
        let widths: (u32, u32) = scene.browser.run(
            "return [innerWidth, Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)]",
            &[],
        );
        assert_eq!(widths, (400, 400), "{part}");
    }
    scene.show("?tab=programs&q=page_narrow");
    scene.has_column("name", &["page_narrow_one".to_owned()]);
    scene.is_quiet();
}

fn without_script() {
    let map = Map::ready(map_type::HASH, "page_plain_map").expect("it can be made");
    let scene = Scene::open("");
    scene.browser.devtools("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    scene.browser.go(&scene.exporter.url("?tab=maps&q=page_plain"));
    let row = format!("tr[data-key='map/{}']", map.id());
    let plain: Value = scene.browser.run(
        "const row = document.querySelector(arguments[0]);
        return {
            isLive: document.documentElement.classList.contains('live'),
            text: row?.innerText ?? null,
            headings: [...document.querySelectorAll('#rows thead th')].map((heading) => heading.innerText.trim()),
            isVisible: row?.checkVisibility() ?? false,
        }",
        &[json!(row)],
    );
    assert_eq!(plain["isLive"], false, "{plain}");
    assert_eq!(plain["isVisible"], true, "{plain}");
    assert!(plain["text"].as_str().is_some_and(|text| text.contains("page_plain_map")), "{plain}");
    assert!(plain["headings"].as_array().is_some_and(|all| all.contains(&json!("Name"))), "{plain}");

    // A link leads to its page, and a link to the other order.
    scene.browser.click(&format!("{row} th a"));
    let _true: bool = scene.browser.wait(
        "its page",
        "return document.body.innerText.includes(arguments[0])",
        &[json!("bpf_map_mem_bytes")],
    );
    scene.browser.go(&scene.exporter.url("?tab=maps&q=page_plain"));
    scene.browser.click("th[data-field=name] a");
    let sorted = "return document.querySelector('th[data-field=name]')?.getAttribute('aria-sort') ?? null";
    scene.browser.wait_for("the order", sorted, &json!("ascending"));
}

fn themes() {
    let scene = Scene::open("");
    let ground = "return getComputedStyle(document.body).backgroundColor";
    let dark = "rgb(14, 17, 22)";
    let light = "rgb(255, 255, 255)";
    prefers(&scene, "light");
    scene.browser.wait_for("the system is light", ground, &json!(light));
    prefers(&scene, "dark");
    scene.browser.wait_for("the system is dark", ground, &json!(dark));
    scene.browser.click("#theme");
    scene.browser.wait_for("light is chosen", ground, &json!(light));
    scene.show("?tab=maps");
    scene.browser.wait_for("light stays chosen", ground, &json!(light));
    scene.browser.click("#theme");
    prefers(&scene, "light");
    scene.browser.wait_for("dark is chosen", ground, &json!(dark));
    scene.is_quiet();
}
