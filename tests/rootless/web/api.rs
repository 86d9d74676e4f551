//! The API of the page: rows, objects, the whole snapshot and the state of the exporter, as JSON.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::export::json;
use bpf_metrics_exporter::metrics::columns::{Filter, Sort, Table, TableKind};
use bpf_metrics_exporter::metrics::select::{Selected, Selection};
use bpf_metrics_exporter::model::{BootTime, SettingInForce, SettingOrigin, Snapshot};
use bpf_metrics_exporter::web;
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use test_support::golden::{large, snapshot, with_shared_map};

use super::{Server, get, request, serve, serve_from, serve_with, settings};

fn document(server: &Server, path: &str) -> Value {
    let (status, head, text) = get(server.address, path, "");
    assert_eq!(status, 200, "{path}: {text}");
    assert!(head.contains("content-type: application/json"), "{head}");
    let document: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(document["schema_version"], json::SCHEMA_VERSION);
    document
}

fn keys(document: &Value) -> Vec<&str> {
    document["rows"].as_array().expect("rows").iter().map(|row| row["key"].as_str().expect("a key")).collect()
}

/// Returns the tag of a response.
fn tag(head: &str) -> String {
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("it has a tag");
    tag.replace("w/", "W/")
}

#[test]
fn objects_are_the_rows_of_the_table() {
    let server = serve(snapshot());
    let snapshot = snapshot();
    for kind in TableKind::ALL {
        let table = Table::new(kind, &snapshot, None).expect("it is there");
        let all = table.select(&Filter::default(), table.default_sort());
        let expected = json::table(&table, &snapshot, &all, None).expect("it is JSON");
        let expected: Value = serde_json::from_str(&expected).expect("it is JSON");
        let found = document(&server, &format!("/api/v1/objects?kind={}&limit=1000", kind.as_str()));
        for field in expected.as_object().expect("an object").keys() {
            assert_eq!(found[field], expected[field], "{}: {field}", kind.as_str());
        }
        assert_eq!(found["counts"][kind.as_str()], table.len());
        assert_eq!(found["offset"], 0);
    }
}

#[test]
fn rows_are_sorted_filtered_and_cut() {
    let server = serve(snapshot());
    let snapshot = snapshot();
    let table = Table::new(TableKind::Maps, &snapshot, None).expect("it is there");
    let column = table.column("mem_bytes").expect("it is there");
    let expected = |filter: &Filter, descending| -> Vec<String> {
        let rows = table.select(filter, Sort { column, descending });
        rows.into_iter().map(|row| table.key(row).to_string()).collect()
    };
    let all = document(&server, "/api/v1/objects?kind=maps&sort=mem_bytes");
    assert_eq!(keys(&all), expected(&Filter::default(), true));
    assert_eq!(all["sort"], "mem_bytes");
    let reversed = document(&server, "/api/v1/objects?kind=maps&sort=-mem_bytes");
    assert_eq!(keys(&reversed), expected(&Filter::default(), false));
    let filter = Filter::parse("hash mem_bytes>0");
    let filtered = document(&server, "/api/v1/objects?kind=maps&sort=mem_bytes&q=hash%20mem_bytes%3E0");
    assert_eq!(keys(&filtered), expected(&filter, true));
    assert!(filtered["matching"].as_u64() < filtered["total"].as_u64() && filtered["matching"] != 0);
    let part = document(&server, "/api/v1/objects?kind=maps&sort=mem_bytes&offset=1&limit=2");
    assert_eq!(keys(&part), &expected(&Filter::default(), true)[1..3]);
    assert_eq!((&part["offset"], &part["matching"]), (&json!(1), &json!(table.len())));
    assert!(keys(&document(&server, "/api/v1/objects?kind=maps&offset=18446744073709551615")).is_empty());
    assert!(keys(&document(&server, "/api/v1/objects?kind=maps&limit=0")).is_empty());
}

#[test]
fn what_is_wrong_is_status_400_with_one_line() {
    let server = serve(snapshot());
    for (path, expected) in [
        ("/api/v1/objects", "kind is missing: use programs, maps, links, owners, hooks, orphans, btfs\n"),
        ("/api/v1/objects?kind=x", "kind=\"x\" is no table: use programs, maps, links"),
        (
            "/api/v1/objects?kind=maps&fields=id",
            "\"fields\" is no parameter: use kind, sort, q, offset, limit",
        ),
        ("/api/v1/objects?kind=maps&sort=cpu", "sort=\"cpu\" is no field of maps: use id, type, name"),
        ("/api/v1/objects?kind=maps&limit=1001", "limit=\"1001\" is not a number from 0 to 1000\n"),
        ("/api/v1/object", "key is missing: give one, such as key=program/17\n"),
        ("/api/v1/object?key=17", "key=\"17\": a key is KIND/ID"),
        ("/api/v1/status?x", "there is no parameter here\n"),
        ("/api/v1/tables?x", "there is no parameter here\n"),
        ("/api/v1/snapshot?x", "there is no parameter here\n"),
    ] {
        let (status, head, text) = get(server.address, path, "");
        assert_eq!(status, 400, "{path}");
        assert!(head.contains("content-type: text/plain"), "{head}");
        assert!(text.starts_with(expected) && text.lines().count() == 1, "{path}: {text}");
    }
    assert_eq!(get(server.address, "/api/v1/object?key=map/4000000000", "").0, 404);
    assert_eq!(get(server.address, "/api/v1/nothing", "").0, 404);
    assert_eq!(get(server.address, "/api/v2/objects?kind=maps", "").0, 404);
    for path in ["/api/v1/objects?kind=maps", "/api/v1/status", "/"] {
        assert_eq!(request(server.address, "POST", path, "").0, 405, "{path}");
        assert_eq!(request(server.address, "OPTIONS", path, "").0, 204, "{path}");
        let (status, head, body) = request(server.address, "HEAD", path, "");
        assert_eq!((status, body.len()), (200, 0), "{path}: {head}");
        assert_eq!(get(server.address, path, "Host: rebound.example\r\n").0, 421, "{path}");
    }
}

#[test]
fn what_has_not_changed_is_not_sent_again() {
    let server = serve(snapshot());
    let path = "/api/v1/objects?kind=programs&history=1";
    let (_, head, _) = get(server.address, path, "");
    assert!(head.contains("cache-control: private, no-cache"), "{head}");
    let known = format!("If-None-Match: {}\r\n", tag(&head));
    let (status, head, body) = get(server.address, path, &known);
    assert_eq!((status, &*body), (304, ""));
    assert!(head.contains("etag: ") && !head.contains("\ncontent-type"), "{head}");
    assert_eq!(get(server.address, path, "If-None-Match: W/\"x\"\r\n").0, 200);
    assert_eq!(server.readings.load(Ordering::Relaxed), 1, "all of it is of one reading");
    // Another process has other tags.
    let other = serve(snapshot());
    assert_eq!(get(other.address, path, &known).0, 200);
    // What is the same everywhere has a tag of its content, also in another process.
    let (_, head, _) = get(server.address, "/api/v1/tables", "");
    let known = format!("If-None-Match: {}\r\n", tag(&head));
    assert!(!known.contains(env!("CARGO_PKG_VERSION")) && known.len() > 40, "{known}");
    assert_eq!(get(other.address, "/api/v1/tables", &known).0, 304);
}

#[test]
fn no_answer_is_for_pages_of_other_origins_or_kept_unless_it_says_so() {
    let server = serve(snapshot());
    for (path, status, cache) in [
        ("/metrics", 200, "no-store"),
        ("/api/v1/snapshot", 200, "no-store"),
        ("/api/v1/status", 200, "no-store"),
        ("/api/v1/objects?kind=maps", 200, "private, no-cache"),
        ("/api/v1/tables", 200, "private, no-cache"),
        ("/api/v1/objects?kind=none", 400, "no-store"),
        ("/api/v1/object?key=map/4000000", 404, "no-store"),
        ("/nothing", 404, "no-store"),
        ("/-/healthy", 200, "no-store"),
        ("/", 200, "no-store"),
    ] {
        let (found, head, _) = get(server.address, path, "");
        assert_eq!(found, status, "{path}");
        for expected in [
            &format!("\ncache-control: {cache}\r"),
            "\nx-content-type-options: nosniff\r",
            "\ncross-origin-resource-policy: same-origin\r",
        ] {
            assert_eq!(head.matches(expected).count(), 1, "{path}: {expected:?} in {head}");
        }
    }
    let (status, head, _) = request(server.address, "HEAD", "/api/v1/events", "");
    assert_eq!(status, 200);
    assert!(
        head.contains("cross-origin-resource-policy: same-origin\r") && head.contains("no-store"),
        "{head}"
    );
}

/// Readings of which each has a second more than the one before, with run times that grow by half of it.
fn growing() -> impl FnMut() -> Snapshot + Send + 'static {
    let mut seconds = 0;
    move || {
        let mut snapshot = snapshot();
        let more = Duration::from_secs(seconds);
        seconds += 1;
        snapshot.taken_at = BootTime(snapshot.taken_at.0 + more.as_secs() * 1_000_000_000);
        snapshot.run_stats.covered += more;
        for program in snapshot.programs.iter_mut().flatten() {
            program.run_time = Some(Duration::from_secs(7) + more / 2);
        }
        snapshot
    }
}

#[test]
fn rates_are_between_the_last_two_readings() {
    let server = serve_from(growing(), Selected::all);
    let path = "/api/v1/objects?kind=programs&sort=cpu_ratio";
    let first = document(&server, path);
    assert_eq!(first.get("period_seconds"), None);
    assert_eq!(first["rows"][0].get("cpu_ratio"), None);
    std::thread::sleep(web::bounds::PAGE_POLL + Duration::from_millis(100));
    let second = document(&server, path);
    assert_eq!((&second["period_seconds"], &second["rows"][0]["cpu_ratio"]), (&json!(1.0), &json!(0.5)));
    assert_eq!(server.readings.load(Ordering::Relaxed), 2);
    assert_ne!(first["taken_at"], second["taken_at"]);
}

#[test]
fn scrapes_alone_keep_nothing_up() {
    let server = serve_from(growing(), Selected::all);
    for path in ["/metrics", "/-/ready", "/-/healthy", "/nothing"] {
        get(server.address, path, "");
    }
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(server.readings.load(Ordering::Relaxed), 1, "only the one of the scrape");
}

#[test]
fn probes_of_the_page_keep_nothing_up() {
    let server = serve_from(growing(), Selected::all);
    for path in ["/", "/?tab=exporter", "/api/v1/status"] {
        assert_eq!(get(server.address, path, "").0, 200, "{path}");
    }
    for path in ["/", "/api/v1/objects?kind=maps"] {
        assert_eq!(request(server.address, "HEAD", path, "").0, 200, "{path}");
    }
    let read = server.readings.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(server.readings.load(Ordering::Relaxed), read, "nobody looks");
    document(&server, "/api/v1/objects?kind=maps");
    let deadline = Instant::now() + Duration::from_mins(1);
    while server.readings.load(Ordering::Relaxed) <= read + 1 {
        assert!(Instant::now() < deadline, "somebody does");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn ids_of_a_row_are_bounded_and_counted() {
    let server = serve(with_shared_map(150));
    let first: Vec<u32> = (1..=20).collect();
    let maps = document(&server, "/api/v1/objects?kind=maps");
    let map = document(&server, "/api/v1/object?key=map/1");
    let program = document(&server, "/api/v1/object?key=program/7");
    let related = |object: &Value, kind: &str| {
        let tables = object["related"].as_array().expect("tables");
        tables.iter().find(|table| table["kind"] == kind).expect("it is related").clone()
    };
    for row in [&maps["rows"][0], &map["row"], &related(&program, "maps")["rows"][0]] {
        assert_eq!((&row["program_ids"], &row["program_ids_total"]), (&json!(first), &json!(150)));
    }
    let programs = related(&map, "programs");
    assert_eq!((programs["rows"].as_array().map(Vec::len), &programs["matching"]), (Some(100), &json!(150)));
    assert_eq!(programs["rows"][0]["map_ids"], json!([1]));
    assert_eq!(programs["rows"][0].get("map_ids_total"), None, "all are there");
    // The command line writes all.
    let snapshot = with_shared_map(150);
    let table = Table::new(TableKind::Maps, &snapshot, None).expect("it is there");
    let written: Value =
        serde_json::from_str(&json::table(&table, &snapshot, &[0], None).expect("it is JSON"))
            .expect("it is JSON");
    assert_eq!(written["rows"][0]["program_ids"].as_array().map(Vec::len), Some(150));
    assert_eq!(written["rows"][0].get("program_ids_total"), None);
}

#[test]
fn an_object_has_its_facts_and_what_belongs_to_it() {
    let server = serve(snapshot());
    let programs = document(&server, "/api/v1/objects?kind=programs");
    let rows = programs["rows"].as_array().expect("rows");
    let program = rows.iter().find(|row| row.get("map_ids").is_some()).expect("one uses a map");
    let key = program["key"].as_str().expect("a key");
    let object = document(&server, &format!("/api/v1/object?key={key}"));
    assert_eq!((&object["key"], &object["kind"]), (&program["key"], &json!("programs")));
    // Its history has a value as soon as a sample was taken, which may be now.
    let mut row = object["row"].clone();
    row.as_object_mut().expect("it is an object").remove("history");
    assert_eq!(row, *program);
    assert_eq!(object["sections"][0]["title"], "Programs");
    let facts = object["sections"][0]["values"][0].as_array().expect("facts");
    let fact = |name: &str| facts.iter().find(|fact| fact["name"] == name).expect("it is there");
    assert_eq!(fact("id")["value"], program["id"]);
    let owner = format!(
        "owner/{}/{}",
        program["owner_kind"].as_str().expect("it has one"),
        program["owner"].as_str().expect("it has one")
    );
    assert_eq!(fact("owner")["key"], owner);
    assert_eq!(fact("bpf_program_mem_bytes")["unit"], "By");
    let related = |kind: &str| {
        let all = object["related"].as_array().expect("tables");
        all.iter().find(|table| table["kind"] == kind).unwrap_or_else(|| panic!("{kind}: {all:?}"))
    };
    let maps: Vec<_> = program["map_ids"].as_array().expect("ids").iter().collect();
    let found: Vec<_> =
        related("maps")["rows"].as_array().expect("rows").iter().map(|row| &row["id"]).collect();
    assert_eq!(found, maps);
    assert_eq!(related("owners")["rows"][0]["key"], owner);
    let of_owner = document(&server, &format!("/api/v1/object?key={owner}"));
    let all = of_owner["related"].as_array().expect("tables");
    let programs = all.iter().find(|table| table["kind"] == "programs").expect("it has programs");
    assert!(programs["rows"].as_array().expect("rows").iter().any(|row| row["key"] == *key));
}

#[test]
fn the_snapshot_can_be_read_back_and_has_all_that_was_read() {
    let selection = Selection { per_object: false, ..Selection::default() };
    let select = move |snapshot| selection.apply(Selected::all(snapshot), None);
    let server = serve_from(snapshot, select);
    let (status, head, text) = get(server.address, "/api/v1/snapshot", "");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/json") && head.contains("no-store"), "{head}");
    assert_eq!(text, json::render(&Selected::all(Arc::new(snapshot()))).expect("it is JSON"));
    let again = json::parse(&text).expect("it is a snapshot");
    assert_eq!(json::render(&again).expect("it is JSON"), text);
    let (_, head, body) = request(server.address, "GET", "/api/v1/snapshot", "Accept-Encoding: gzip\r\n");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut unzipped = String::new();
    GzDecoder::new(&*body).read_to_string(&mut unzipped).expect("it is gzip");
    assert_eq!(unzipped, text);
}

#[test]
fn documents_are_compressed_and_mean_the_same() {
    let server = serve(large(500, 0));
    let path = "/api/v1/objects?kind=programs&limit=500";
    let plain = get(server.address, path, "").2;
    let (_, head, body) = request(server.address, "GET", path, "Accept-Encoding: gzip\r\n");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    GzDecoder::new(&*body).read_to_string(&mut text).expect("it is gzip");
    assert!(text == plain && body.len() * 5 < text.len(), "{} of {}", body.len(), text.len());
    let (_, head, body) = request(server.address, "GET", path, "Accept-Encoding: zstd\r\n");
    assert!(head.contains("content-encoding: zstd"), "{head}");
    let text = zstd::stream::decode_all(&*body).expect("it is zstd");
    assert_eq!(text, plain.as_bytes());
}

#[test]
fn the_status_has_the_exporter_its_features_and_settings() {
    let setting = |name: &str, value: &str, origin| SettingInForce {
        name: name.to_owned(),
        value: value.to_owned(),
        origin,
    };
    let in_force = [
        setting("--interval", "10s", SettingOrigin::Default),
        setting("--user", "nobody", SettingOrigin::Flag),
    ];
    let with = web::Settings { settings: in_force.into(), ..settings() };
    let server = serve_with(with, snapshot, Selected::all);
    let status = document(&server, "/api/v1/status");
    assert_eq!((&status["version"], &status["ready"]), (&json!("1.2.3"), &json!(true)));
    assert_eq!(status["settings"][1], json!({"name": "--user", "value": "nobody", "origin": "flag"}));
    let titles: Vec<_> =
        status["sections"].as_array().expect("sections").iter().map(|it| &it["title"]).collect();
    for expected in ["The exporter", "Readings", "Features", "Run statistics"] {
        assert!(titles.contains(&&json!(expected)), "{expected}: {titles:?}");
    }
    let snapshot = snapshot();
    for feature in status["features"].as_array().expect("features") {
        let found = snapshot.features.iter().find(|found| feature["name"] == found.feature.as_str());
        let state = found.map_or("off", |found| if found.reason.is_some() { "missing" } else { "works" });
        assert_eq!(feature["state"], state, "{feature}");
        assert_eq!(feature.get("remedy").is_some(), state == "missing", "{feature}");
    }
    let page = &status["page"];
    assert!(page["history_bytes"].as_u64() <= page["history_max_bytes"].as_u64());
    assert_eq!(page["history_max_bytes"], 4 << 20);
}

#[test]
fn the_tables_name_every_field_of_every_row() {
    let server = serve(snapshot());
    let tables = document(&server, "/api/v1/tables");
    let tables = tables["tables"].as_array().expect("tables");
    assert_eq!(tables.len(), TableKind::ALL.len());
    for table in tables {
        let columns = table["columns"].as_array().expect("columns");
        let fields: Vec<_> =
            columns.iter().map(|column| column["field"].as_str().expect("a field")).collect();
        for column in columns {
            assert!(column["help"].as_str().is_some_and(|help| !help.is_empty()), "{column}");
        }
        let rows =
            document(&server, &format!("/api/v1/objects?kind={}", table["kind"].as_str().expect("a kind")));
        for row in rows["rows"].as_array().expect("rows") {
            for field in row.as_object().expect("an object").keys() {
                assert!(fields.contains(&&**field) || ["key", "exporter_own"].contains(&&**field), "{field}");
            }
        }
    }
    let text = get(server.address, "/api/v1/tables", "").2;
    assert!(
        text.contains("\"bpf.program.load\"") && text.contains("\"owner_kind\":\"owner_kind\""),
        "{text}"
    );
}

#[test]
fn requests_beyond_the_limit_are_refused_while_others_hold_their_answers() {
    let server =
        serve_with(web::Settings { max_requests: 2, ..settings() }, || large(5000, 0), Selected::all);
    let holders: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).expect("it listens");
            stream.write_all(b"GET /api/v1/snapshot HTTP/1.0\r\n\r\n").expect("it reads");
            let mut first = [0; 1];
            stream.read_exact(&mut first).expect("it answers");
            stream
        })
        .collect();
    for path in ["/api/v1/objects?kind=maps", "/", "/api/v1/status", "/metrics"] {
        let (status, head, text) = get(server.address, path, "");
        assert_eq!(status, 503, "{path}");
        assert!(head.contains("retry-after: 1") && text.contains("--web.max-requests"), "{head}");
    }
    drop(holders);
    let mut status = 503;
    for _ in 0..100 {
        status = get(server.address, "/api/v1/objects?kind=maps", "").0;
        if status == 200 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(status, 200, "they have gone");
}
