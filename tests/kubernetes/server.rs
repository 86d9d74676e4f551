//! An API server that is the test: each question comes to the test, which says what is answered, and when.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::serve::Listener;
use futures_util::stream;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// Longer than anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A server; it ends with this.
pub(crate) struct Server {
    pub(crate) url: String,
    asked: mpsc::UnboundedReceiver<Asked>,
    serving: JoinHandle<()>,
}

/// A question that waits for its answer. Nothing is answered while this is kept.
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) query: HashMap<String, String>,
    pub(crate) headers: HeaderMap,
    answer: oneshot::Sender<Response>,
}

/// A watch that was let in.
pub(crate) struct Watch(mpsc::UnboundedSender<io::Result<Vec<u8>>>);

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        Self::on(listener, format!("http://{address}"))
    }

    /// With TLS, and the certificate of who vouches for it, in PEM.
    pub(crate) async fn start_secure() -> (Self, String) {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.pem().as_bytes()).expect("a certificate")],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("a key"),
        );
        let acceptor = TlsAcceptor::from(Arc::new(config.expect("they belong together")));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        (Self::on(Secure { listener, acceptor }, format!("https://{address}")), issuer.pem())
    }

    fn on<L: Listener>(listener: L, url: String) -> Self
    where
        L::Addr: std::fmt::Debug,
    {
        let (sender, asked) = mpsc::unbounded_channel();
        let router = Router::new().fallback(hand_over).with_state(sender);
        let serving = tokio::spawn(async { axum::serve(listener, router).await.expect("it serves") });
        Self { url, asked, serving }
    }

    /// The next question.
    pub(crate) async fn next(&mut self) -> Asked {
        let asked = tokio::time::timeout(DEADLINE, self.asked.recv()).await;
        asked.expect("it is asked in time").expect("the server lives")
    }

    /// The next question, which is for a list.
    pub(crate) async fn list(&mut self) -> Asked {
        let asked = self.next().await;
        assert_eq!((asked.of("watch"), &*asked.path), (None, "/api/v1/pods"));
        asked
    }

    /// The next question, which is for a watch.
    pub(crate) async fn watch(&mut self) -> Asked {
        let asked = self.next().await;
        assert_eq!((asked.of("watch"), &*asked.path), (Some("1"), "/api/v1/pods"));
        assert_eq!(asked.of("allowWatchBookmarks"), Some("true"));
        asked
    }

    pub(crate) fn is_left_alone(&mut self) -> bool {
        self.asked.try_recv().is_err()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn hand_over(State(sender): State<mpsc::UnboundedSender<Asked>>, request: Request) -> Response {
    let (answer, answered) = oneshot::channel();
    let query = request.uri().query().unwrap_or_default().split('&').map(|pair| {
        let (name, value) = pair.split_once('=').expect("a name and a value");
        let value = percent_encoding::percent_decode_str(value).decode_utf8().expect("it is text");
        (name.to_owned(), value.into_owned())
    });
    let (path, query) = (request.uri().path().to_owned(), query.collect());
    let asked = Asked { path, query, headers: request.headers().clone(), answer };
    match sender.send(asked) {
        Ok(()) => answered.await.unwrap_or_else(|_| Response::new(Body::empty())),
        Err(_) => Response::new(Body::empty()),
    }
}

impl Asked {
    /// A parameter of the question.
    pub(crate) fn of(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the question was given up is nothing to the one who answers.
    fn say(self, response: Response) {
        let _given_up = self.answer.send(response);
    }

    pub(crate) fn refuse(self, status: u16, message: &str) {
        let body = json!({"kind": "Status", "code": status, "message": message}).to_string();
        let status = StatusCode::from_u16(status).expect("a status");
        self.say(Response::builder().status(status).body(body.into()).expect("a response"));
    }

    pub(crate) fn text(self, text: impl Into<Body>) {
        self.say(Response::new(text.into()));
    }

    /// Lists pods as of a version.
    pub(crate) fn pods(self, version: &str, pods: &[Value]) {
        self.page(version, pods, "");
    }

    pub(crate) fn page(self, version: &str, pods: &[Value], next: &str) {
        let metadata = json!({"resourceVersion": version, "continue": next});
        self.text(json!({"kind": "PodList", "metadata": metadata, "items": pods}).to_string());
    }

    /// Lets a watch in.
    pub(crate) fn accept(self) -> Watch {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        self.text(Body::from_stream(stream::poll_fn(move |context| receiver.poll_recv(context))));
        Watch(sender)
    }
}

impl Watch {
    fn send(&self, bytes: io::Result<Vec<u8>>) {
        self.0.send(bytes).expect("somebody watches");
    }

    pub(crate) fn event(&self, kind: &str, object: &Value) {
        self.send(Ok(format!("{}\n", json!({"type": kind, "object": object})).into_bytes()));
    }

    pub(crate) fn bookmark(&self, version: &str) {
        self.event("BOOKMARK", &json!({"kind": "Pod", "metadata": {"resourceVersion": version}}));
    }

    pub(crate) fn bytes(&self, bytes: &[u8]) {
        self.send(Ok(bytes.to_vec()));
    }

    /// Ends it as a server does whose time is over.
    pub(crate) fn end(self) {
        drop(self);
    }

    /// Ends it as a broken connection does.
    pub(crate) fn cut(self) {
        self.send(Err(io::ErrorKind::ConnectionReset.into()));
    }
}

/// A pod with one container.
pub(crate) fn pod(name: &str, version: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-of-{name}"), "resourceVersion": version},
        "spec": {"nodeName": "node-1"},
        "status": {"containerStatuses": [{"name": "main", "containerID": format!("containerd://id-of-{name}")}]},
    })
}

/// A listener with TLS, one handshake after another.
struct Secure {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Secure {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.expect("a connection");
            // Who does not trust the server goes away.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A directory that is gone with this.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kubernetes-{name}-{}", std::process::id()));
        fs::create_dir(&path).expect("it is new");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("there is room");
        path
    }

    /// A kubeconfig with what stands below `cluster` and `user`, in JSON, which is YAML.
    pub(crate) fn kubeconfig(&self, cluster: &Value, user: &Value) -> PathBuf {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
        });
        self.write("kubeconfig", &config.to_string())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all::<&Path>(&self.0).expect("it is ours");
    }
}
