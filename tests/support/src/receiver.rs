//! An OTLP receiver in this process, made of the official message definitions, with responses that the test chooses.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Response of a receiver to a request.
pub type Answer = Result<ExportMetricsServiceResponse, Status>;

/// A request that arrived.
pub struct Received {
    /// The decoded message.
    pub message: ExportMetricsServiceRequest,
    /// The headers of the call.
    pub metadata: MetadataMap,
}

/// A running receiver. Dropping it cuts its connections, as SIGKILL would.
pub struct Receiver {
    /// The address on which it listens.
    pub address: SocketAddr,
    /// Every request, in order of arrival.
    pub requests: mpsc::UnboundedReceiver<Received>,
    runtime: Option<Runtime>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Service<F> {
    answer: Arc<Mutex<F>>,
    requests: mpsc::UnboundedSender<Received>,
}

#[tonic::async_trait]
impl<F: FnMut(&ExportMetricsServiceRequest) -> Answer + Send + 'static> MetricsService for Service<F> {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let answer = (self.answer.lock().expect("no answer panics"))(&message);
        // The test may not wait for more.
        drop(self.requests.send(Received { message, metadata }));
        answer.map(Response::new)
    }
}

/// Starts a receiver on an address; port 0 is any.
pub async fn start(
    address: SocketAddr,
    answer: impl FnMut(&ExportMetricsServiceRequest) -> Answer + Send + 'static,
) -> Receiver {
    start_with(Server::builder(), address, answer).await
}

/// Starts a receiver on a server that is already configured.
pub async fn start_with(
    mut server: Server,
    address: SocketAddr,
    answer: impl FnMut(&ExportMetricsServiceRequest) -> Answer + Send + 'static,
) -> Receiver {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let bind = runtime.spawn(async move { TcpListener::bind(address).await.expect("the address is free") });
    let listener = bind.await.expect("it is bound");
    let address = listener.local_addr().expect("it is bound");
    let (sender, requests) = mpsc::unbounded_channel();
    let service = Service { answer: Arc::new(Mutex::new(answer)), requests: sender };
    // The limit of a message stays the usual one, 4 MiB.
    let server = server.add_service(MetricsServiceServer::new(service));
    runtime.spawn(async move {
        server.serve_with_incoming(TcpIncoming::from(listener)).await.expect("it serves");
    });
    Receiver { address, requests, runtime: Some(runtime) }
}

/// Accepts every request.
///
/// # Errors
///
/// None: it is one of several answers.
pub fn ok(_: &ExportMetricsServiceRequest) -> Answer {
    Ok(ExportMetricsServiceResponse { partial_success: None })
}
