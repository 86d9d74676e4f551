//! The HTTP server. Its routes:
//!
//! | path | response |
//! |---|---|
//! | `/` | a landing page |
//! | `/metrics` | the metrics, in a format and compression that the scraper accepts |
//! | `/-/healthy` | 200 while the process serves |
//! | `/-/ready` | 200 if BPF objects can be read, else 503 |

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use tokio::sync::watch;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;

use crate::export::prometheus::{self, Format};
use crate::source::Source;
use crate::worker::Worker;

/// Listens on a port of an address, or of every address of this host.
///
/// # Errors
///
/// If the address is in use, not local, or not permitted.
pub fn bind(host: Option<&str>, port: u16) -> io::Result<TcpListener> {
    let listener = match host {
        Some(host) => TcpListener::bind((host, port)),
        // The IPv6 socket accepts IPv4 as well, if the host has IPv6.
        None => TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Err(error),
            _ => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
        }),
    }?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves on a listener until `stop`, and finishes requests in flight. Responses are rendered on `renderer`.
///
/// # Errors
///
/// If the listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    source: Source,
    renderer: Worker,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let stopped = async move {
        // An error means that the sender is gone: stop as well.
        let _: Result<_, watch::error::RecvError> = stop.wait_for(|stop| *stop).await.map(drop);
    };
    axum::serve(listener, router(source, renderer)).with_graceful_shutdown(stopped).await
}

#[derive(Clone)]
struct Pages {
    source: Source,
    renderer: Worker,
    /// Size of the last response: the next one will be similar.
    size_hint: Arc<AtomicUsize>,
}

/// Returns the routes.
pub fn router(source: Source, renderer: Worker) -> Router {
    let compress = CompressionLayer::new().quality(CompressionLevel::Fastest);
    Router::new()
        .route("/", get(landing))
        .route("/metrics", get(metrics).layer(compress))
        .route("/-/healthy", get(|| async { "healthy\n" }))
        .route("/-/ready", get(ready))
        .with_state(Pages { source, renderer, size_hint: Arc::default() })
}

async fn landing(State(pages): State<Pages>) -> Response {
    let reading = pages.source.latest().await;
    let totals = &reading.snapshot.totals;
    let items = totals.iter().map(|total| format!("<li>{}: {}</li>", total.kind.as_str(), total.objects));
    let counts = items.collect::<Vec<_>>().join("\n");
    let page = include_str!("landing.html").replace("{version}", env!("CARGO_PKG_VERSION"));
    Html(page.replace("{counts}", &counts)).into_response()
}

async fn metrics(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let accept: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::negotiate(&accept.join(","));
    let selected = pages.source.latest().await.selected;
    let exporter = pages.source.exporter();
    let size_hint = pages.size_hint;
    let render = move || {
        let sample = selected.sample(Some(&exporter));
        let text = prometheus::render(sample, format, size_hint.load(Ordering::Relaxed));
        size_hint.store(text.len(), Ordering::Relaxed);
        text
    };
    let text = pages.renderer.run(render).await;
    ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
}

async fn ready(State(pages): State<Pages>) -> (StatusCode, &'static str) {
    if pages.source.latest().await.snapshot.is_all_refused() {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: the kernel refuses to list BPF objects\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

/// Returns the URL of the metrics on a listener.
#[must_use]
pub fn url(listener: &TcpListener) -> String {
    match listener.local_addr() {
        Ok(SocketAddr::V4(address)) => format!("http://{address}/metrics"),
        Ok(SocketAddr::V6(address)) => format!("http://{address}/metrics"),
        Err(error) => format!("an unknown address ({error})"),
    }
}
