//! What is answered to a request. Entry point: [`Pages::respond`].

use std::sync::Arc;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST,
    HeaderMap, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use tracing::{debug, error};

use super::activity::{Activity, Busy};
use super::answers::{self, Answers};
use super::body::Body;
use super::collectors::Collectors;
use super::config::{Config, Verdict};
use super::connections::{Scrape, Scrapes};
use super::event_stream::{self, End, EventStream, EventStreams};
use super::negotiate::{self, Coding, Format};
use super::response::{Page, in_time, values};
use super::site::{Document, Site};
use super::{ConfigFile, Hosts, Peer, Settings, bounds};
use crate::export::prometheus::{self, protobuf};
use crate::source::{Reading, Source};
use crate::worker::Worker;

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// The page of events.
const EVENTS: &str = "/api/v1/events";

/// What is served, and what it is made of.
pub(super) struct Pages {
    site: Site,
    source: Source,
    answers: Arc<Answers>,
    scrapes: Arc<Scrapes>,
    streams: EventStreams,
    hosts: Hosts,
    telemetry_path: String,
    config: Option<ConfigFile>,
}

/// Returns the response on a connection that is less protected than the configuration demands by now.
pub(super) fn reconnect(busy: Busy) -> Response<Body> {
    Page::new(StatusCode::MISDIRECTED_REQUEST, "the configuration has changed: connect again\n")
        .response(busy)
}

impl Pages {
    pub(super) fn new(source: Source, rendering: Worker, settings: Settings) -> Self {
        let Settings { telemetry_path, max_requests, hosts, created, events, clock, config, .. } =
            settings.clone();
        let answers = Answers::new(rendering.clone(), created);
        let scrapes = Scrapes::new(max_requests);
        let site = Site::new(source.clone(), rendering, Arc::clone(&answers), Arc::clone(&scrapes), settings);
        Self {
            site,
            source,
            answers,
            scrapes,
            streams: EventStreams::new(events, clock),
            hosts,
            telemetry_path,
            config,
        }
    }

    /// Returns the response to a request. `needs_host`: whether its version of HTTP requires that it names one.
    pub(super) async fn respond(
        &self,
        request: &Request<Incoming>,
        config: &Arc<Config>,
        peer: &Peer,
        busy: Busy,
        needs_host: bool,
    ) -> Response<Body> {
        let content = match self.refusal(request, config, peer.is_unix, needs_host).await {
            Some(refusal) => Err(refusal),
            None => self.content(request, config, peer).await,
        };
        let mut response = match content {
            Ok(Content::Metrics(scrape)) => scrape.response(request.method() == Method::HEAD, busy),
            Ok(Content::Document(document)) => document.response(request.method() == Method::HEAD, busy),
            Ok(Content::Events(stream)) => events(stream, busy),
            Err(page) => page.response(busy),
        };
        let headers = response.headers_mut();
        for (name, value) in &config.headers {
            headers.insert(name, value.clone());
        }
        response
    }

    /// Returns why a request is not answered at all.
    async fn refusal(
        &self,
        request: &Request<Incoming>,
        config: &Config,
        is_unix: bool,
        needs_host: bool,
    ) -> Option<Page> {
        if !config.admits() {
            return Some(Page::new(StatusCode::TOO_MANY_REQUESTS, "more requests than rate_limit allows\n"));
        }
        if !is_unix && let Some(refusal) = self.refused_host(request, needs_host) {
            return Some(refusal);
        }
        let authorization = request.headers().get(AUTHORIZATION);
        let verdict = match &self.config {
            Some(file) => file.verify(config, authorization).await,
            None => Verdict::Allowed,
        };
        match verdict {
            Verdict::Allowed => {}
            Verdict::Refused => {
                let page = Page::new(StatusCode::UNAUTHORIZED, "user and password are missing or wrong\n");
                return Some(
                    page.with(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"metrics\"")),
                );
            }
            Verdict::Busy => return Some(Page::later("too many passwords are being verified\n")),
        }
        let url = request.uri().path_and_query().map_or(0, |url| url.as_str().len());
        if url > bounds::URL {
            return Some(Page::new(StatusCode::URI_TOO_LONG, "the URL is too long\n"));
        }
        if !request.body().is_end_stream() {
            let page = Page::new(StatusCode::PAYLOAD_TOO_LARGE, "a request has no body here\n");
            return Some(page.with(CONNECTION, HeaderValue::from_static("close")));
        }
        None
    }

    fn refused_host(&self, request: &Request<Incoming>, needs_host: bool) -> Option<Page> {
        let mut named = request.headers().get_all(HOST).iter();
        let header = named.next();
        if named.next().is_some() {
            return Some(Page::new(StatusCode::BAD_REQUEST, "the request has more than one Host\n"));
        }
        // That of an absolute URL, and of HTTP/2, comes before the header (RFC 9112, section 3.2.2).
        let host = match (request.uri().authority(), header) {
            (Some(authority), _) => Some(authority.as_str()),
            (None, Some(header)) => header.to_str().ok(),
            (None, None) if needs_host => {
                return Some(Page::new(StatusCode::BAD_REQUEST, "the request has no Host\n"));
            }
            // Nothing that runs a page's scripts speaks HTTP/1.0.
            (None, None) => return None,
        };
        if host.is_some_and(|host| self.hosts.serve(host)) {
            return None;
        }
        debug!("refused a request for the host {host:?}");
        let text = "the Host of the request is not served here: use the IP address or the host name, or allow it by \
                    --web.allowed-hosts\n";
        Some(Page::new(StatusCode::MISDIRECTED_REQUEST, text))
    }

    async fn content(
        &self,
        request: &Request<Incoming>,
        config: &Arc<Config>,
        peer: &Peer,
    ) -> Result<Content, Page> {
        let path = request.uri().path();
        let is_metrics = path == self.telemetry_path;
        let route = if is_metrics { None } else { self.site.route(path) };
        if !is_metrics && route.is_none() && !matches!(path, EVENTS | "/-/healthy" | "/-/ready") {
            return Err(Page::new(StatusCode::NOT_FOUND, "there is nothing here\n"));
        }
        match *request.method() {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return Err(Page::new(StatusCode::NO_CONTENT, "").with(ALLOW, METHODS)),
            _ => {
                let page =
                    Page::new(StatusCode::METHOD_NOT_ALLOWED, "only GET, HEAD and OPTIONS are served\n");
                return Err(page.with(ALLOW, METHODS));
            }
        }
        if is_metrics {
            return self.metrics(request, &peer.activity).await.map(Content::Metrics);
        }
        if let Some(route) = route {
            return self.site.respond(route, request, &peer.activity).await.map(Content::Document);
        }
        if path == EVENTS {
            return self.events(request, config, peer).map(Content::Events);
        }
        Err(match path {
            "/-/healthy" => Page::new(StatusCode::OK, "healthy\n"),
            "/-/ready" if self.reading(request.headers()).await?.snapshot.is_all_refused() => Page::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "not ready: the kernel refuses to list BPF objects\n",
            ),
            _ => Page::new(StatusCode::OK, "ready\n"),
        })
    }

    /// Returns the latest reading, as soon as the scraper needs it.
    async fn reading(&self, headers: &HeaderMap) -> Result<Reading, Page> {
        in_time(headers, self.source.latest()).await
    }

    async fn metrics(&self, request: &Request<Incoming>, activity: &Arc<Activity>) -> Result<Scraped, Page> {
        let headers = request.headers();
        let collectors = Collectors::parse(request.uri().query().unwrap_or_default())
            .map_err(|problem| Page::wrong(&problem))?;
        let format = negotiate::format(&values(headers, &ACCEPT));
        let coding = negotiate::coding(&values(headers, &ACCEPT_ENCODING)).ok_or_else(|| {
            Page::new(
                StatusCode::NOT_ACCEPTABLE,
                "there are gzip, zstd and no compression, and the request accepts none\n",
            )
        })?;
        let scrape = self.scrapes.admit(activity).ok_or_else(|| {
            Page::later("as many scrapes as --web.max-requests allows are being answered\n")
        })?;
        let scrape = Arc::new(scrape);
        let wanted =
            answers::Request { content: answers::AnswerContent::Metrics(format, collectors), coding };
        let answer = async {
            let reading = self.source.latest().await;
            self.answers.get(&self.source, reading, wanted, &scrape).await
        };
        let answer = in_time(headers, answer).await?.map_err(|problem| {
            error!("failed to render the metrics: {problem}");
            Page::new(StatusCode::INTERNAL_SERVER_ERROR, "failed to render the metrics\n")
        })?;
        Ok(Scraped { format, coding, answer, scrape })
    }

    /// Returns a stream of events; `None` if only its headers are wanted.
    fn events(
        &self,
        request: &Request<Incoming>,
        config: &Arc<Config>,
        peer: &Peer,
    ) -> Result<Option<EventStream>, Page> {
        let refused = |problem: String| Page::wrong(&problem);
        let query = event_stream::Query::parse(request.uri().query().unwrap_or_default()).map_err(refused)?;
        let last = event_stream::last_event_id(request.headers()).map_err(refused)?;
        if request.method() == Method::HEAD {
            return Ok(None);
        }
        let admitted = self.config.clone().map(|file| (file, Arc::clone(config)));
        let end = End { stop: peer.stop.clone(), admitted };
        let stream = self.streams.open(query, last, end);
        stream.map(Some).ok_or_else(|| Page::later("as many streams of events as there may be are open\n"))
    }
}

/// What is answered other than a page.
enum Content {
    Metrics(Scraped),
    /// The page, or something of its API.
    Document(Document),
    /// `None` for the headers only.
    Events(Option<EventStream>),
}

fn events(stream: Option<EventStream>, busy: Busy) -> Response<Body> {
    let body = match stream {
        Some(stream) => Body::events(stream, busy),
        None => Body::text("", busy),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, EVENT_STREAM);
    response
}

/// An answer for one client.
struct Scraped {
    format: Format,
    coding: Coding,
    answer: Arc<answers::Answer>,
    scrape: Arc<Scrape>,
}

impl Scraped {
    fn response(self, is_head: bool, busy: Busy) -> Response<Body> {
        let Self { format, coding, answer, scrape } = self;
        let body = if is_head { Body::text("", busy) } else { Body::answer(&answer, coding, scrape, busy) };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        let media_type = match format {
            Format::Text => prometheus::Format::Text.content_type(),
            Format::OpenMetrics => prometheus::Format::OpenMetrics.content_type(),
            Format::Protobuf => protobuf::CONTENT_TYPE,
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if let Some(coding) = coding.name() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        response
    }
}
