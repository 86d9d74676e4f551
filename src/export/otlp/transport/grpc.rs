//! OTLP/gRPC: requests, and what receivers answer. Entry points: [`request`], [`read`].
//! Source: the OTLP specification, "OTLP/gRPC"; the gRPC specification, "gRPC over HTTP2".

use std::time::{Duration, SystemTime};

use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body;
use prost::bytes::Bytes;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::answer::{decode, retry, retry_after};
use super::payload::Payload;
use super::{Answer, Failure, FailureKind, MAX_ANSWER_BYTES, Remedy, Retry, broken, page};
use crate::error_chain::error_chain;
use crate::export::otlp::encode::{Request, Signal};
use crate::export::otlp::settings::Compression;
use crate::grpc_response::{self, GRPC_ENCODING, ResponseError, code_of};
use crate::text::{MAX_LEN, is_invisible};

/// How long the client waits.
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Returns the headers that do not depend on the request.
pub(super) fn headers(timeout: Duration) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if let Some(timeout) = timeout_value(timeout) {
        headers.insert(GRPC_TIMEOUT, timeout);
    }
    headers
}

/// Returns a time limit in at most eight digits; `None` for one that is too long to matter.
fn timeout_value(timeout: Duration) -> Option<HeaderValue> {
    let units = [(timeout.as_millis(), "m"), (u128::from(timeout.as_secs()), "S")];
    let (value, unit) = units.into_iter().find(|(value, _)| *value < 100_000_000)?;
    HeaderValue::try_from(format!("{value}{unit}")).ok()
}

/// Returns the path of a signal's service.
pub(super) fn path(signal: Signal) -> &'static str {
    match signal {
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    }
}

/// Adds the message to a request, which has everything else.
pub(super) fn request(request: &Request, headers: &mut HeaderMap) -> Payload {
    let is_compressed = request.compression != Compression::None;
    if is_compressed {
        headers.insert(GRPC_ENCODING, HeaderValue::from_static(request.compression.as_str()));
    }
    Payload::framed(request.bytes.clone(), is_compressed)
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
    match grpc_response::read(response, MAX_ANSWER_BYTES).await {
        Ok(Some(message)) => decode(message).map_err(|error| {
            Failure::dropping(FailureKind::Malformed, format!("the answer is not one of OTLP: {error}"))
        }),
        Ok(None) => Err(Failure::dropping(
            FailureKind::Malformed,
            "the answer has a status but no message".to_owned(),
        )),
        Err(ResponseError::Status(status)) => Err(classify(&status)),
        Err(ResponseError::Http { status, headers, text }) => {
            let code = code_of(status);
            let delay = retry_after(&headers, SystemTime::now());
            let remedy = match status.as_u16() {
                413 => Remedy::Split,
                _ => remedy_of(code, delay.map(|delay| retry(Some(delay)))),
            };
            let reason = format!("the answer is not gRPC but {}", page(status, &text));
            Err(Failure { kind: FailureKind::Grpc(code), reason, remedy })
        }
        Err(ResponseError::Cut(error)) => {
            let error = error.map(|error| broken(error.as_ref()));
            Err(error.unwrap_or_else(|| {
                Failure::retryable(FailureKind::Broken, "the answer ended before its status".to_owned())
            }))
        }
        Err(ResponseError::TooLarge) => Err(Failure::too_large()),
        Err(ResponseError::Malformed(problem)) => {
            Err(Failure::dropping(FailureKind::Malformed, problem.to_owned()))
        }
    }
}

/// Classifies the status of a receiver.
fn classify(status: &Status) -> Failure {
    let demanded = status.get_details_retry_info().map(|info| retry(info.retry_delay));
    let remedy = match status.code() {
        Code::ResourceExhausted | Code::OutOfRange
            if demanded.is_none() && is_too_large(status.message()) =>
        {
            Remedy::Split
        }
        code => remedy_of(code, demanded),
    };
    Failure { kind: FailureKind::Grpc(status.code()), reason: error_chain(status), remedy }
}

/// Returns what to do after a status, with what the receiver says about retrying. Source: the OTLP specification, "Failures" of OTLP/gRPC.
fn remedy_of(code: Code, demanded: Option<Retry>) -> Remedy {
    match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Remedy::Retry(demanded.unwrap_or(Retry::WithBackoff)),
        // Without a word about retrying, it does not pass.
        Code::ResourceExhausted => demanded.map_or(Remedy::Drop, Remedy::Retry),
        _ => Remedy::Drop,
    }
}

/// Returns whether a message refuses the size of a request. gRPC has no code for it, and each library a text of its own.
fn is_too_large(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let exceeds = ["larger than", "exceeds", "too large", "too big"];
    message.contains("message") && exceeds.iter().any(|words| message.contains(words))
}

/// Entry point of a fuzzer: parses any bytes as the body of an answer, in each compression.
pub(crate) fn fuzz_body(bytes: &[u8]) {
    /// A limit that is soon reached.
    const LIMIT: usize = 4 << 10;
    for encoding in ["identity", "gzip", "zstd"] {
        let encoding = HeaderValue::from_static(encoding);
        let read = grpc_response::message(Bytes::copy_from_slice(bytes), Some(&encoding), LIMIT);
        if let Ok(Some(message)) = read {
            assert!(message.len() <= LIMIT.max(bytes.len()));
        }
    }
}

/// Entry point of a fuzzer: parses any bytes as the message of an answer.
pub(crate) fn fuzz_answer(bytes: &[u8]) {
    if let Ok(Answer { message, .. }) = decode(bytes) {
        assert!(message.len() <= MAX_LEN && !message.contains(is_invisible));
    }
}

/// Entry point of a fuzzer: parses any bytes as the trailers of an answer. A byte is the code; after it the message and the
/// details are as the headers have them, separated by a line feed.
pub(crate) fn fuzz_status(bytes: &[u8]) {
    let Some((code, rest)) = bytes.split_first() else { return };
    let mut parts = rest.splitn(2, |&byte| byte == b'\n');
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", HeaderValue::from(u16::from(*code)));
    for (name, value) in [("grpc-message", parts.next()), ("grpc-status-details-bin", parts.next())] {
        if let Some(Ok(value)) = value.map(HeaderValue::from_bytes) {
            headers.insert(name, value);
        }
    }
    if let Some(status) = grpc_response::status(&mut headers) {
        let Failure { reason, .. } = classify(&status);
        assert!(reason.len() <= MAX_LEN && !reason.contains(is_invisible));
    }
    // The details by themselves: in a header they are encoded.
    let _failure = classify(&Status::with_details(Code::Unavailable, "", rest.to_vec().into()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tonic_types::ErrorDetails;

    use super::*;

    proptest! {
        #[test]
        fn any_status_is_classified_by_its_code_and_delay(
            code in 1..17,
            message: String,
            seconds in 1_u64..1 << 40,
        ) {
            let code = Code::from_i32(code);
            let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(seconds)));
            let with_delay = classify(&Status::with_error_details(code, message.clone(), details));
            let without = classify(&Status::new(code, message));
            prop_assert!(with_delay.reason == without.reason && without.reason.len() <= MAX_LEN);
            prop_assert!(without.remedy != Remedy::Retry(Retry::After(Duration::from_secs(seconds))));
            prop_assert!(without.remedy == Remedy::Drop || with_delay.remedy != Remedy::Drop);
            prop_assert!(matches!(with_delay.remedy, Remedy::Drop | Remedy::Retry(Retry::After(_))));
        }
    }

    #[test]
    fn requests_that_are_too_large_are_split() {
        let texts = [
            (Code::ResourceExhausted, "grpc: received message larger than max (4194323 vs. 4194304)"),
            (Code::ResourceExhausted, "grpc: received message after decompression larger than max 4194304"),
            (
                Code::ResourceExhausted,
                "CLIENT: Received message exceeds the maximum configured message size.",
            ),
            (Code::ResourceExhausted, "gRPC message exceeds maximum size 4194304: 5000000"),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes",
            ),
        ];
        for (code, text) in texts {
            assert_eq!(classify(&Status::new(code, text)).remedy, Remedy::Split, "{text}");
        }
        let others = [
            (Code::ResourceExhausted, "ingestion rate limit (25000) exceeded", Remedy::Drop),
            (Code::OutOfRange, "a point is too old", Remedy::Retry(Retry::WithBackoff)),
            (Code::InvalidArgument, "message too large", Remedy::Drop),
        ];
        for (code, text, remedy) in others {
            assert_eq!(classify(&Status::new(code, text)).remedy, remedy, "{text}");
        }
    }

    #[test]
    fn a_time_limit_has_at_most_eight_digits() {
        let table = [(10, Some("10000m")), (1_000_000, Some("1000000S")), (u64::MAX, None)];
        for (seconds, expected) in table {
            let value = timeout_value(Duration::from_secs(seconds));
            assert_eq!(value.as_ref().and_then(|value| value.to_str().ok()), expected);
        }
    }
}
