//! Reads a unary gRPC response from a peer that may send anything.
//! Entry point: [`read`].

use std::error::Error;
use std::io::Read as _;
use std::time::Duration;

use flate2::read::GzDecoder;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::Body;
use http_body_util::BodyExt as _;
use prost::bytes::{Buf as _, Bytes};
use tokio::time::{Instant, timeout_at};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

/// The header with the details of a status.
const DETAILS: &str = "grpc-status-details-bin";

/// Length of what precedes a message: whether it is compressed, and its length.
const PREFIX_LEN: usize = 5;

/// The header with the name of the compression of a message.
pub(crate) const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// The largest window of a Zstandard frame, 8 MiB as a power of two: it is memory that the peer chooses. Source: RFC 8878, section 3.1.1.1.2.
const MAX_WINDOW_LOG: u32 = 23;

/// The longest text that is read of an answer that is not gRPC, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 64 << 10;

/// How long such a text is waited for: what it says is only for the log, and a peer that never ends it has answered all the same.
const MAX_TEXT_TIME: Duration = Duration::from_secs(1);

/// Why there is no message.
#[derive(Debug)]
pub(crate) enum ResponseError {
    /// The peer says so.
    Status(Status),
    /// The answer is not gRPC. A proxy sends such, whatever the peer behind it speaks.
    Http {
        /// Its status.
        status: StatusCode,
        /// Its headers.
        headers: HeaderMap,
        /// The beginning of its text.
        text: Vec<u8>,
    },
    /// The answer ended before its status.
    Cut(Option<Box<dyn Error + Send + Sync>>),
    /// The message is longer than the limit.
    TooLarge,
    /// The answer breaks the protocol.
    Malformed(&'static str),
}

/// The status that a library has to report for what is not one of the peer. Source: the gRPC specification, "HTTP to gRPC Status Code
/// Mapping", and "Status codes and their use in gRPC".
impl From<ResponseError> for Status {
    fn from(error: ResponseError) -> Self {
        match error {
            ResponseError::Status(status) => status,
            ResponseError::Http { status, .. } => {
                Self::new(code_of(status), format!("the answer is not gRPC: HTTP status {status}"))
            }
            ResponseError::Cut(None) => Self::unavailable("the answer ended before its status"),
            ResponseError::Cut(Some(error)) => Self::unavailable(format!("the answer broke off: {error}")),
            ResponseError::TooLarge => Self::out_of_range("the answer is too long"),
            ResponseError::Malformed(problem) => Self::internal(problem),
        }
    }
}

/// Returns the gRPC code of an answer that has only an HTTP status. Source: the gRPC specification, "HTTP to gRPC Status Code Mapping".
pub(crate) fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// Reads one message followed by a status in the trailers, or only a status in the headers. `None` for a success without a message;
/// a message of more than `max_len` bytes is an error.
///
/// # Errors
///
/// The status of the peer, or what is wrong with its response.
pub(crate) async fn read<B>(
    response: http::Response<B>,
    max_len: usize,
) -> Result<Option<Bytes>, ResponseError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (mut head, mut body) = response.into_parts();
    let mut status = status(&mut head.headers);
    if let Some(status) = status.take_if(|status| status.code() != Code::Ok) {
        return Err(ResponseError::Status(status));
    }
    let content = head.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let is_grpc = content.len() >= 16 && content[..16].eq_ignore_ascii_case(b"application/grpc");
    if status.is_none() && (head.status != StatusCode::OK || !is_grpc) {
        let text = read_text(body).await;
        return Err(ResponseError::Http { status: head.status, headers: head.headers, text });
    }
    let encoding = head.headers.get(GRPC_ENCODING).cloned();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ResponseError::Cut(Some(error.into())))?;
        match frame.into_data() {
            Ok(data) => {
                let missing = PREFIX_LEN.saturating_sub(bytes.len()).min(data.len());
                bytes.extend_from_slice(&data[..missing]);
                if length(&bytes).is_some_and(|length| length > max_len) {
                    return Err(ResponseError::TooLarge);
                }
                bytes.extend_from_slice(&data[missing..]);
                if bytes.len() > PREFIX_LEN.saturating_add(max_len) {
                    return Err(ResponseError::TooLarge);
                }
            }
            Err(frame) => {
                if let Ok(mut trailers) = frame.into_trailers() {
                    status = self::status(&mut trailers).or(status);
                }
            }
        }
    }
    match status {
        None => Err(ResponseError::Cut(None)),
        Some(status) if status.code() != Code::Ok => Err(ResponseError::Status(status)),
        Some(_) => message(bytes.into(), encoding.as_ref(), max_len),
    }
}

/// Returns the length of a message that its prefix announces, once that is complete.
fn length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(1..PREFIX_LEN)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(length)).ok()
}

/// Returns the one message of a body. Source: the gRPC specification, "Length-Prefixed-Message".
pub(crate) fn message(
    mut bytes: Bytes,
    encoding: Option<&HeaderValue>,
    max_len: usize,
) -> Result<Option<Bytes>, ResponseError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let length = length(&bytes).ok_or(ResponseError::Malformed("the answer ends within its prefix"))?;
    let is_compressed = bytes[0] != 0;
    bytes.advance(PREFIX_LEN);
    if bytes.len() != length {
        return Err(ResponseError::Malformed("the answer is not exactly one message"));
    }
    if is_compressed {
        // Servers in Go answer in the compression of the request, whatever the client offers.
        let encoding =
            encoding.ok_or(ResponseError::Malformed("the answer is compressed in an unknown way"))?;
        bytes = decompress(&bytes, encoding, max_len)?;
    }
    Ok(Some(bytes))
}

/// Decompresses an answer by the name of its compression.
///
/// # Errors
///
/// Fails if the compression is unknown, the answer is not compressed so, or has more than `max_len` bytes.
pub(crate) fn decompress(
    bytes: &[u8],
    encoding: &HeaderValue,
    max_len: usize,
) -> Result<Bytes, ResponseError> {
    let mut plain = Vec::new();
    // A byte more than the limit.
    let limit = max_len as u64 + 1;
    let read = match encoding.as_bytes() {
        b"identity" => return Ok(Bytes::copy_from_slice(bytes)),
        b"gzip" => GzDecoder::new(bytes).take(limit).read_to_end(&mut plain),
        b"zstd" => zstd::Decoder::with_buffer(bytes).and_then(|mut zstd| {
            zstd.window_log_max(MAX_WINDOW_LOG)?;
            zstd.take(limit).read_to_end(&mut plain)
        }),
        _ => return Err(ResponseError::Malformed("the answer is compressed in an unknown way")),
    };
    match read {
        Ok(length) if length <= max_len => Ok(plain.into()),
        Ok(_) => Err(ResponseError::TooLarge),
        Err(_) => Err(ResponseError::Malformed("the answer is not compressed as it says")),
    }
}

/// Reads the beginning of a body, as far as there is one within [`MAX_TEXT_TIME`].
pub(crate) async fn read_text<B: Body<Data = Bytes> + Unpin>(mut body: B) -> Vec<u8> {
    let mut text = Vec::new();
    let until = Instant::now() + MAX_TEXT_TIME;
    while let Ok(Some(Ok(frame))) = timeout_at(until, body.frame()).await {
        let Ok(data) = frame.into_data() else { break };
        text.extend_from_slice(&data[..data.len().min(MAX_TEXT_BYTES - text.len())]);
        if text.len() == MAX_TEXT_BYTES {
            break;
        }
    }
    text
}

/// Returns the status in headers or trailers.
pub(crate) fn status(headers: &mut HeaderMap) -> Option<Status> {
    drop_invalid_details(headers);
    Status::from_header_map(headers)
}

/// Removes details that are not encoded as they should be: `Status::from_header_map` panics on them (tonic 0.14).
fn drop_invalid_details(headers: &mut HeaderMap) {
    let metadata = MetadataMap::from_headers(std::mem::take(headers));
    let is_invalid = metadata.get_bin(DETAILS).is_some_and(|details| details.to_bytes().is_err());
    *headers = metadata.into_headers();
    if is_invalid {
        headers.remove(DETAILS);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{Empty, Full};

    use super::*;

    fn headers(values: &[(&'static str, &'static str)]) -> HeaderMap {
        values
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect()
    }

    /// Reads an answer with these headers, this body and these trailers.
    async fn answered(
        head: &[(&'static str, &'static str)],
        body: &'static [u8],
        trailers: Option<HeaderMap>,
    ) -> Result<Option<Bytes>, ResponseError> {
        let body = Full::new(Bytes::from_static(body));
        let mut response = http::Response::new(body.with_trailers(async move { trailers.map(Ok) }));
        *response.headers_mut() = headers(head);
        read(response.map(Box::pin), 9).await
    }

    const GRPC: (&str, &str) = ("content-type", "application/grpc+proto");

    #[tokio::test]
    async fn invalid_details_in_headers_and_trailers_are_dropped() {
        for details in ["(", "a", "CA4", "=", ""] {
            let status = [("grpc-status", "14"), ("grpc-message", "busy%0A"), (DETAILS, details)];
            let mut only_head = http::Response::new(Empty::<Bytes>::new());
            *only_head.headers_mut() = headers(&status);
            let trailers = Some(headers(&status));
            for result in [read(only_head, 9).await, answered(&[GRPC], &[0; 5], trailers).await] {
                let Err(ResponseError::Status(status)) = result else { panic!("{result:?}") };
                assert_eq!((status.code(), status.message()), (Code::Unavailable, "busy\n"), "{details}");
                let expected: &[u8] = if details == "CA4" { &[8, 14] } else { &[] };
                assert_eq!(status.details(), expected, "{details}");
            }
        }
    }

    #[tokio::test]
    async fn an_answer_is_one_message_and_a_status() {
        let ok = || Some(headers(&[("grpc-status", "0")]));
        let read = answered(&[GRPC], b"\0\0\0\0\x02ab", ok()).await;
        assert_eq!(read.expect("an answer").as_deref(), Some(&b"ab"[..]));
        assert_eq!(answered(&[GRPC], b"", ok()).await.expect("a success"), None);
        assert!(matches!(answered(&[GRPC], b"\0\0\0\0\0", None).await, Err(ResponseError::Cut(None))));
        for body in [&b"\0\0\0\0"[..], b"\x01\0\0\0\0", b"\0\0\0\0\x03ab", b"\0\0\0\0\x01ab"] {
            let read = answered(&[GRPC], body, ok()).await;
            assert!(matches!(read, Err(ResponseError::Malformed(_))), "{body:?}: {read:?}");
        }
        for body in [&b"\0\x01\0\0\0"[..], b"\0\0\0\0\x09 more than nine bytes"] {
            let read = answered(&[GRPC], body, ok()).await;
            assert!(matches!(read, Err(ResponseError::TooLarge)), "{body:?}: {read:?}");
        }
        let page = answered(&[("content-type", "text/html")], b"<html>", ok()).await;
        assert!(matches!(page, Err(ResponseError::Http { text, .. }) if text == b"<html>"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_text_that_does_not_end_is_read_as_far_as_it_came() {
        let first = http_body::Frame::data(Bytes::from_static(b"<html>"));
        let beginning = stream::iter([Ok::<_, std::convert::Infallible>(first)]);
        let endless = beginning.chain(stream::pending());
        let body = http_body_util::StreamBody::new(endless);
        let response = http::Response::builder().status(503).body(body).expect("it is valid");
        let read = read(response, 9).await;
        assert!(matches!(read, Err(ResponseError::Http { text, .. }) if text == b"<html>"));
    }

    #[test]
    fn what_a_compressed_answer_becomes_is_bounded() {
        let long = vec![0; 1 << 20];
        let mut gzip = flate2::read::GzEncoder::new(&*long, flate2::Compression::default());
        let mut compressed = Vec::new();
        gzip.read_to_end(&mut compressed).expect("there is memory");
        let zstd = zstd::encode_all(&*long, 1).expect("there is memory");
        for (name, bytes) in [("gzip", compressed), ("zstd", zstd)] {
            let name = HeaderValue::from_static(name);
            let whole = decompress(&bytes, &name, long.len()).expect("it is within the limit");
            assert!(whole == long, "{name:?}");
            let beyond = decompress(&bytes, &name, long.len() - 1);
            assert!(matches!(beyond, Err(ResponseError::TooLarge)), "{name:?}");
            let cut = decompress(&bytes[..bytes.len() / 2], &name, long.len());
            assert!(matches!(cut, Err(ResponseError::Malformed(_))), "{name:?}");
        }
    }
}
