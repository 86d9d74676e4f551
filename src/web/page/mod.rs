//! The page for browsers: HTML that is complete without a script, and a front end that makes live tables of it.
//! Entry points: [`Shown::parse`] and [`Shown::render`]. The front end is in `ui/`; its built files are in the program.

mod assets;
mod frame;
mod html;
mod markup;
mod rows;

use std::sync::Arc;

pub(super) use self::assets::Served;
use self::frame::Frame;
use super::api::documents::{NoRow, Status};
use super::api::parameters::{TableQuery, parse_key};
use super::live::View;
use super::query;
use crate::events::{Events, HISTORY};
use crate::metrics::columns::{RowKey, TableKind};
use crate::model::{Exporter, SettingInForce, Snapshot, WallClock};

/// What a URL of the page shows.
pub(super) enum Shown {
    Table(TableQuery),
    Object(RowKey),
    Events,
    Exporter,
}

/// What the page shows beside a reading.
pub(super) struct PageContext {
    pub(super) exporter: Exporter,
    pub(super) telemetry_path: String,
    pub(super) settings: Arc<[SettingInForce]>,
    pub(super) events: Events,
    /// For the dates of events.
    pub(super) clock: WallClock,
}

impl Shown {
    /// Parses the query of a URL. Parameters of others are ignored.
    ///
    /// # Errors
    ///
    /// What is wrong, in one line.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let pairs: Vec<_> = query::pairs(query).collect();
        let value = |name| pairs.iter().find(|(given, _)| given == name).map(|(_, value)| &**value);
        if let Some(key) = value("key") {
            return parse_key(key).map(Self::Object);
        }
        match value("tab") {
            None => TableQuery::with(TableKind::Programs, &pairs).map(Self::Table),
            Some("events") => Ok(Self::Events),
            Some("exporter") => Ok(Self::Exporter),
            Some(word) => {
                let kind = TableKind::from_word(word).ok_or_else(|| {
                    let tables = TableKind::ALL.map(TableKind::as_str).join(", ");
                    format!("tab={:?} is no tab: use {tables}, events or exporter", query::shortened(word))
                })?;
                TableQuery::with(kind, &pairs).map(Self::Table)
            }
        }
    }

    /// Returns the page.
    ///
    /// # Errors
    ///
    /// Why there is none of an object.
    pub(super) fn render(&self, view: &View, context: &PageContext) -> Result<String, NoRow> {
        let PageContext { exporter, telemetry_path, settings, events, clock } = context;
        let frame = Frame { exporter, telemetry_path };
        match self {
            Self::Table(query) => Ok(markup::table(&frame, view, query)),
            Self::Object(key) => markup::object(&frame, view, key),
            Self::Events => {
                let events = events.subscribe(Some(0)).take(HISTORY).events;
                Ok(markup::events(&frame, view, &events, *clock))
            }
            Self::Exporter => Ok(markup::exporter(&frame, &Status { view, exporter, settings })),
        }
    }
}

/// Returns what is shown where the page is turned off.
pub(super) fn landing(snapshot: &Snapshot, exporter: &Exporter, telemetry_path: &str) -> String {
    frame::landing(&Frame { exporter, telemetry_path }, snapshot)
}

/// Returns the file of the front end with a path, which begins with `/`.
pub(super) fn asset(path: &str) -> Option<Arc<Served>> {
    assets::find(path.strip_prefix('/')?)
}

/// Reads any text as the query of a page, and writes it as a text of one.
pub(super) fn fuzz(text: &str) {
    let _any = Shown::parse(text);
    html::fuzz(text);
}
