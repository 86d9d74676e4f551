//! Transports to a receiver. A transport sends a request and classifies the outcome; the delivery only obeys.
//! Entry point: [`Transport::export`].

pub mod grpc;

use std::fmt;
use std::time::Duration;

use tonic::Code;

use self::grpc::GrpcClient;
use super::encode::Request;

/// The longest answer that is read, in bytes: an answer to a request has a few hundred.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;

/// A connection to a receiver.
#[derive(Debug)]
pub enum Transport {
    /// OTLP/gRPC.
    Grpc(GrpcClient),
}

/// Answer of a receiver that accepted a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Number of items that the receiver rejected nevertheless.
    pub rejected: u64,
    /// Reason for the rejection, or a warning; mostly empty.
    pub message: String,
}

/// A failed attempt to deliver a request.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What failed: repeats are recognised by it, since the text may differ each time.
    pub kind: FailureKind,
    /// Cause of the failure, for the log.
    pub reason: String,
    /// What to do with the request.
    pub remedy: Remedy,
}

/// What failed in an attempt to deliver a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// There is no connection: the name is unknown, or the receiver or its proxy refuses or cannot be reached.
    Connect,
    /// The proxy answered the request for a tunnel with this HTTP status.
    Proxy(u16),
    /// There is no TLS session: a certificate is not trusted, expired or for another name.
    Tls,
    /// There was no answer in time.
    Timeout,
    /// The connection ended before the answer did.
    Broken,
    /// The receiver, or what stands before it, answered with this gRPC status.
    Grpc(Code),
    /// The receiver, or what stands before it, answered with this HTTP status.
    Http(u16),
    /// The answer is not one of OTLP.
    Malformed,
    /// The answer is longer than [`MAX_ANSWER_BYTES`].
    AnswerTooLarge,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("no connection"),
            Self::Proxy(status) => write!(f, "HTTP status {status} of the proxy"),
            Self::Tls => f.write_str("no TLS session"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Broken => f.write_str("broken connection"),
            Self::Grpc(code) => write!(f, "gRPC status {code:?}"),
            Self::Http(status) => write!(f, "HTTP status {status}"),
            Self::Malformed => f.write_str("malformed answer"),
            Self::AnswerTooLarge => f.write_str("too long answer"),
        }
    }
}

/// What to do with a request that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Send it again: the failure may pass.
    Retry(Retry),
    /// Send it in smaller parts: the receiver refuses its size.
    Split,
    /// Drop it: the receiver would refuse it again.
    Drop,
}

/// When to retry a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After the sender's own back-off.
    WithBackoff,
    /// After the delay that the receiver demands.
    After(Duration),
}

impl Transport {
    /// Sends a request.
    ///
    /// # Errors
    ///
    /// Fails if the receiver is unreachable, does not answer in time, or refuses the request.
    pub async fn export(&mut self, request: &Request) -> Result<Answer, Failure> {
        match self {
            Self::Grpc(client) => client.export(request).await,
        }
    }
}
