//! Tunnels through an HTTP proxy, by CONNECT. Entry point: [`Proxy::tunnel`]. Source: RFC 9110, section 9.3.6.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{HOST, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderValue, Method, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use prost::bytes::Bytes;
use tokio::task::JoinSet;

use super::connection::MAX_HEAD_BYTES;
use super::stream::Stream;
use super::{Failure, FailureKind, SetupError, USER_AGENT_VALUE};
use crate::error_chain::error_chain;

/// An HTTP proxy.
pub(super) struct Proxy {
    /// Its name or address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// User name and password, as the header has them.
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// Reads the URL of a proxy: `http://USER:PASSWORD@HOST:PORT`, percent-encoded.
    ///
    /// # Errors
    ///
    /// Fails if the proxy wants TLS, or the URL has no host.
    pub(super) fn new(uri: &Uri) -> Result<Self, SetupError> {
        let authority = uri.authority().ok_or(SetupError::Proxy("it has no host"))?;
        if uri.scheme_str().is_some_and(|scheme| scheme != "http") {
            return Err(SetupError::Proxy("only http:// proxies are supported, also for https:// receivers"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let authorization = match authority.as_str().rsplit_once('@') {
            Some((userinfo, _)) => Some(basic(userinfo)?),
            None => None,
        };
        Ok(Self { host, port: authority.port_u16().unwrap_or(80), authorization })
    }

    /// Opens a tunnel to a receiver, `HOST:PORT`, on a connection to the proxy.
    ///
    /// # Errors
    ///
    /// Fails if the proxy refuses, with its status, or closes the connection.
    pub(super) async fn tunnel(&self, stream: Stream, receiver: &str) -> Result<Stream, Failure> {
        let broken = |error: &hyper::Error| {
            let reason = format!("no tunnel through the proxy {}: {}", self.name(), error_chain(error));
            Failure::retryable(FailureKind::Connect, reason)
        };
        let mut http = http1::Builder::new();
        http.max_buf_size(MAX_HEAD_BYTES);
        let (mut sender, connection) =
            http.handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        // Dropping it ends the task, if the caller goes away.
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(connection.with_upgrades().await) });
        let mut request =
            http::Request::builder().method(Method::CONNECT).uri(receiver).header(HOST, receiver);
        if let Some(authorization) = &self.authorization {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        let request = request.header(USER_AGENT, USER_AGENT_VALUE).body(Empty::new());
        let request = request.map_err(|error| Failure::retryable(FailureKind::Connect, error.to_string()))?;
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = response.status();
        if !status.is_success() {
            let help = match status.as_u16() {
                407 => "; give user name and password in the proxy's URL",
                _ => "",
            };
            let reason = format!("the proxy {} refuses a tunnel to {receiver}: {status}{help}", self.name());
            return Err(Failure::retryable(FailureKind::Proxy(status.as_u16()), reason));
        }
        let tunnel = hyper::upgrade::on(response).await.map_err(|error| broken(&error))?;
        Ok(Box::new(TokioIo::new(tunnel)))
    }

    /// Returns how messages name it, without secrets.
    fn name(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Returns the header of basic authentication. Source: RFC 7617.
fn basic(userinfo: &str) -> Result<HeaderValue, SetupError> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let mut credentials: Vec<u8> = percent_decode_str(user).collect();
    credentials.push(b':');
    credentials.extend(percent_decode_str(password));
    let value = format!("Basic {}", BASE64_STANDARD.encode(credentials));
    let mut value =
        HeaderValue::try_from(value).map_err(|_| SetupError::Proxy("its password is too long"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_a_proxy_is_decoded_and_not_shown() {
        let proxy = Proxy::new(&Uri::from_static("http://us%3Aer:p%40ss@[::1]:3128")).expect("a proxy");
        assert_eq!((&*proxy.host, proxy.port, &*proxy.name()), ("::1", 3128, "[::1]:3128"));
        let header = proxy.authorization.expect("it has a password");
        assert_eq!(header.to_str().ok(), Some(&*format!("Basic {}", BASE64_STANDARD.encode("us:er:p@ss"))));
        assert_eq!(format!("{header:?}"), "Sensitive");
        assert_eq!(Proxy::new(&Uri::from_static("proxy:3128")).expect("a proxy").host, "proxy");
        assert!(matches!(Proxy::new(&Uri::from_static("https://proxy")), Err(SetupError::Proxy(_))));
    }
}
