//! The page as HTML, which is complete without a script. Entry points: [`table`], [`object`], [`events`] and [`exporter`]. The front
//! end relies on the ids, classes and `data-` attributes.

use std::sync::Arc;

use super::frame::Frame;
use super::html::Html;
use super::rows::ShownRows;
use crate::export::{event_text, human};
use crate::metrics::columns::Cell;
use crate::metrics::facts::{Fact, Section};
use crate::metrics::{Unit, columns::RowKey};
use crate::model::{Event, SettingInForce, SettingOrigin, WallClock};
use crate::web::api::documents::{self, FeatureDocument, KnownRow, NoRow, SelectedRows, Status};
use crate::web::api::parameters::{TableQuery, object_link, sort_word};
use crate::web::api::related::{RelatedRows, link_of_fact};
use crate::web::bounds;
use crate::web::live::View;

/// How many rows a page may have, for the choice of it.
const ROW_CHOICES: [usize; 4] = [20, bounds::DEFAULT_ROWS, 500, bounds::ROWS];

/// Events in the table without a script.
pub(super) const EVENTS_SHOWN: usize = 200;

/// Returns the page of a table.
pub(super) fn table(frame: &Frame<'_>, view: &View, query: &TableQuery) -> String {
    let kind = query.kind;
    frame.page(view, kind.as_str(), None, kind.title(), |html| {
        let Some(selection) = SelectedRows::new(view, query) else {
            html.element("p", &[("id", "summary"), ("role", "status")], "This table could not be read.");
            html.open("p", &[]);
            html.link("?tab=exporter", "What is missing");
            html.close("p");
            return;
        };
        filter_form(html, query, &selection);
        summary(html, view, query, &selection);
        let about = ShownRows {
            table: &selection.table,
            positions: &selection.rows,
            sorted: Some((query, selection.sort)),
            id: "rows",
        };
        about.write(html);
        pages(html, query, &selection);
    })
}

fn filter_form(html: &mut Html, query: &TableQuery, selection: &SelectedRows<'_>) {
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

fn summary(html: &mut Html, view: &View, query: &TableQuery, selection: &SelectedRows<'_>) {
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
    let read = human::cell(&Cell::Time(view.snapshot().taken_at), Unit::None, view.snapshot().clock);
    html.element("p", &[("id", "summary"), ("role", "status")], &format!("{rows}; {rates}; read at {read}"));
    html.line();
}

/// Writes links to the rows before and after these.
fn pages(html: &mut Html, query: &TableQuery, selection: &SelectedRows<'_>) {
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

/// Returns the page of an object, an owner or an attachment.
///
/// # Errors
///
/// Why there is none.
pub(super) fn object(frame: &Frame<'_>, view: &View, key: &RowKey) -> Result<String, NoRow> {
    let known = KnownRow::new(view, key)?;
    let (text, clock) = (key.to_string(), view.snapshot().clock);
    let title = documents::title(key);
    Ok(frame.page(view, "object", Some(&text), &title, |html| {
        html.open("p", &[]);
        html.link(&TableQuery::of(known.table.kind()).link(), known.table.kind().title());
        html.close("p");
        html.line();
        let rows = ShownRows { table: &known.table, positions: &[known.row], sorted: None, id: "rows" };
        rows.write(html);
        for section in &known.sections {
            facts(html, section, clock);
        }
        for RelatedRows { table, rows } in &known.related {
            html.open("section", &[("class", "related")]);
            let title = table.kind().title();
            html.element("h2", &[], &format!("{title} ({})", rows.len()));
            let id = format!("related-{}", table.kind().as_str());
            let shown = &rows[..rows.len().min(bounds::RELATED_ROWS)];
            ShownRows { table, positions: shown, sorted: None, id: &id }.write(html);
            first_of(html, shown.len(), rows.len());
            html.close("section");
            html.line();
        }
    }))
}

/// Writes that not all are shown, if so.
fn first_of(html: &mut Html, shown: usize, all: usize) {
    if shown < all {
        html.element("p", &[], &format!("The first {shown} of {all} are shown."));
    }
}

/// Writes what an entity knows.
fn facts(html: &mut Html, section: &Section, clock: WallClock) {
    html.open("section", &[("class", "facts")]);
    html.element("h2", &[], section.title);
    let shown = &section.values[..section.values.len().min(bounds::RELATED_ROWS)];
    for facts in shown {
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
    first_of(html, shown.len(), section.values.len());
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
        let ready = if view.snapshot().is_all_refused() {
            "Not ready: the kernel refuses to list BPF objects."
        } else {
            "Ready: BPF objects can be read."
        };
        html.element("p", &[("id", "summary"), ("role", "status")], ready);
        html.element("h2", &[], "Features");
        let features = documents::features(view.snapshot()).into_iter().map(|feature| {
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
            facts(html, &section, view.snapshot().clock);
        }
    })
}
