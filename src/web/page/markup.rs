//! The page as HTML, which is complete without a script. Entry points: [`table`], [`object`], [`events`], [`exporter`] and
//! [`landing`]. The front end relies on the ids, classes and `data-` attributes.

use std::borrow::Cow;
use std::sync::Arc;

use super::assets::{self, Asset};
use super::html::Html;
use crate::export::{event_text, human};
use crate::metrics::columns::{Cell, Column, Sort, Table, TableKind};
use crate::metrics::facts::{Fact, Section};
use crate::metrics::{Unit, columns::RowKey};
use crate::model::{Event, Exporter, SettingInForce, SettingOrigin, Snapshot, WallClock};
use crate::web::api::documents::{self, FeatureDocument, Known, Selection, Status};
use crate::web::api::parameters::{TableQuery, object_link, sort_word};
use crate::web::api::related::{Related, link_of_fact, links};
use crate::web::bounds;
use crate::web::live::View;

/// Columns of this importance, or a greater one, are in the table without a script.
const HIGHEST_RANK: u8 = 3;

/// How many rows a page may have, for the choice of it.
const ROW_CHOICES: [usize; 4] = [20, bounds::DEFAULT_ROWS, 500, bounds::ROWS];

/// Events in the table without a script.
pub(super) const EVENTS_SHOWN: usize = 200;

/// What every page says of the exporter.
pub(super) struct Frame<'a> {
    pub(super) exporter: &'a Exporter,
    pub(super) telemetry_path: &'a str,
}

impl Frame<'_> {
    /// Returns the name of the host, as the resource has it.
    fn host(&self) -> &str {
        let attribute = |name| self.exporter.resource.iter().find(|(key, _)| key == name);
        let found = attribute("k8s.node.name").or_else(|| attribute("host.name"));
        found.map_or("", |(_, value)| value)
    }

    /// Writes a page whose content is written by `content`. `tab` is what is shown; `key` the object.
    fn page(
        &self,
        view: &View,
        tab: &str,
        key: Option<&str>,
        heading: &str,
        content: impl FnOnce(&mut Html),
    ) -> String {
        let host = self.host();
        let version = self.exporter.build.version;
        let mut html = Html::new();
        html.open("html", &[("lang", "en")]);
        html.line();
        html.open("head", &[]);
        head(&mut html, &titled(heading, host));
        html.open("link", &[("rel", "icon"), ("href", assets::url(Asset::Icon)), ("type", "image/svg+xml")]);
        html.open("link", &[("rel", "stylesheet"), ("href", assets::url(Asset::Style))]);
        html.element("script", &[("src", assets::url(Asset::Script)), ("type", "module")], "");
        html.close("head");
        html.line();
        let schema = crate::export::json::SCHEMA_VERSION.to_string();
        let poll = bounds::PAGE_POLL.as_secs().to_string();
        let mut attributes = vec![
            ("data-tab", tab),
            ("data-schema", &schema),
            ("data-version", version),
            ("data-host", host),
            ("data-poll", &poll),
        ];
        attributes.extend(key.map(|key| ("data-key", key)));
        html.open("body", &attributes);
        html.element("a", &[("class", "skip"), ("href", "#content")], "Skip to content");
        html.line();
        html.open("header", &[]);
        html.open("p", &[("class", "title")]);
        html.link("./", "bpf-metrics-exporter");
        html.text(" ");
        html.element("span", &[("class", "host")], host);
        html.close("p");
        tabs(&mut html, view, tab);
        html.close("header");
        html.line();
        html.open("main", &[("id", "content"), ("tabindex", "-1")]);
        html.line();
        html.element("h1", &[], heading);
        html.line();
        content(&mut html);
        html.close("main");
        html.line();
        self.footer(&mut html, true);
        html.close("body");
        html.line();
        html.close("html");
        html.line();
        html.finish()
    }

    /// Writes what else there is.
    fn footer(&self, html: &mut Html, with_api: bool) {
        html.open("footer", &[("id", "about")]);
        html.open("p", &[]);
        html.text(&format!("Version {}. ", self.exporter.build.version));
        // Relative, as a proxy may have the page below a path of its own.
        html.link(&format!(".{}", self.telemetry_path), "Metrics");
        html.text(", ");
        if with_api {
            for kind in TableKind::ALL {
                html.link(
                    &format!("api/v1/objects?kind={}", kind.as_str()),
                    &format!("{} as JSON", kind.title()),
                );
                html.text(", ");
            }
            html.link("api/v1/snapshot", "the snapshot");
            html.text(", ");
        }
        html.link("api/v1/events", "events as they happen");
        html.text(", ");
        html.link("-/healthy", "health");
        html.text(", ");
        html.link("-/ready", "readiness");
        html.close("p");
        html.close("footer");
        html.line();
    }
}

fn titled(heading: &str, host: &str) -> String {
    if host.is_empty() {
        format!("{heading} - bpf-metrics-exporter")
    } else {
        format!("{heading} - bpf-metrics-exporter on {host}")
    }
}

fn head(html: &mut Html, title: &str) {
    html.open("meta", &[("charset", "utf-8")]);
    html.open("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    html.open("meta", &[("name", "color-scheme"), ("content", "light dark")]);
    html.line();
    html.element("title", &[], title);
    html.line();
}

/// Writes the links to all tables.
fn tabs(html: &mut Html, view: &View, current: &str) {
    html.open("nav", &[("id", "tabs"), ("aria-label", "Tables")]);
    html.open("ul", &[]);
    let counts: Vec<_> = view.counts().collect();
    let tables = TableKind::ALL.into_iter().map(|kind| {
        let count = counts.iter().find(|(counted, _)| *counted == kind).map(|(_, count)| *count);
        (kind.as_str(), kind.title(), count)
    });
    for (word, title, count) in tables.chain([("events", "Events", None), ("exporter", "Exporter", None)]) {
        let url = format!("?tab={word}");
        let mut attributes = vec![("href", &*url), ("data-tab", word)];
        attributes.extend((word == current).then_some(("aria-current", "page")));
        html.open("li", &[]);
        html.open("a", &attributes);
        html.text(title);
        if let Some(count) = count {
            html.text(" ");
            html.element("span", &[("class", "count")], &count.to_string());
        }
        html.close("a");
        html.close("li");
        html.line();
    }
    html.close("ul");
    html.close("nav");
}

/// Returns the page of a table.
pub(super) fn table(frame: &Frame<'_>, view: &View, query: &TableQuery) -> String {
    let kind = query.kind;
    frame.page(view, kind.as_str(), None, kind.title(), |html| {
        let Some(selection) = Selection::new(view, query) else {
            html.element("p", &[("id", "summary"), ("role", "status")], "This table could not be read.");
            html.open("p", &[]);
            html.link("?tab=exporter", "What is missing");
            html.close("p");
            return;
        };
        filter_form(html, query, &selection);
        summary(html, view, query, &selection);
        let about = Rows {
            table: &selection.table,
            rows: &selection.rows,
            sorted: Some((query, selection.sort)),
            id: "rows",
        };
        about.write(html);
        pages(html, query, &selection);
    })
}

fn filter_form(html: &mut Html, query: &TableQuery, selection: &Selection<'_>) {
    html.open("form", &[("id", "filter"), ("method", "get"), ("action", "./"), ("role", "search")]);
    html.open("input", &[("type", "hidden"), ("name", "tab"), ("value", query.kind.as_str())]);
    html.open("label", &[]);
    html.text("Filter ");
    html.open("input", &[("type", "search"), ("name", "q"), ("value", &query.filter)]);
    html.close("label");
    html.line();
    let columns = selection.table.columns();
    let current = sort_word(columns, selection.sort);
    let orders = columns.iter().flat_map(|column| {
        let reversed = (format!("-{}", column.field), format!("{}, reversed", column.title));
        [(column.field.to_owned(), column.title.to_owned()), reversed]
    });
    choice(html, "Sort by ", "sort", &current, orders);
    let counts = ROW_CHOICES.map(|count| (count.to_string(), count.to_string()));
    choice(html, "Rows ", "limit", &query.limit.to_string(), counts);
    let own = [("1", "shown"), ("0", "left out")].map(|(value, text)| (value.to_owned(), text.to_owned()));
    choice(html, "The exporter's own ", "own", if query.own { "1" } else { "0" }, own);
    html.element("button", &[], "Show");
    html.close("form");
    html.line();
}

/// Writes a choice of one of several values, with texts. The current value is among them.
fn choice(
    html: &mut Html,
    label: &str,
    name: &'static str,
    current: &str,
    values: impl IntoIterator<Item = (String, String)>,
) {
    let mut values: Vec<_> = values.into_iter().collect();
    if !values.iter().any(|(value, _)| value == current) {
        values.insert(0, (current.to_owned(), current.to_owned()));
    }
    html.open("label", &[]);
    html.text(label);
    html.open("select", &[("name", name)]);
    for (value, text) in values {
        let mut attributes = vec![("value", &*value)];
        attributes.extend((value == current).then_some(("selected", "selected")));
        html.element("option", &attributes, &text);
    }
    html.close("select");
    html.close("label");
    html.line();
}

fn summary(html: &mut Html, view: &View, query: &TableQuery, selection: &Selection<'_>) {
    let (table, matching) = (&selection.table, selection.matching);
    let what = query.kind.title();
    let rows = match selection.rows.len() {
        0 if matching == 0 => format!("none of {} {what}", table.len()),
        0 => format!("no row after {matching}"),
        shown => {
            let (first, last) = (query.offset + 1, query.offset + shown);
            let of_all =
                if matching == table.len() { String::new() } else { format!(" (of {} in all)", table.len()) };
            format!("{first} to {last} of {matching} {what}{of_all}")
        }
    };
    let rates = match table.period() {
        Some(period) => format!("rates of the last {}", human::duration(period.elapsed.as_secs_f64())),
        None => "rates with the next reading".to_owned(),
    };
    let read = human::cell(&Cell::Time(view.snapshot.taken_at), Unit::None, view.snapshot.clock);
    html.element("p", &[("id", "summary"), ("role", "status")], &format!("{rows}; {rates}; read at {read}"));
    html.line();
}

/// Writes links to the rows before and after these.
fn pages(html: &mut Html, query: &TableQuery, selection: &Selection<'_>) {
    html.open("nav", &[("id", "pages"), ("aria-label", "Rows")]);
    if query.offset > 0 {
        let offset = query.offset.saturating_sub(query.limit);
        html.link(&TableQuery { offset, ..query.clone() }.link(), "Previous");
        html.text(" ");
    }
    let next = query.offset.saturating_add(selection.rows.len());
    if next < selection.matching && !selection.rows.is_empty() {
        html.link(&TableQuery { offset: next, ..query.clone() }.link(), "Next");
    }
    html.close("nav");
    html.line();
}

/// Rows of a table.
struct Rows<'a> {
    table: &'a Table<'a>,
    rows: &'a [usize],
    /// For links that sort: what is shown, and in which order.
    sorted: Option<(&'a TableQuery, Sort)>,
    id: &'a str,
}

impl Rows<'_> {
    fn write(&self, html: &mut Html) {
        let Self { table, rows, id, .. } = self;
        let shown: Vec<_> =
            table.columns().iter().enumerate().filter(|(at, column)| self.is_shown(*at, column)).collect();
        // The cell that names the row.
        let named = table.column("id").unwrap_or(0);
        let title = table.kind().title();
        html.open(
            "div",
            &[("class", "scroll"), ("tabindex", "0"), ("role", "region"), ("aria-label", title)],
        );
        html.open("table", &[("id", id), ("class", "table")]);
        html.element("caption", &[("class", "hidden")], title);
        html.open("thead", &[]);
        html.open("tr", &[]);
        for (at, column) in &shown {
            self.heading(html, *at, column);
        }
        html.close("tr");
        html.close("thead");
        html.line();
        html.open("tbody", &[]);
        for &row in *rows {
            let key = table.key(row).to_string();
            let mut attributes = vec![("data-key", &*key)];
            attributes.extend(table.is_own(row).then_some(("class", "own")));
            html.open("tr", &attributes);
            for (at, column) in &shown {
                if *at == named {
                    let text = human::cell(&table.cell(row, *at), column.unit, table.clock());
                    html.open("th", &[("scope", "row")]);
                    html.link(&object_link(&key), if text.is_empty() { "(no name)" } else { &text });
                    html.close("th");
                } else {
                    self.cell(html, row, *at, column);
                }
            }
            html.close("tr");
            html.line();
        }
        html.close("tbody");
        html.close("table");
        html.close("div");
        html.line();
    }

    /// Returns whether a column is important enough and has something to show.
    fn is_shown(&self, at: usize, column: &Column) -> bool {
        column.rank == 0
            || (column.rank <= HIGHEST_RANK
                && self.rows.iter().any(|&row| self.table.cell(row, at).is_known()))
    }

    fn heading(&self, html: &mut Html, at: usize, column: &Column) {
        let mut attributes = vec![("scope", "col"), ("data-field", column.field), ("title", column.help)];
        attributes.extend(column.is_numeric.then_some(("class", "number")));
        let Some((query, sort)) = self.sorted else {
            html.element("th", &attributes, column.title);
            return;
        };
        let is_current = sort.column == at;
        if is_current {
            attributes.push(("aria-sort", if sort.descending { "descending" } else { "ascending" }));
        }
        let descending = if is_current { !sort.descending } else { column.is_numeric };
        let next = Sort { column: at, descending };
        let query = TableQuery { sort: Some(next), offset: 0, ..query.clone() };
        html.open("th", &attributes);
        html.link(&query.link(), column.title);
        html.close("th");
    }

    fn cell(&self, html: &mut Html, row: usize, at: usize, column: &Column) {
        let class = column.is_numeric.then_some(("class", "number"));
        html.open("td", class.as_slice());
        let cell = self.table.cell(row, at);
        let links = links(self.table, row, at);
        if links.is_empty() {
            html.text(&human::cell(&cell, column.unit, self.table.clock()));
        }
        for (number, link) in links.iter().enumerate() {
            if number > 0 {
                html.text(", ");
            }
            let text = match &cell {
                Cell::Ids(ids) => Cow::from(ids[number].to_string()),
                cell => human::cell(cell, column.unit, self.table.clock()).into(),
            };
            html.link(&object_link(link), &text);
        }
        html.close("td");
    }
}

/// Returns the page of an object, an owner or an attachment; `None` if there is none.
pub(super) fn object(frame: &Frame<'_>, view: &View, key: &RowKey) -> Option<String> {
    let known = Known::new(view, key)?;
    let (text, clock) = (key.to_string(), view.snapshot.clock);
    let title = documents::title(key);
    Some(frame.page(view, "object", Some(&text), &title, |html| {
        html.open("p", &[]);
        html.link(&TableQuery::of(known.table.kind()).link(), known.table.kind().title());
        html.close("p");
        html.line();
        let rows = Rows { table: &known.table, rows: &[known.row], sorted: None, id: "rows" };
        rows.write(html);
        for section in &known.sections {
            facts(html, section, clock);
        }
        for Related { table, rows } in &known.related {
            html.open("section", &[("class", "related")]);
            let title = table.kind().title();
            html.element("h2", &[], &format!("{title} ({})", rows.len()));
            let id = format!("related-{}", table.kind().as_str());
            let shown = &rows[..rows.len().min(bounds::RELATED_ROWS)];
            Rows { table, rows: shown, sorted: None, id: &id }.write(html);
            if shown.len() < rows.len() {
                html.element("p", &[], &format!("The first {} of {} are shown.", shown.len(), rows.len()));
            }
            html.close("section");
            html.line();
        }
    }))
}

/// Writes what an entity knows.
fn facts(html: &mut Html, section: &Section, clock: WallClock) {
    html.open("section", &[("class", "facts")]);
    html.element("h2", &[], section.title);
    for facts in &section.values {
        html.open("dl", &[]);
        for fact in facts {
            html.open("div", &[]);
            html.element("dt", &[("title", fact.help)], fact.name);
            html.open("dd", &[]);
            let text = value(fact, clock);
            match link_of_fact(facts, fact) {
                Some(key) => html.link(&object_link(&key), &text),
                None => html.text(&text),
            }
            html.close("dd");
            html.close("div");
            html.line();
        }
        html.close("dl");
    }
    html.close("section");
    html.line();
}

fn value(fact: &Fact, clock: WallClock) -> String {
    human::cell(&fact.cell, fact.unit, clock)
}

/// Returns the page of events, the newest first.
pub(super) fn events(frame: &Frame<'_>, view: &View, events: &[Arc<Event>], clock: WallClock) -> String {
    frame.page(view, "events", None, "Events", |html| {
        let shown = events.len().min(EVENTS_SHOWN);
        let text = format!("{shown} of the last {} events, the newest first", events.len());
        html.element("p", &[("id", "summary"), ("role", "status")], &text);
        let rows = events.iter().rev().take(EVENTS_SHOWN).map(|event| {
            let time = human::cell(&Cell::Time(event.at), Unit::None, clock);
            [time, event.kind.as_str().to_owned(), event_text::line(event)]
        });
        plain_table(html, "Events", ["Time", "Event", "What happened"], rows);
    })
}

/// Writes a table of texts.
fn plain_table<const N: usize>(
    html: &mut Html,
    title: &'static str,
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) {
    html.open("div", &[("class", "scroll"), ("tabindex", "0"), ("role", "region"), ("aria-label", title)]);
    html.open("table", &[("class", "table")]);
    html.element("caption", &[("class", "hidden")], title);
    html.open("thead", &[]);
    html.open("tr", &[]);
    for heading in headings {
        html.element("th", &[("scope", "col")], heading);
    }
    html.close("tr");
    html.close("thead");
    html.open("tbody", &[]);
    for row in rows {
        html.open("tr", &[]);
        for cell in &row {
            html.element("td", &[], cell);
        }
        html.close("tr");
        html.line();
    }
    html.close("tbody");
    html.close("table");
    html.close("div");
    html.line();
}

/// Returns the page of the exporter itself.
pub(super) fn exporter(frame: &Frame<'_>, status: &Status<'_>) -> String {
    let view = status.view;
    frame.page(view, "exporter", None, "Exporter", |html| {
        let ready = if view.snapshot.is_all_refused() {
            "Not ready: the kernel refuses to list BPF objects."
        } else {
            "Ready: BPF objects can be read."
        };
        html.element("p", &[("id", "summary"), ("role", "status")], ready);
        html.element("h2", &[], "Features");
        let features = documents::features(&view.snapshot).into_iter().map(|feature| {
            let FeatureDocument { name, state, about, needs, reason, remedy, .. } = feature;
            [
                name.to_owned(),
                state.to_owned(),
                about,
                needs,
                reason.unwrap_or_default(),
                remedy.unwrap_or_default(),
            ]
        });
        plain_table(
            html,
            "Features",
            ["Feature", "State", "What it sees", "Needs", "Missing because", "What helps"],
            features,
        );
        html.element("h2", &[], "Settings in force");
        let settings = status.settings.iter().map(|SettingInForce { name, value, origin }| {
            [name.clone(), value.clone(), SettingOrigin::as_str(*origin).to_owned()]
        });
        plain_table(html, "Settings", ["Setting", "Value", "From"], settings);
        for section in documents::about(status) {
            facts(html, &section, view.snapshot.clock);
        }
    })
}

/// Returns the page where the real one is turned off: what else there is, and how many objects.
pub(super) fn landing(frame: &Frame<'_>, snapshot: &Snapshot) -> String {
    let mut html = Html::new();
    html.open("html", &[("lang", "en")]);
    html.open("head", &[]);
    head(&mut html, &titled("eBPF of this host", frame.host()));
    html.close("head");
    html.open("body", &[]);
    html.element("h1", &[], "bpf-metrics-exporter");
    html.element("p", &[], "Objects on this host:");
    html.open("ul", &[]);
    for total in &snapshot.totals {
        html.element("li", &[], &format!("{}: {}", total.kind.as_str(), total.objects));
    }
    html.close("ul");
    frame.footer(&mut html, false);
    html.close("body");
    html.close("html");
    html.line();
    html.finish()
}
