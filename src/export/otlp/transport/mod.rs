//! Transports to a receiver. A transport sends a request and classifies the outcome; the delivery only obeys.
//! Entry point: [`Transport::export`].

pub mod grpc;

use std::time::Duration;

use self::grpc::GrpcClient;
use super::encode::Request;

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
    /// Cause of the failure, for the log.
    pub reason: String,
    /// When to retry; `None` for a permanent error.
    pub retry: Option<Retry>,
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
