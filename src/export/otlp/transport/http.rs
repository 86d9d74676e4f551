//! OTLP/HTTP with binary protobuf: requests, and what receivers answer. Entry points: [`request`], [`read`].
//! Source: the OTLP specification, "OTLP/HTTP".

use std::time::SystemTime;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use prost::Message as _;
use prost::bytes::Bytes;
use tonic::Status;
use tonic_types::pb;

use super::answer::{decode, retry, retry_after};
use super::payload::Payload;
use super::{Answer, Failure, FailureKind, MAX_ANSWER_BYTES, Remedy, broken, page};
use crate::error_chain::error_chain;
use crate::export::otlp::encode::Request;
use crate::export::otlp::settings::Compression;
use crate::grpc_response::{ResponseError, decompress, read_text};
use crate::text::{MAX_LEN, is_invisible, printable};

/// The type of requests and answers.
const PROTOBUF: &str = "application/x-protobuf";

/// Returns the headers that do not depend on the request.
pub(super) fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
    headers
}

/// Adds the message to a request, which has everything else.
pub(super) fn request(request: &Request, headers: &mut HeaderMap) -> Payload {
    if request.compression != Compression::None {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(request.compression.as_str()));
    }
    Payload::plain(request.bytes.clone())
}

/// Reads an answer.
///
/// # Errors
///
/// Fails unless the receiver accepted the request.
pub(super) async fn read<B>(response: http::Response<B>) -> Result<Answer, Failure>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        let text = read_text(body).await;
        return Err(classify(head.status, &head.headers, &text, SystemTime::now()));
    }
    let collected = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let body = collected.map_err(|error| {
        if error.is::<LengthLimitError>() { Failure::too_large() } else { broken(error.as_ref()) }
    })?;
    accepted(&head.headers, body.to_bytes())
}

/// Reads the body of a success. Some receivers answer with nothing, or in JSON, whatever was sent: they accepted it.
fn accepted(headers: &HeaderMap, body: Bytes) -> Result<Answer, Failure> {
    let malformed = |reason| Err(Failure::dropping(FailureKind::Malformed, reason));
    match media_type(headers).as_deref() {
        None | Some(PROTOBUF | "application/protobuf") => {
            let body = match headers.get(CONTENT_ENCODING) {
                Some(encoding) => {
                    decompress(&body, encoding, MAX_ANSWER_BYTES).map_err(|error| match error {
                        ResponseError::TooLarge => Failure::too_large(),
                        error => Failure::dropping(FailureKind::Malformed, error_chain(&Status::from(error))),
                    })?
                }
                None => body,
            };
            decode(body).or_else(|error| malformed(format!("the answer is not one of OTLP: {error}")))
        }
        // A portal or a page for login, which accepts anything.
        Some("text/html") => malformed("the answer is a web page: this is not a receiver of OTLP".to_owned()),
        _ => Ok(Answer::default()),
    }
}

/// Classifies an answer with another status than success. Source: the OTLP specification, "Failures" of OTLP/HTTP.
fn classify(status: StatusCode, headers: &HeaderMap, body: &[u8], now: SystemTime) -> Failure {
    let remedy = match status.as_u16() {
        429 | 502 | 503 | 504 => Remedy::Retry(retry(retry_after(headers, now))),
        413 => Remedy::Split,
        _ => Remedy::Drop,
    };
    let reason = match headers.get(LOCATION) {
        Some(location) if status.is_redirection() => {
            let location = printable(location.as_bytes());
            printable(
                format!("HTTP status {status}: redirections are not followed; send to {location}").as_bytes(),
            )
        }
        _ => match media_type(headers).as_deref() {
            Some(PROTOBUF | "application/protobuf") => {
                // `google.rpc.Status`.
                let message = pb::Status::decode(body).map(|status| status.message);
                page(status, message.unwrap_or_else(|_| "its body is malformed".to_owned()).as_bytes())
            }
            _ => page(status, body),
        },
    };
    Failure { kind: FailureKind::Http(status.as_u16()), reason, remedy }
}

/// Returns the type of a body in lower case, without parameters.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase())
}

/// Entry point of a fuzzer: parses any bytes as an answer. A byte is the status, from 200 on; after it two lines with the type and the
/// delay, then the body.
pub(crate) fn fuzz_http(bytes: &[u8]) {
    let Some((status, rest)) = bytes.split_first() else { return };
    let mut parts = rest.splitn(3, |&byte| byte == b'\n');
    let mut headers = HeaderMap::new();
    for (name, value) in [(CONTENT_TYPE, parts.next()), (http::header::RETRY_AFTER, parts.next())] {
        if let Some(Ok(value)) = value.map(HeaderValue::from_bytes) {
            headers.insert(name, value);
        }
    }
    let body = parts.next().unwrap_or_default();
    let status = StatusCode::from_u16(200 + u16::from(*status)).expect("it has three digits");
    let text = if status.is_success() {
        match accepted(&headers, Bytes::copy_from_slice(body)) {
            Ok(answer) => answer.message,
            Err(failure) => failure.reason,
        }
    } else {
        classify(status, &headers, body, SystemTime::UNIX_EPOCH).reason
    };
    assert!(text.len() <= MAX_LEN && !text.contains(is_invisible), "{text}");
}
