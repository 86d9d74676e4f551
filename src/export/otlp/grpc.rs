//! OTLP over gRPC: a request that is already encoded, out; what the receiver says of it, in.
//! Source: the OTLP specification, "OTLP/gRPC".

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
use tonic::codec::{DecodeBuf, Decoder, Streaming};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, GRPC_CONTENT_TYPE};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Uri};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::error_chain::error_chain;

const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// A receiver, and how to speak to it.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    channel: Channel,
    /// Of every request.
    headers: HeaderMap,
    timeout: Duration,
}

/// What the receiver says of a request that it took.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// How many of its points it did not take.
    pub rejected: u64,
    /// Why, or what else it has to say; mostly nothing.
    pub message: String,
}

/// Why a request was not taken.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What happened, for people.
    pub reason: String,
    /// Whether and when to try again; `None` when the receiver's word is final.
    pub retry: Option<Retry>,
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// When it seems right.
    WithBackoff,
    /// When the receiver says.
    After(Duration),
}

/// What is wrong with the settings of a client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The connection cannot be set up: its certificates cannot be read, say.
    #[error("failed to set up the connection: {0}")]
    Connection(#[source] tonic::transport::Error),
    /// A header cannot be sent.
    #[error("failed to use header {0:?}: names are lower-case words, values visible ASCII")]
    Header(String),
}

impl Client {
    /// A client that connects when it has something to send, and again when the connection is lost.
    ///
    /// # Errors
    ///
    /// When the connection cannot be set up, or a header cannot be sent.
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
        let mut request = Request::new(());
        request.set_timeout(timeout);
        for (name, value) in headers {
            let wrong = || SetupError::Header(name.clone());
            let name = AsciiMetadataKey::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            let value = AsciiMetadataValue::try_from(value.as_str()).map_err(|_| wrong())?;
            request.metadata_mut().append(name, value);
        }
        let (metadata, ..) = request.into_parts();
        let mut headers = metadata.into_headers();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
        Ok(Self { channel: endpoint.connect_lazy(), endpoint, headers, timeout })
    }

    /// Sends an encoded `ExportMetricsServiceRequest`.
    ///
    /// # Errors
    ///
    /// When the receiver cannot be reached, does not answer in time, or refuses.
    pub async fn export(&mut self, bytes: Bytes) -> Result<Answer, Failure> {
        let mut request =
            http::Request::post(EXPORT).body(Body::new(Message::framed(bytes))).expect("a path");
        request.headers_mut().clone_from(&self.headers);
        let call = async {
            let unavailable = |error: tonic::transport::Error| Status::unavailable(error_chain(&error));
            poll_fn(|context| self.channel.poll_ready(context)).await.map_err(unavailable)?;
            let response = self.channel.call(request).await;
            answer(response.map_err(|error| Status::from_error(Box::new(error)))?).await
        };
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(classify(&status)),
            Err(_) => {
                // A peer that vanished without a word would hold this connection for minutes.
                self.channel = self.endpoint.connect_lazy();
                let reason = format!("no answer within {:?}", self.timeout);
                Err(Failure { reason, retry: Some(Retry::WithBackoff) })
            }
        }
    }
}

/// Whether an error is final, as the OTLP specification's table of gRPC codes says.
///
/// That table is about what a receiver answers. A connection that broke is no answer, whatever code stands for it here
/// (`Unknown` for a broken pipe): only such an error has a cause on our side.
fn classify(status: &Status) -> Failure {
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let retry = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Some(delay.map_or(Retry::WithBackoff, Retry::After)),
        // Without a delay it says that the request itself is too much.
        Code::ResourceExhausted => delay.map(Retry::After),
        _ => std::error::Error::source(status).map(|_| Retry::WithBackoff),
    };
    Failure { reason: error_chain(status), retry }
}

/// `ExportMetricsServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// `ExportMetricsPartialSuccess`.
#[derive(Clone, PartialEq, prost::Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_data_points: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// The body of a request that is encoded already. tonic's own encoder would copy it, megabytes each time, into memory that is
/// new each time.
struct Message {
    /// What is not sent yet: the message, and before it, in a piece of its own, what frames it.
    pieces: [Option<Bytes>; 2],
}

impl Message {
    /// Source: the gRPC specification, "Length-Prefixed-Message".
    fn framed(bytes: Bytes) -> Self {
        let mut prefix = Vec::with_capacity(5);
        // Not compressed.
        prefix.push(0);
        prefix.extend(u32::try_from(bytes.len()).expect("requests are split long before").to_be_bytes());
        Self { pieces: [Some(prefix.into()), Some(bytes)] }
    }
}

impl http_body::Body for Message {
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

/// What a receiver answered: one message, and a status behind it; or a status alone, in the place of headers.
async fn answer(response: http::Response<Body>) -> Result<Answer, Status> {
    if let Some(status) = Status::from_header_map(response.headers())
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    let code = response.status();
    let mut messages = Streaming::new_response(Answers, response.into_body(), code, None, None);
    let answer = messages.message().await?;
    // The status comes behind the message.
    messages.trailers().await?;
    answer.ok_or_else(|| Status::internal("the receiver's answer is empty"))
}

/// Decodes answers.
struct Answers;

impl Decoder for Answers {
    type Item = Answer;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Answer>, Status> {
        let response = Response::decode(bytes.copy_to_bytes(bytes.remaining())).map_err(|error| {
            Status::internal(format!("the receiver's answer is no OTLP response: {error}"))
        })?;
        let answer = response.partial_success.map_or_else(Answer::default, |partial| Answer {
            rejected: u64::try_from(partial.rejected_data_points).unwrap_or(0),
            message: partial.error_message,
        });
        Ok(Some(answer))
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn errors_are_final_or_not_as_the_specification_says() {
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
            assert_eq!(failure.retry.is_some(), retried.contains(&code), "{code:?}");
            assert!(failure.reason.contains("text"), "{}", failure.reason);
        }
    }

    #[test]
    fn a_broken_connection_is_never_final() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let status = Status::from_error(Box::new(broken));
        assert_eq!(classify(&status).retry, Some(Retry::WithBackoff), "{status:?}");
    }

    #[test]
    fn a_receiver_says_when_to_try_again() {
        let delay = Duration::from_secs(7);
        let details = || ErrorDetails::with_retry_info(Some(delay));
        for code in [Code::ResourceExhausted, Code::Unavailable] {
            let failure = classify(&Status::with_error_details(code, "busy", details()));
            assert_eq!(failure.retry, Some(Retry::After(delay)), "{code:?}");
        }
        assert_eq!(classify(&Status::with_error_details(Code::InvalidArgument, "no", details())).retry, None);
    }
}
