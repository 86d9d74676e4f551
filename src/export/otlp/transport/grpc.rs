//! OTLP/gRPC: sends encoded requests and classifies the receiver's statuses.
//! Entry point: [`GrpcClient::export`]. Source: the OTLP specification, "OTLP/gRPC".

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue};
use http_body::{Frame, SizeHint};
use prost::Message as _;
use prost::bytes::{Buf, Bytes};
use tonic::body::Body;
use tonic::client::GrpcService as _;
use tonic::codec::{DecodeBuf, Decoder};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, GRPC_CONTENT_TYPE};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Uri};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{Answer, Failure, FailureKind, Remedy, Retry};
use crate::error_chain::error_chain;
use crate::export::otlp::encode::{Request, Signal};
use crate::grpc_response;
use crate::text::{MAX_LEN, is_invisible, printable};

/// A client for one receiver.
#[derive(Debug)]
pub struct GrpcClient {
    endpoint: Endpoint,
    channel: Channel,
    /// Headers of every request.
    headers: HeaderMap,
    timeout: Duration,
}

/// Invalid settings of a client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The connection cannot be set up, for example because certificates cannot be read.
    #[error("failed to set up the connection")]
    Connection(#[source] tonic::transport::Error),
    /// The header is invalid.
    #[error("failed to use header {0:?}: names are lower-case words, values visible ASCII")]
    Header(String),
}

impl GrpcClient {
    /// Returns a client that connects with its first request, and again after the connection is lost.
    ///
    /// # Errors
    ///
    /// Fails if the connection cannot be set up or a header is invalid.
    pub fn new(uri: Uri, headers: &[(String, String)], timeout: Duration) -> Result<Self, SetupError> {
        let secure = uri.scheme_str() == Some("https");
        let mut endpoint = Endpoint::from(uri)
            .connect_timeout(timeout)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .user_agent(concat!("bpf-metrics-exporter/", env!("CARGO_PKG_VERSION")))
            .map_err(SetupError::Connection)?;
        if secure {
            endpoint = endpoint
                .tls_config(ClientTlsConfig::new().with_native_roots())
                .map_err(SetupError::Connection)?;
        }
        let mut request = tonic::Request::new(());
        request.set_timeout(timeout);
        for (name, value) in headers {
            let invalid = || SetupError::Header(name.clone());
            let name = AsciiMetadataKey::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
            let value = AsciiMetadataValue::try_from(value.as_str()).map_err(|_| invalid())?;
            request.metadata_mut().append(name, value);
        }
        let (metadata, ..) = request.into_parts();
        let mut headers = metadata.into_headers();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
        Ok(Self { channel: endpoint.connect_lazy(), endpoint, headers, timeout })
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// Fails if the receiver is unreachable, does not answer in time, or refuses the request.
    pub async fn export(&mut self, request: &Request) -> Result<Answer, Failure> {
        let body = Body::new(FramedRequest::new(request.bytes.clone()));
        let mut request =
            http::Request::post(path(request.items.signal)).body(body).expect("the path is valid");
        request.headers_mut().clone_from(&self.headers);
        let call = async {
            if let Err(error) = poll_fn(|context| self.channel.poll_ready(context)).await {
                return Err(Failure {
                    kind: FailureKind::Connect,
                    reason: error_chain(&error),
                    remedy: Remedy::Retry(Retry::WithBackoff),
                });
            }
            let response =
                self.channel.call(request).await.map_err(|error| Status::from_error(Box::new(error)));
            match response {
                Ok(response) => read_answer(response).await.map_err(|status| classify(&status)),
                Err(status) => Err(classify(&status)),
            }
        };
        if let Ok(result) = tokio::time::timeout(self.timeout, call).await {
            return result;
        }
        // Without a reset from the peer, the kernel would keep this connection for minutes.
        self.channel = self.endpoint.connect_lazy();
        let reason = format!("no answer within {:?}", self.timeout);
        Err(Failure { kind: FailureKind::Timeout, reason, remedy: Remedy::Retry(Retry::WithBackoff) })
    }
}

/// Returns the path of a signal's service.
fn path(signal: Signal) -> &'static str {
    match signal {
        Signal::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Signal::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    }
}

/// Classifies a status as permanent or retryable by the OTLP specification's table of gRPC codes.
///
/// The table covers answers of a receiver. A broken connection is not an answer, whatever code tonic gives it (`Unknown` for a
/// broken pipe), and is always retryable. Only its status has a source.
fn classify(status: &Status) -> Failure {
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let retry = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Some(delay.map_or(Retry::WithBackoff, Retry::After)),
        // Without a delay, the request itself is too large.
        Code::ResourceExhausted => delay.map(Retry::After),
        _ => std::error::Error::source(status).map(|_| Retry::WithBackoff),
    };
    let remedy = retry.map_or(Remedy::Drop, Remedy::Retry);
    Failure { kind: FailureKind::Grpc(status.code()), reason: error_chain(status), remedy }
}

/// `ExportMetricsServiceResponse` and `ExportLogsServiceResponse`, which have the same fields.
#[derive(Clone, PartialEq, prost::Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<ExportPartialSuccess>,
}

/// `ExportMetricsPartialSuccess` and `ExportLogsPartialSuccess`.
#[derive(Clone, PartialEq, prost::Message)]
struct ExportPartialSuccess {
    /// `rejected_data_points`, `rejected_log_records`.
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// HTTP body of a request that is already encoded. tonic's encoder would copy it, megabytes each time, into newly allocated
/// memory.
struct FramedRequest {
    /// Prefix and message, unless already sent.
    pieces: [Option<Bytes>; 2],
}

impl FramedRequest {
    /// Source: the gRPC specification, "Length-Prefixed-Message".
    fn new(bytes: Bytes) -> Self {
        let mut prefix = Vec::with_capacity(5);
        // Not compressed.
        prefix.push(0);
        prefix.extend(u32::try_from(bytes.len()).expect("requests are split below this size").to_be_bytes());
        Self { pieces: [Some(prefix.into()), Some(bytes)] }
    }
}

impl http_body::Body for FramedRequest {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.pieces.iter_mut().find_map(Option::take);
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.iter().all(Option::is_none)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.pieces.iter().flatten().map(|bytes| bytes.len() as u64).sum())
    }
}

/// Reads the answer of a receiver.
async fn read_answer(response: http::Response<Body>) -> Result<Answer, Status> {
    let answer = grpc_response::read(AnswerDecoder, response, None).await?;
    answer.ok_or_else(|| Status::internal("the receiver's answer is empty"))
}

/// Decodes [`ExportResponse`].
struct AnswerDecoder;

impl Decoder for AnswerDecoder {
    type Item = Answer;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Answer>, Status> {
        decode_answer(bytes.copy_to_bytes(bytes.remaining())).map(Some)
    }
}

fn decode_answer(message: impl Buf) -> Result<Answer, Status> {
    let response = ExportResponse::decode(message).map_err(|error| {
        Status::internal(format!("the receiver's answer is not an OTLP response: {error}"))
    })?;
    Ok(response.partial_success.map_or_else(Answer::default, |partial| Answer {
        rejected: u64::try_from(partial.rejected).unwrap_or(0),
        message: printable(partial.error_message.as_bytes()),
    }))
}

/// Entry point of a fuzzer: parses any bytes as the message of an answer.
pub(crate) fn fuzz_answer(bytes: &[u8]) {
    if let Ok(Answer { message, .. }) = decode_answer(bytes) {
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
        fn any_status_is_classified_by_its_code_and_delay(code in 1..17, message: String, seconds in 0_u64..1 << 40) {
            let code = Code::from_i32(code);
            let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(seconds)));
            let with_delay = classify(&Status::with_error_details(code, message.clone(), details));
            let without = classify(&Status::new(code, message));
            prop_assert!(with_delay.reason == without.reason && without.reason.len() <= MAX_LEN);
            prop_assert!(matches!(without.remedy, Remedy::Drop | Remedy::Retry(Retry::WithBackoff)));
            prop_assert!(without.remedy == Remedy::Drop || with_delay.remedy != Remedy::Drop);
            prop_assert!(matches!(with_delay.remedy, Remedy::Drop | Remedy::Retry(Retry::After(_))));
        }

        #[test]
        fn any_answer_is_parsed(rejected: i64, message: String) {
            let partial_success = Some(ExportPartialSuccess { rejected, error_message: message.clone() });
            let answer = decode_answer(&*ExportResponse { partial_success }.encode_to_vec()).expect("it is an answer");
            prop_assert_eq!(answer.rejected, u64::try_from(rejected).unwrap_or(0));
            prop_assert_eq!(answer.message, printable(message.as_bytes()));
        }
    }

    #[test]
    fn only_codes_that_the_specification_names_are_retryable() {
        let retried = [
            Code::Cancelled,
            Code::DeadlineExceeded,
            Code::Aborted,
            Code::OutOfRange,
            Code::Unavailable,
            Code::DataLoss,
        ];
        for code in (0..17).map(Code::from_i32).filter(|code| *code != Code::Ok) {
            let failure = classify(&Status::new(code, "text"));
            assert_eq!(failure.remedy != Remedy::Drop, retried.contains(&code), "{code:?}");
            assert!(failure.reason.contains("text"), "{}", failure.reason);
        }
    }

    #[test]
    fn a_broken_connection_is_retryable() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let status = Status::from_error(Box::new(broken));
        assert_eq!(classify(&status).remedy, Remedy::Retry(Retry::WithBackoff), "{status:?}");
    }

    #[test]
    fn the_delay_of_the_receiver_is_kept() {
        let delay = Duration::from_secs(7);
        let details = || ErrorDetails::with_retry_info(Some(delay));
        for code in [Code::ResourceExhausted, Code::Unavailable] {
            let failure = classify(&Status::with_error_details(code, "busy", details()));
            assert_eq!(failure.remedy, Remedy::Retry(Retry::After(delay)), "{code:?}");
        }
        assert_eq!(
            classify(&Status::with_error_details(Code::InvalidArgument, "no", details())).remedy,
            Remedy::Drop
        );
    }
}
