//! The page, its files and its API, as answers to requests. Entry points: [`Site::route`] and [`Site::respond`].
//!
//! What is shown is rendered on the thread of scrapes, one after another, and counts as a scrape until it is sent.

use std::io::{self, Write as _};
use std::sync::{Arc, LazyLock};

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Bytes, Incoming};
use tracing::error;
use uuid::Uuid;

use super::activity::{Activity, Busy};
use super::answers::{self, Answers};
use super::api::documents::{self, NoRow, Status};
use super::api::parameters::{self, TableQuery};
use super::body::{Body, Pieces};
use super::connections::{Scrape, Scrapes};
use super::live::{Live, Pace, View};
use super::negotiate::{self, Coding};
use super::page::{self, Shown};
use super::response::{Page, in_time, values};
use super::{NO_STORE, Settings};
use crate::source::Source;
use crate::worker::Worker;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Kept by the browser as long as it likes: the name has the hash of the content.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("private, max-age=31536000, immutable");
/// Kept by the browser, and compared before each use.
const COMPARED: HeaderValue = HeaderValue::from_static("private, no-cache");

/// What browsers may do with the page, beside what is said in every answer: names of objects are of any origin, and so may be a page that refers to
/// this one. Sources: "Content Security Policy Level 3" and "Trusted Types" of the W3C, the Fetch and HTML standards.
const PROTECTION: [(HeaderName, HeaderValue); 5] = [
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
             form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        ),
    ),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=()"),
    ),
    // For browsers without frame-ancestors.
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];

/// Answers of fewer bytes are not compressed: a packet is sent in any case.
const WORTH_COMPRESSING: usize = 1 << 10;

/// The document of all tables and its tag, which never change.
static TABLES: LazyLock<serde_json::Result<(String, String)>> = LazyLock::new(|| {
    let text = documents::tables()?;
    let tag = content_tag(&text);
    Ok((text, tag))
});

/// The page and its API.
pub(super) struct Site {
    live: Arc<Live>,
    source: Source,
    worker: Worker,
    answers: Arc<Answers>,
    scrapes: Arc<Scrapes>,
    settings: Settings,
}

/// What a path of the site is.
pub(super) enum Route {
    Page,
    /// Where the page is turned off.
    Landing,
    Asset(Arc<page::Served>),
    Snapshot,
    Objects,
    Object,
    Tables,
    Status,
}

/// An answer of the site.
pub(super) struct Document {
    content_type: HeaderValue,
    cache: HeaderValue,
    /// The tag of its content, if it can be compared.
    tag: Option<String>,
    coding: Coding,
    content: DocumentContent,
}

/// Whether a client that gets a document will want the next one. Probes get the page itself, or a head.
#[derive(Clone, Copy)]
enum Looks {
    Once,
    On,
}

enum DocumentContent {
    /// The client has it already.
    Unchanged,
    Bytes(Bytes),
    /// It is held by a client.
    Rendered(Bytes, Arc<Scrape>),
    Answer(Arc<answers::Answer>, Arc<Scrape>),
}

impl Site {
    pub(super) fn new(
        source: Source,
        worker: Worker,
        answers: Arc<Answers>,
        scrapes: Arc<Scrapes>,
        settings: Settings,
    ) -> Self {
        let live = Live::new(source.clone(), worker.clone(), Pace::DEFAULT);
        Self { live, source, worker, answers, scrapes, settings }
    }

    /// Returns what a path is; `None` if it is nothing of the site.
    pub(super) fn route(&self, path: &str) -> Option<Route> {
        if !self.settings.page {
            return (path == "/").then_some(Route::Landing);
        }
        Some(match path {
            "/" => Route::Page,
            "/api/v1/snapshot" => Route::Snapshot,
            "/api/v1/objects" => Route::Objects,
            "/api/v1/object" => Route::Object,
            "/api/v1/tables" => Route::Tables,
            "/api/v1/status" => Route::Status,
            _ => Route::Asset(page::asset(path)?),
        })
    }

    /// Returns the answer to a request.
    pub(super) async fn respond(
        &self,
        route: Route,
        request: &Request<Incoming>,
        activity: &Arc<Activity>,
    ) -> Result<Document, Page> {
        let headers = request.headers();
        let query = request.uri().query().unwrap_or_default();
        let wrong = |problem: String| Page::wrong(&problem);
        let nothing = |query: &str| {
            if query.is_empty() { Ok(()) } else { Err(Page::wrong("there is no parameter here")) }
        };
        match route {
            Route::Asset(served) => {
                let tag = served.tag();
                let (coding, bytes) = served.content(coding(headers));
                let content = if is_known(headers, &tag) {
                    DocumentContent::Unchanged
                } else {
                    DocumentContent::Bytes(bytes)
                };
                let content_type = HeaderValue::from_static(served.content_type);
                Ok(Document { content_type, cache: IMMUTABLE, tag: Some(tag), coding, content })
            }
            Route::Landing => {
                let reading = in_time(headers, self.source.latest()).await?;
                let path = &self.settings.telemetry_path;
                let text = page::landing(&reading.snapshot, &self.source.exporter(), path);
                Ok(Document::plain(HTML, NO_STORE, None, text))
            }
            Route::Tables => {
                nothing(query)?;
                let (text, tag) = TABLES.as_ref().map_err(|problem| failed(problem))?;
                if is_known(headers, tag) {
                    return Ok(Document::unchanged(JSON, tag.clone()));
                }
                let scrape = self.admit(activity)?;
                let coding = coding(headers);
                let render = move || compressed(text.clone(), coding);
                let rendered = in_time(headers, async { self.worker.turn().await.run(render).await }).await?;
                Document::rendered(JSON, COMPARED, Some(tag.clone()), rendered, scrape)
            }
            Route::Snapshot => {
                nothing(query)?;
                let scrape = self.admit(activity)?;
                let coding = coding(headers);
                let wanted = answers::Request { content: answers::AnswerContent::Snapshot, coding };
                let answer = async {
                    let reading = self.source.latest().await;
                    self.answers.get(&self.source, reading, wanted, &scrape).await
                };
                let answer = in_time(headers, answer).await?.map_err(|problem| failed(&problem))?;
                let content = DocumentContent::Answer(answer, scrape);
                Ok(Document { content_type: JSON, cache: NO_STORE, tag: None, coding, content })
            }
            Route::Objects => {
                let query = TableQuery::parse(query).map_err(wrong)?;
                let render = move |view: &View| match documents::objects(view, &query) {
                    Ok(Some(text)) => Ok(text),
                    Ok(None) => Err(no_row(NoRow::Unread(query.kind))),
                    Err(problem) => Err(failed(&problem)),
                };
                self.shown(request, activity, Looks::On, (JSON, COMPARED), render).await
            }
            Route::Object => {
                let key = parameters::key(query).map_err(wrong)?;
                let render = move |view: &View| match documents::object(view, &key) {
                    Ok(found) => found.map_err(no_row),
                    Err(problem) => Err(failed(&problem)),
                };
                self.shown(request, activity, Looks::On, (JSON, COMPARED), render).await
            }
            Route::Status => {
                nothing(query)?;
                let (exporter, settings) = (self.source.exporter(), Arc::clone(&self.settings.settings));
                let render = move |view: &View| {
                    let status = Status { view, exporter: &exporter, settings: &settings };
                    documents::status(&status).map_err(|problem| failed(&problem))
                };
                self.shown(request, activity, Looks::Once, (JSON, NO_STORE), render).await
            }
            Route::Page => {
                let shown = Shown::parse(query).map_err(wrong)?;
                let context = page::PageContext {
                    exporter: self.source.exporter(),
                    telemetry_path: self.settings.telemetry_path.clone(),
                    settings: Arc::clone(&self.settings.settings),
                    events: self.settings.events.clone(),
                    clock: (self.settings.clock)(),
                };
                let render = move |view: &View| shown.render(view, &context).map_err(no_row);
                self.shown(request, activity, Looks::Once, (HTML, NO_STORE), render).await
            }
        }
    }

    fn admit(&self, activity: &Arc<Activity>) -> Result<Arc<Scrape>, Page> {
        let refused = || Page::later("as many requests as --web.max-requests allows are being answered\n");
        self.scrapes.admit(activity).map(Arc::new).ok_or_else(refused)
    }

    /// Returns what `render` makes of the newest readings. What may be compared has a tag.
    async fn shown(
        &self,
        request: &Request<Incoming>,
        activity: &Arc<Activity>,
        looks: Looks,
        (content_type, cache): (HeaderValue, HeaderValue),
        render: impl FnOnce(&View) -> Result<String, Page> + Send + 'static,
    ) -> Result<Document, Page> {
        let headers = request.headers();
        let scrape = self.admit(activity)?;
        let coding = coding(headers);
        let held = Arc::clone(&scrape);
        let work = async {
            let view = match looks {
                Looks::On if request.method() == Method::GET => self.live.view().await,
                _ => self.live.view_once().await,
            };
            let tag = (cache == COMPARED).then(|| self.live.tag(&view));
            if let Some(tag) = &tag
                && is_known(headers, tag)
            {
                return (Some(tag.clone()), None);
            }
            let render = move || {
                // Counts as a scrape until it ends, also if the client goes away.
                let _held = held;
                render(&view).map(|text| compressed(text, coding))
            };
            (tag, Some(self.worker.turn().await.run(render).await))
        };
        match in_time(headers, work).await? {
            (Some(tag), None) => Ok(Document::unchanged(content_type, tag)),
            (tag, Some(rendered)) => Document::rendered(content_type, cache, tag, rendered?, scrape),
            (None, None) => unreachable!("what is known has a tag"),
        }
    }
}

impl Document {
    fn plain(content_type: HeaderValue, cache: HeaderValue, tag: Option<String>, text: String) -> Self {
        Self {
            content_type,
            cache,
            tag,
            coding: Coding::Identity,
            content: DocumentContent::Bytes(text.into()),
        }
    }

    fn unchanged(content_type: HeaderValue, tag: String) -> Self {
        let (tag, coding) = (Some(tag), Coding::Identity);
        Self { content_type, cache: COMPARED, tag, coding, content: DocumentContent::Unchanged }
    }

    fn rendered(
        content_type: HeaderValue,
        cache: HeaderValue,
        tag: Option<String>,
        rendered: io::Result<(Coding, Bytes)>,
        scrape: Arc<Scrape>,
    ) -> Result<Self, Page> {
        let (coding, bytes) = rendered.map_err(|problem| failed(&problem))?;
        Ok(Self { content_type, cache, tag, coding, content: DocumentContent::Rendered(bytes, scrape) })
    }

    pub(super) fn response(self, is_head: bool, busy: Busy) -> Response<Body> {
        let Self { content_type, cache, tag, coding, content } = self;
        let is_unchanged = matches!(content, DocumentContent::Unchanged);
        let body = match content {
            DocumentContent::Unchanged => Body::text("", busy),
            _ if is_head => Body::text("", busy),
            DocumentContent::Bytes(bytes) => Body::text(bytes, busy),
            DocumentContent::Rendered(bytes, scrape) => {
                Body::stored(Pieces::new([bytes].into()), scrape, busy)
            }
            DocumentContent::Answer(answer, scrape) => Body::answer(&answer, coding, scrape, busy),
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.extend(PROTECTION);
        headers.insert(CACHE_CONTROL, cache);
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        if let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(&tag).ok()) {
            headers.insert(ETAG, tag);
        }
        if is_unchanged {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers.insert(CONTENT_TYPE, content_type);
        if let Some(coding) = coding.name() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        response
    }
}

fn no_row(why: NoRow) -> Page {
    match why {
        NoRow::Missing => Page::new(StatusCode::NOT_FOUND, "there is no such object, or no longer\n"),
        NoRow::Unread(kind) => Page::later(&format!("the table of {} could not be read\n", kind.as_str())),
    }
}

fn failed(problem: &dyn std::error::Error) -> Page {
    error!("failed to render a page: {problem}");
    Page::new(StatusCode::INTERNAL_SERVER_ERROR, "failed to render the page\n")
}

/// Returns the tag of a content: a hash of it.
fn content_tag(content: &str) -> String {
    format!("W/\"{}\"", Uuid::new_v5(&Uuid::NAMESPACE_OID, content.as_bytes()).simple())
}

/// Returns the compression that a client accepts; none if it accepts nothing at all.
fn coding(headers: &HeaderMap) -> Coding {
    negotiate::coding(&values(headers, &ACCEPT_ENCODING)).unwrap_or(Coding::Identity)
}

/// Returns whether the client has what a tag is of (RFC 9110, section 13.1.2): tags are weak, and so is the comparison.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let tags = values(headers, &IF_NONE_MATCH);
    tags.iter().flat_map(|tags| tags.split(',')).any(|known| known.trim() == tag)
}

/// Returns a text as it is sent, and how it is compressed.
fn compressed(text: String, coding: Coding) -> io::Result<(Coding, Bytes)> {
    if text.len() < WORTH_COMPRESSING {
        return Ok((Coding::Identity, text.into()));
    }
    let bytes = match coding {
        Coding::Identity => text.into_bytes(),
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(text.as_bytes())?;
            encoder.finish()?
        }
        Coding::Zstd => zstd::bulk::compress(text.as_bytes(), 1)?,
    };
    Ok((coding, bytes.into()))
}
