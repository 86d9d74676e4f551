//! The page as HTML: complete without a script, harmless whatever objects are called, and protected in the browser.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::events::Events;
use bpf_metrics_exporter::metrics::columns::TableKind;
use bpf_metrics_exporter::metrics::select::Selected;
use bpf_metrics_exporter::model::{
    BootTime, Event, EventKind, EventSource, SettingInForce, SettingOrigin, Snapshot, Subject,
};
use bpf_metrics_exporter::web;
use test_support::golden::{large, snapshot, with_shared_map};

use super::{Server, get, refused, request, serve, serve_with, settings};

/// Returns the path of the file of the front end with this extension, as the page refers to it.
pub(super) fn asset(extension: &str) -> String {
    let server = serve(snapshot());
    let page = get(server.address, "/", "").2;
    let mut files = page.split('"').filter(|text| text.starts_with("assets/"));
    let file = files.find(|file| Path::new(file).extension().is_some_and(|found| found == extension));
    format!("/{}", file.expect("the page has one"))
}

/// Returns what attributes of this name have for values in a page.
fn values<'a>(page: &'a str, name: &str) -> Vec<String> {
    let start = format!(" {name}=\"");
    let values = page.split(&*start).skip(1).map(|rest: &'a str| rest.split('"').next().unwrap_or_default());
    values.map(|value| value.replace("&amp;", "&").replace("&#39;", "'").replace("&quot;", "\"")).collect()
}

/// Follows every link of the page, and returns the address and the text of each page.
fn crawl(server: &Server) -> Vec<(String, String)> {
    let mut queue = VecDeque::from(["/".to_owned()]);
    let mut seen = BTreeSet::from(["/".to_owned()]);
    let mut pages = Vec::new();
    while let Some(path) = queue.pop_front() {
        // A stream has no end.
        if path == "/api/v1/events" {
            continue;
        }
        let (status, head, text) = get(server.address, &path, "");
        // What an object refers to may be gone, or may not be readable.
        if status == 404 && path.starts_with("/?key=") {
            continue;
        }
        assert_eq!(status, 200, "{path}: {text}");
        if !head.contains("content-type: text/html") {
            continue;
        }
        for link in values(&text, "href").into_iter().filter(|link| !link.starts_with('#')) {
            // Sorted and filtered, each table is a thousand pages.
            if link.contains("sort=") && seen.len() > 120 {
                continue;
            }
            let link = match link.trim_start_matches('.') {
                link if link.starts_with('/') => link.to_owned(),
                link => format!("/{link}"),
            };
            if seen.insert(link.clone()) {
                queue.push_back(link);
            }
        }
        pages.push((path, text));
    }
    pages
}

/// Every tag that the page is made of.
const TAGS: [&str; 38] = [
    "a", "body", "button", "caption", "dd", "div", "dl", "dt", "footer", "form", "h1", "h2", "head",
    "header", "html", "input", "label", "li", "link", "main", "meta", "nav", "option", "p", "script",
    "section", "select", "span", "table", "tbody", "td", "th", "thead", "title", "tr", "ul", "!DOCTYPE",
    "svg",
];

/// Panics if a page has a tag, an attribute or a character that the program does not write.
fn assert_harmless(path: &str, page: &str) {
    assert!(
        !page.contains(|character| character != '\n' && bpf_metrics_exporter::text::is_invisible(character))
    );
    assert_eq!(page.matches("<script").count(), 1, "{path}");
    for tag in page.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("{path}: <{tag} has no end"));
        let name = tag.trim_start_matches('/').split([' ', '\n']).next().unwrap_or_default();
        assert!(TAGS.contains(&name), "{path}: <{tag}>");
        // Outside of quotes there are names of attributes only.
        for (number, part) in tag.split('"').enumerate().filter(|(number, _)| number % 2 == 0) {
            let attribute = part.trim().trim_end_matches('=');
            let is_plain = number == 0
                || attribute.chars().all(|character| character.is_ascii_lowercase() || character == '-');
            assert!(is_plain && !attribute.starts_with("on") && attribute != "style", "{path}: <{tag}>");
        }
    }
}

#[test]
fn every_link_of_the_page_leads_somewhere_and_every_object_has_a_page() {
    let server = serve(snapshot());
    let pages = crawl(&server);
    let paths: BTreeSet<_> = pages.iter().map(|(path, _)| &**path).collect();
    for kind in TableKind::ALL {
        assert!(paths.contains(&*format!("/?tab={}", kind.as_str())), "{}", kind.as_str());
        let url = format!("/api/v1/objects?kind={}&limit=1000", kind.as_str());
        let rows: serde_json::Value = serde_json::from_str(&get(server.address, &url, "").2).expect("JSON");
        for row in rows["rows"].as_array().expect("rows") {
            let key = row["key"].as_str().expect("a key");
            let page = pages.iter().find(|(path, page)| {
                path.starts_with("/?key=")
                    && values(page, "data-key").first().is_some_and(|found| found == key)
            });
            let (_, page) = page.unwrap_or_else(|| panic!("{key} has no page"));
            assert!(page.contains("class=\"facts\""), "{key} has facts");
        }
    }
    for (path, page) in &pages {
        assert_harmless(path, page);
        assert!(page.contains("<h1>") && page.contains("id=\"tabs\""), "{path}");
    }
}

#[test]
fn an_object_is_linked_to_all_that_belongs_to_it() {
    let server = serve(snapshot());
    let objects = get(server.address, "/api/v1/objects?kind=programs", "").2;
    let objects: serde_json::Value = serde_json::from_str(&objects).expect("it is JSON");
    let rows = objects["rows"].as_array().expect("rows");
    let program = rows.iter().find(|row| row.get("map_ids").is_some()).expect("one uses a map");
    let page = get(server.address, &format!("/?key={}", program["key"].as_str().expect("a key")), "").2;
    let map = format!("?key=map/{}", program["map_ids"][0]);
    assert!(values(&page, "href").contains(&map), "{page}");
    let owner = format!("?key=owner/{}/", program["owner_kind"].as_str().expect("it has an owner"));
    assert!(values(&page, "href").iter().any(|link| link.starts_with(&owner)), "{page}");
    let page = get(server.address, &format!("/{map}"), "").2;
    let back = format!("?key=program/{}", program["id"]);
    assert!(values(&page, "href").contains(&back), "{page}");
}

/// A snapshot of objects with names that are markup, scripts, control and invisible characters, and no plain text.
fn hostile() -> Snapshot {
    let names = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "'&lt;!--",
        "\u{1b}[2J\u{7}",
        "\u{202e}\u{2066}gnp.exe",
        "</table></main>",
        "javascript:alert(1)",
    ];
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(test_support::golden::SNAPSHOT));
    let mut value: serde_json::Value = serde_json::from_str(&text.expect("it is there")).expect("it is JSON");
    let mut next = names.into_iter().cycle();
    let words = ["name", "path", "unit", "pod", "container", "namespace", "comm", "device"];
    replace(&mut value, &mut |key, text| {
        if words.contains(&key) {
            next.next().expect("it has no end").clone_into(text);
        }
    });
    serde_json::from_value(value).expect("names may be anything")
}

/// Changes every text in a document, by its key.
fn replace(value: &mut serde_json::Value, change: &mut impl FnMut(&str, &mut String)) {
    match value {
        serde_json::Value::Array(values) => values.iter_mut().for_each(|value| replace(value, change)),
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    serde_json::Value::String(text) => change(key, text),
                    other => replace(other, change),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn names_that_are_markup_or_invisible_do_no_harm() {
    let events = Events::default();
    let subject =
        Subject { name: Some("<script>alert(2)</script>\u{202e}".to_owned()), ..Subject::default() };
    let times = (BootTime(1), BootTime(2));
    events.publish(vec![Event::new(EventKind::ProgramLoad, EventSource::Kernel, times, subject)]);
    let setting = SettingInForce {
        name: "--node-name".to_owned(),
        value: "<script>alert(3)</script>\u{1b}".to_owned(),
        origin: SettingOrigin::Flag,
    };
    let with = web::Settings { events, settings: [setting].into(), ..settings() };
    let server = serve_with(with, hostile, Selected::all);
    let pages = crawl(&server);
    assert!(pages.len() > 20, "{}", pages.len());
    for (path, page) in &pages {
        assert_harmless(path, page);
    }
    let has = |text: &str| pages.iter().any(|(_, page)| page.contains(text));
    for escaped in [
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "&lt;script&gt;alert(2)&lt;/script&gt;",
        "&lt;script&gt;alert(3)&lt;/script&gt;",
        "\\u{202e}",
        "\\x1b",
        "&lt;/table&gt;",
    ] {
        assert!(has(escaped), "{escaped} is shown as text");
    }
    let filtered = get(server.address, "/?tab=maps&q=%22%3E%3Cscript%3E", "").2;
    assert_harmless("a filter", &filtered);
    let (status, head, problem) = get(server.address, "/?key=%3Cscript%3E%0a", "");
    assert_eq!(status, 400);
    assert!(head.contains("content-type: text/plain") && head.contains("nosniff"), "{head}");
    assert_eq!(problem.lines().count(), 1, "{problem}");
}

#[test]
fn browsers_run_nothing_but_the_script_of_the_page_and_send_nothing_elsewhere() {
    let server = serve(snapshot());
    for path in
        ["/", "/?tab=exporter", "/api/v1/objects?kind=maps", "/api/v1/status", &asset("js"), &asset("svg")]
    {
        let (status, head, _) = get(server.address, path, "");
        assert_eq!(status, 200, "{path}");
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'\r",
            "x-content-type-options: nosniff\r",
            "referrer-policy: no-referrer\r",
            "cross-origin-opener-policy: same-origin\r",
            "cross-origin-resource-policy: same-origin\r",
            "x-frame-options: deny\r",
        ] {
            assert!(format!("{head}\r").contains(header), "{path}: {head}");
        }
        assert!(!head.contains("access-control"), "{path}: {head}");
    }
    for (path, page) in &crawl(&server) {
        for url in values(page, "href").iter().chain(&values(page, "src")) {
            assert!(!url.contains("://") && !url.starts_with("//"), "{path}: {url}");
        }
    }
}

#[test]
fn files_of_the_front_end_are_kept_by_their_hash_and_compressed() {
    let server = serve(snapshot());
    for (extension, media_type) in [("js", "text/javascript"), ("css", "text/css"), ("svg", "image/svg+xml")]
    {
        let path = asset(extension);
        let (status, head, body) = request(server.address, "GET", &path, "");
        assert_eq!(status, 200, "{path}");
        assert!(head.contains(&format!("content-type: {media_type}")), "{head}");
        assert!(head.contains("cache-control: private, max-age=31536000, immutable"), "{head}");
        let file = if extension == "svg" { "icon.svg".to_owned() } else { format!("page.{extension}") };
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/page/ui/dist").join(file);
        assert_eq!(body, fs::read(built).expect("it is built"));
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("it has a tag");
        let known = format!("If-None-Match: \"other\", {}\r\n", tag.replace("w/", "W/"));
        let (status, head, body) = request(server.address, "GET", &path, &known);
        assert_eq!((status, body.len()), (304, 0), "{head}");
        let (_, head, zipped) = request(server.address, "GET", &path, "Accept-Encoding: gzip\r\n");
        assert!(head.contains("content-encoding: gzip") && head.contains("vary: accept-encoding"), "{head}");
        assert!(zipped.starts_with(b"\x1f\x8b"));
        let (status, _, body) = request(server.address, "HEAD", &path, "");
        assert_eq!((status, body.len()), (200, 0));
        let (name, _) = path.rsplit_once('.').expect("an extension");
        assert_eq!(get(server.address, &format!("{name}.map"), "").0, 404);
    }
    assert_eq!(get(server.address, "/assets/page.0000000000000000.js", "").0, 404);
    assert_eq!(get(server.address, "/assets/../Cargo.toml", "").0, 404);
}

#[test]
fn without_the_page_there_are_links_only() {
    let off = web::Settings { page: false, ..settings() };
    let server = serve_with(off, snapshot, Selected::all);
    let (status, head, page) = get(server.address, "/", "");
    assert_eq!(status, 200);
    assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
    for expected in ["<li>program: 4</li>", "href=\"./metrics\"", "href=\"api/v1/events\"", "Version 1.2.3"] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    assert!(!page.contains("<script"), "{page}");
    for path in [
        "/api/v1/objects?kind=maps",
        "/api/v1/object?key=program/1",
        "/api/v1/snapshot",
        "/api/v1/status",
        "/api/v1/tables",
        &asset("js"),
    ] {
        assert_eq!(get(server.address, path, "").0, 404, "{path}");
    }
    assert_eq!(request(server.address, "HEAD", "/api/v1/events", "").0, 200, "it is no part of the page");
}

#[test]
fn a_table_that_could_not_be_read_says_so() {
    let server = serve(refused());
    let page = get(server.address, "/?tab=maps", "").2;
    assert!(page.contains("This table could not be read") && page.contains("?tab=exporter"), "{page}");
    let page = get(server.address, "/?tab=exporter", "").2;
    assert!(page.contains("Not ready"), "{page}");
    let (status, head, problem) = get(server.address, "/api/v1/objects?kind=maps", "");
    assert_eq!(status, 503);
    assert!(
        head.contains("retry-after") && problem == "the table of maps could not be read\n",
        "{head} {problem}"
    );
    // Its objects may exist: nothing says that they are gone.
    for path in ["/api/v1/object?key=map/1", "/?key=map/1"] {
        let (status, head, problem) = get(server.address, path, "");
        assert_eq!(status, 503, "{path}");
        assert!(
            head.contains("retry-after") && problem == "the table of maps could not be read\n",
            "{head} {problem}"
        );
    }
}

#[test]
fn ids_in_a_cell_are_bounded_and_counted() {
    let server = serve(with_shared_map(50));
    for path in ["/?tab=maps", "/?key=map/1", "/?key=program/7"] {
        let page = get(server.address, path, "").2;
        let row = page.split("<tr ").find(|row| row.starts_with("data-key=\"map/1\"")).expect("a row");
        let row = row.split("</tr>").next().expect("its end");
        let links = values(row, "href").iter().filter(|link| link.starts_with("?key=program/")).count();
        assert_eq!(links, 20, "{path}: {row}");
        assert!(row.contains("</a> +30</td>"), "{path}: {row}");
    }
}

#[test]
fn no_answer_is_taken_for_another_type() {
    let server = serve(snapshot());
    for path in ["/", "/metrics", "/-/ready", "/nothing", "/api/v1/objects", "/api/v1/snapshot", &asset("js")]
    {
        let (_, head, _) = get(server.address, path, "");
        assert_eq!(head.matches("x-content-type-options: nosniff").count(), 1, "{path}: {head}");
    }
    let (_, head, _) = request(server.address, "HEAD", "/api/v1/events", "");
    assert_eq!(head.matches("x-content-type-options: nosniff").count(), 1, "{head}");
}

#[test]
fn wrong_parameters_of_the_page_are_refused_and_those_of_others_are_not() {
    let server = serve(snapshot());
    for (path, expected) in [
        ("/?tab=cpu", "tab=\"cpu\" is no tab: use programs, maps"),
        ("/?tab=maps&sort=x", "sort=\"x\" is no field of maps: use id"),
        ("/?limit=5000", "limit=\"5000\" is not a number"),
        ("/?key=program", "key=\"program\": a key is KIND/ID"),
    ] {
        let (status, _, problem) = get(server.address, path, "");
        assert_eq!(status, 400, "{path}");
        assert!(problem.starts_with(expected), "{problem}");
    }
    assert_eq!(get(server.address, "/?key=program/4000000000", "").0, 404);
    assert_eq!(get(server.address, "/?utm=1&tab=maps", "").0, 200);
    let sorted = get(server.address, "/?tab=maps&sort=name&limit=1&offset=1", "").2;
    let summary = sorted.split("role=\"status\">").nth(1).expect("a summary");
    assert!(summary.starts_with("2 to 2 of "), "{summary}");
    assert!(values(&sorted, "href").contains(&"?tab=maps&sort=name&limit=1".to_owned()), "the previous row");
    assert!(
        values(&sorted, "href").contains(&"?tab=maps&sort=name&limit=1&offset=2".to_owned()),
        "the next row"
    );
    assert!(sorted.contains("aria-sort=\"ascending\""), "{sorted}");
}

#[test]
fn the_first_table_of_20000_objects_is_there_within_a_second() {
    let server = serve(large(20_000, 0));
    // The reading is not part of it.
    assert_eq!(get(server.address, "/-/ready", "").0, 200);
    for path in ["/", "/api/v1/objects?kind=programs&sort=name&q=program_1&limit=60&history=1"] {
        let began = Instant::now();
        let (status, _, text) = get(server.address, path, "");
        let took = began.elapsed();
        assert!(status == 200 && text.contains("program_1"), "{path}");
        assert!(took < Duration::from_secs(1), "{path}: {took:?}");
    }
}

#[test]
fn a_map_that_half_of_60000_programs_use_is_there_within_a_second() {
    let mut snapshot = with_shared_map(60_000);
    for program in snapshot.programs.iter_mut().flatten().skip(30_000) {
        Arc::make_mut(&mut program.facts).map_ids = Some(Vec::new());
    }
    let server = serve(snapshot);
    // The reading is not part of it.
    assert_eq!(get(server.address, "/-/ready", "").0, 200);
    for path in ["/api/v1/object?key=map/1", "/?key=map/1"] {
        let began = Instant::now();
        let (status, _, text) = get(server.address, path, "");
        let took = began.elapsed();
        assert!(status == 200 && text.contains("program_1"), "{path}");
        assert!(took < Duration::from_secs(1), "{path}: {took:?}");
    }
}
