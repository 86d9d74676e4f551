//! List and watch of a node's pods over HTTP, as the API server's documentation of its concepts has them.
//! Knows neither what is kept of a pod nor when to try again. Begin at [`list`] and [`open`].

use std::time::Duration;

use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kube_client::Client;
use kube_client::client::Body;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use thiserror::Error;
use tokio::time::timeout;
use tracing::debug;

use super::access::{AccessError, chain};
use super::pod::{Pod, Pods};

/// A node has some hundred pods at most; an API server that answers from its cache gives them in one piece in spite of this.
const PAGE: u32 = 500;
/// The store behind the API server takes objects of 1.5 MiB.
const LONGEST_LINE: usize = 8 << 20;
/// Several times what a full node has.
const LONGEST_LIST: usize = 64 << 20;
/// What is read of an answer that says no.
const LONGEST_REFUSAL: usize = 64 << 10;
/// Memory for lines that is kept while there are none.
const KEPT_BUFFER: usize = 64 << 10;

/// Why there are no names for now.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error("failed to get access: {0}")]
    Access(#[from] AccessError),
    #[error("failed to reach {server}: {reason}; check its address and the network between")]
    Unreachable { server: Uri, reason: String },
    #[error("{who} did not answer within {limit:?}")]
    Silent { who: String, limit: Duration },
    #[error("{}", describe(*status, message))]
    Refused { status: StatusCode, message: String, after: Option<Duration> },
    /// The version to go on from is one that the server does not remember any more.
    #[error("the API server has forgotten the version it gave: {0}")]
    Gone(String),
    #[error("the API server does not speak as one: {0}")]
    Garbage(String),
    #[error("the API server ends each watch as soon as it began")]
    Ended,
}

fn describe(status: StatusCode, message: &str) -> String {
    match status {
        StatusCode::UNAUTHORIZED => {
            format!(
                "the API server does not know who we are (401 {message}): is the token or the certificate valid?"
            )
        }
        StatusCode::FORBIDDEN => {
            format!(
                "the API server does not let us (403 {message}): grant list and watch of pods in the whole cluster (RBAC)"
            )
        }
        other => format!("the API server answers {} {message}", other.as_u16()),
    }
}

/// What is asked of which server, and how long an answer may take.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) client: Client,
    pub(super) server: Uri,
    pub(super) node: String,
    pub(super) answer: Duration,
}

/// From where a list is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListFrom {
    /// What the API server has in memory: nothing to the cluster, and perhaps a little old.
    Cache,
    /// The store behind it, where the cache is too old to go on from.
    Store,
}

#[derive(Debug, Deserialize)]
struct List {
    metadata: ListMetadata,
    items: Option<Vec<Pod>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    r#continue: String,
}

/// A line of a watch.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "object")]
enum Line {
    #[serde(rename = "ADDED", alias = "MODIFIED")]
    Set(Pod),
    #[serde(rename = "DELETED")]
    Deleted(Pod),
    #[serde(rename = "BOOKMARK")]
    Bookmark(Bookmark),
    #[serde(rename = "ERROR")]
    Error(Status),
}

#[derive(Debug, Deserialize)]
struct Bookmark {
    metadata: BookmarkMetadata,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMetadata {
    resource_version: String,
}

#[derive(Debug, Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

/// Something that a watch tells.
#[derive(Debug)]
pub(super) enum Event {
    /// A pod is there, or changed.
    Set(Pod),
    /// A pod is gone.
    Deleted(Pod),
    /// Nothing happened to this node's pods up to this version.
    Bookmark(String),
}

/// All pods of the node, and the version to watch from.
pub(super) async fn list(asker: &Asker, from: ListFrom) -> Result<(Pods, String), Failure> {
    let mut pods = Vec::new();
    let mut page = String::new();
    loop {
        let version = match from {
            // A page is of the version of the first one, and the server takes naming another for a mistake.
            ListFrom::Cache if page.is_empty() => "&resourceVersion=0",
            ListFrom::Cache | ListFrom::Store => "",
        };
        let next = if page.is_empty() { String::new() } else { format!("&continue={}", encode(&page)) };
        let response = ask(asker, &format!("limit={PAGE}{version}{next}")).await?;
        let body = Limited::new(response.into_body(), LONGEST_LIST).collect();
        let body = timeout(asker.answer, body).await.map_err(|_| silent(asker, asker.answer))?;
        let body = body.map_err(|error| match error.downcast::<LengthLimitError>() {
            Ok(_) => Failure::Garbage(format!("a list has more than {LONGEST_LIST} bytes")),
            Err(error) => unreachable(asker, &*error),
        })?;
        let list: List = serde_json::from_slice(&body.to_bytes())
            .map_err(|error| Failure::Garbage(format!("in a list: {error}")))?;
        pods.extend(list.items.unwrap_or_default());
        page = list.metadata.r#continue;
        if page.is_empty() {
            let version = list.metadata.resource_version;
            if version.is_empty() {
                return Err(Failure::Garbage("a list has no version".to_owned()));
            }
            return Ok((pods.into_iter().collect(), version));
        }
    }
}

/// What a watch tells, line by line.
#[derive(Debug)]
pub(super) struct Watch {
    body: Body,
    buffer: Vec<u8>,
    /// So much of the buffer has no end of a line in it.
    searched: usize,
}

/// Watches the pods of the node from a version on, for so long at most.
pub(super) async fn open(asker: &Asker, version: &str, lasting: Duration) -> Result<Watch, Failure> {
    let query = format!(
        "watch=1&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={}",
        lasting.as_secs().max(1),
        encode(version)
    );
    let response = ask(asker, &query).await?;
    Ok(Watch { body: response.into_body(), buffer: Vec::new(), searched: 0 })
}

impl Watch {
    /// The next event; `None` when the watch is over, well or ill: in both cases the next one goes on where this one ended.
    /// Nothing is lost when it is given up while it waits.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(length) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=self.searched + length).collect();
                self.searched = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return parse(&line).map(Some);
            }
            self.searched = self.buffer.len();
            if self.searched > LONGEST_LINE {
                return Err(Failure::Garbage(format!("a line has more than {LONGEST_LINE} bytes")));
            }
            if self.buffer.is_empty() {
                self.buffer.shrink_to(KEPT_BUFFER);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.buffer.extend_from_slice(&bytes);
                    }
                }
                Some(Err(error)) => {
                    debug!("a watch of pods broke off: {}", chain(&error));
                    return Ok(None);
                }
                // Half a line was cut off, and comes again.
                None => return Ok(None),
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Event, Failure> {
    match serde_json::from_slice(line) {
        Ok(Line::Set(pod)) => Ok(Event::Set(pod)),
        Ok(Line::Deleted(pod)) => Ok(Event::Deleted(pod)),
        Ok(Line::Bookmark(bookmark)) => Ok(Event::Bookmark(bookmark.metadata.resource_version)),
        Ok(Line::Error(Status { code: 410, message })) => Err(Failure::Gone(message)),
        Ok(Line::Error(Status { code, message })) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Err(Failure::Refused { status, message, after: None })
        }
        Err(error) => Err(Failure::Garbage(format!("in a watch: {error}"))),
    }
}

/// Asks for pods of the node; the answer is one that says yes.
async fn ask(asker: &Asker, query: &str) -> Result<Response<Body>, Failure> {
    let uri = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}&{query}", encode(&asker.node));
    let request = Request::get(uri)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .body(Body::empty())
        .map_err(|error| unreachable(asker, &error))?;
    let response = timeout(asker.answer, asker.client.send(request))
        .await
        .map_err(|_| silent(asker, asker.answer))?
        .map_err(|error| unreachable(asker, &error))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let after = response.headers().get(header::RETRY_AFTER);
    let after = after.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    let body = timeout(asker.answer, Limited::new(response.into_body(), LONGEST_REFUSAL).collect()).await;
    // Whatever becomes of the explanation, the refusal stands.
    let message = match body {
        Ok(Ok(body)) => explanation(&body.to_bytes()),
        Ok(Err(_)) | Err(_) => String::new(),
    };
    if status == StatusCode::GONE {
        return Err(Failure::Gone(message));
    }
    Err(Failure::Refused { status, message, after })
}

/// What a refusal says: a `Status` from an API server, anything from what stands between.
fn explanation(body: &[u8]) -> String {
    const LONGEST: usize = 300;
    let text = match serde_json::from_slice(body) {
        Ok(Status { message, .. }) => message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    one_line.trim().to_owned()
}

fn encode(value: &str) -> impl std::fmt::Display {
    utf8_percent_encode(value, NON_ALPHANUMERIC)
}

fn silent(asker: &Asker, limit: Duration) -> Failure {
    Failure::Silent { who: asker.server.to_string(), limit }
}

fn unreachable(asker: &Asker, error: &dyn std::error::Error) -> Failure {
    Failure::Unreachable { server: asker.server.clone(), reason: chain(error) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_a_watch_are_told_apart() {
        let pod = r#"{"metadata":{"name":"a","uid":"u","resourceVersion":"7"}}"#;
        for (line, expected) in [
            (format!(r#"{{"type":"ADDED","object":{pod}}}"#), "Ok(Set("),
            (format!(r#"{{"object":{pod},"type":"MODIFIED"}}"#), "Ok(Set("),
            (format!(r#"{{"type":"DELETED","object":{pod}}}"#), "Ok(Deleted("),
            (
                r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#.to_owned(),
                r#"Ok(Bookmark("9""#,
            ),
            (r#"{"type":"ERROR","object":{"code":410,"message":"old"}}"#.to_owned(), r#"Err(Gone("old""#),
            (r#"{"type":"ERROR","object":{"code":500}}"#.to_owned(), "Err(Refused { status: 500"),
            (r#"{"type":"ERROR","object":{"code":65535}}"#.to_owned(), "Err(Refused { status: 500"),
            (format!(r#"{{"type":"RENAMED","object":{pod}}}"#), "Err(Garbage("),
            (r#"{"type":"ADDED","object":{"metadata":{}}}"#.to_owned(), "Err(Garbage("),
            ("<html>".to_owned(), "Err(Garbage("),
        ] {
            let told = format!("{:?}", parse(line.as_bytes()));
            assert!(told.starts_with(expected), "{line}: {told}");
        }
    }

    #[test]
    fn a_refusal_is_explained_in_one_line() {
        for (body, expected) in [
            (r#"{"kind":"Status","message":"pods is\nforbidden"}"#.as_bytes(), "pods is forbidden"),
            (b"<html>\r\n", "<html>"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            (b"", ""),
        ] {
            assert_eq!(explanation(body), expected);
        }
        assert_eq!(explanation("x".repeat(5000).as_bytes()).len(), 300);
    }

    proptest! {
        #[test]
        fn nothing_that_a_server_says_ends_us(bytes in any::<Vec<u8>>(), status in 100_u16..1000) {
            let _parsed = parse(&bytes);
            let status = StatusCode::from_u16(status).expect("it is in range");
            prop_assert!(!describe(status, &explanation(&bytes)).contains('\n'));
        }
    }
}
