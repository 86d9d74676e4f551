//! An OTLP receiver in this process, made of the official message definitions, with responses that the test chooses.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
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
use tonic::transport::server::{Router, TcpIncoming};
use tonic::{Request, Response, Status};

/// Response of a receiver to a request.
pub type Answer = Result<ExportMetricsServiceResponse, Status>;

/// Response of a receiver of logs to a request.
pub type LogsAnswer = Result<ExportLogsServiceResponse, Status>;

/// A request that arrived.
pub struct Received<M = ExportMetricsServiceRequest> {
    /// The decoded message.
    pub message: M,
    /// The headers of the call.
    pub metadata: MetadataMap,
}

/// A running receiver. Dropping it cuts its connections, as SIGKILL would.
pub struct Receiver<M = ExportMetricsServiceRequest> {
    /// The address on which it listens.
    pub address: SocketAddr,
    /// Every request, in order of arrival.
    pub requests: mpsc::UnboundedReceiver<Received<M>>,
    runtime: Option<Runtime>,
}

impl<M> Receiver<M> {
    /// Cuts its connections, and waits until another one can listen on the address.
    pub async fn stop(mut self) {
        let runtime = self.runtime.take();
        // Its end cannot be waited for on a thread of another runtime.
        tokio::task::spawn_blocking(move || drop(runtime)).await.expect("it ends");
    }
}

impl<M> Drop for Receiver<M> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Service<F, M> {
    answer: Arc<Mutex<F>>,
    requests: mpsc::UnboundedSender<Received<M>>,
}

impl<F, M> Service<F, M> {
    fn respond<R>(&self, request: Request<M>) -> Result<Response<R>, Status>
    where
        F: FnMut(&M) -> Result<R, Status>,
    {
        let (metadata, _, message) = request.into_parts();
        let answer = (self.answer.lock().expect("no answer panics"))(&message);
        // The test may not wait for more.
        drop(self.requests.send(Received { message, metadata }));
        answer.map(Response::new)
    }
}

#[tonic::async_trait]
impl<F: FnMut(&ExportMetricsServiceRequest) -> Answer + Send + 'static> MetricsService
    for Service<F, ExportMetricsServiceRequest>
{
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.respond(request)
    }
}

#[tonic::async_trait]
impl<F: FnMut(&ExportLogsServiceRequest) -> LogsAnswer + Send + 'static> LogsService
    for Service<F, ExportLogsServiceRequest>
{
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.respond(request)
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
    let (sender, requests) = mpsc::unbounded_channel();
    let service = Service { answer: Arc::new(Mutex::new(answer)), requests: sender };
    // The limit of a message stays the usual one, 4 MiB.
    serve(server.add_service(MetricsServiceServer::new(service)), address, requests).await
}

/// Starts a receiver of logs on an address; port 0 is any. It takes no metrics, as that of [`start`] takes no logs.
pub async fn start_logs(
    address: SocketAddr,
    answer: impl FnMut(&ExportLogsServiceRequest) -> LogsAnswer + Send + 'static,
) -> Receiver<ExportLogsServiceRequest> {
    let (sender, requests) = mpsc::unbounded_channel();
    let service = Service { answer: Arc::new(Mutex::new(answer)), requests: sender };
    serve(Server::builder().add_service(LogsServiceServer::new(service)), address, requests).await
}

async fn serve<M>(
    router: Router,
    address: SocketAddr,
    requests: mpsc::UnboundedReceiver<Received<M>>,
) -> Receiver<M> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let bind = runtime.spawn(async move { TcpListener::bind(address).await.expect("the address is free") });
    let listener = bind.await.expect("it is bound");
    let address = listener.local_addr().expect("it is bound");
    runtime.spawn(async move {
        router.serve_with_incoming(TcpIncoming::from(listener)).await.expect("it serves");
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

/// Accepts every request with logs.
///
/// # Errors
///
/// None: it is one of several answers.
pub fn ok_logs(_: &ExportLogsServiceRequest) -> LogsAnswer {
    Ok(ExportLogsServiceResponse { partial_success: None })
}
