//! Short answers of one text, and what all answers have in common. Entry point: [`Page`].

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::activity::Busy;
use super::body::Body;
use super::bounds;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const ONE_SECOND: HeaderValue = HeaderValue::from_static("1");
const SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// A response before its body is one: a status, headers and a text.
pub(super) struct Page {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    text: String,
}

impl Page {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, headers: vec![(CONTENT_TYPE, TEXT)], text: text.into() }
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// A refusal of what was asked for, by its reason in one line.
    pub(super) fn wrong(problem: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("{problem}\n"))
    }

    /// A refusal that may end soon.
    pub(super) fn later(text: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text).with(RETRY_AFTER, ONE_SECOND)
    }

    pub(super) fn response(self, busy: Busy) -> Response<Body> {
        let mut response = Response::new(Body::text(self.text, busy));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response
    }
}

/// Waits for what a scraper still needs.
pub(super) async fn in_time<T>(headers: &HeaderMap, result: impl Future<Output = T>) -> Result<T, Page> {
    tokio::time::timeout(patience(headers), result)
        .await
        .map_err(|_| Page::later("the reading takes longer than the scrape may; give it more time\n"))
}

/// Returns how long a scraper waits for the answer: what it states less a tenth, for the way.
fn patience(headers: &HeaderMap) -> Duration {
    let stated = headers.get(&SCRAPE_TIMEOUT).and_then(|value| value.to_str().ok()?.parse::<f64>().ok());
    let stated = stated
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds * 0.9).ok());
    stated.map_or(bounds::WAIT, |stated| stated.min(bounds::WAIT))
}

/// Returns the values of a header that are visible ASCII.
pub(super) fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapers_state_their_patience() {
        let patience = |stated: &str| {
            let value = HeaderValue::from_str(stated).expect("a value");
            patience(&HeaderMap::from_iter([(SCRAPE_TIMEOUT, value)]))
        };
        assert_eq!(patience("10"), Duration::from_secs(9));
        assert_eq!(patience("0.5"), Duration::from_millis(450));
        for ignored in ["", "0", "-1", "NaN", "inf", "1e400", "ten", "1e30"] {
            assert_eq!(patience(ignored), bounds::WAIT, "{ignored}");
        }
    }
}
