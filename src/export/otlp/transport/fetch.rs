//! GET requests over the same connections, for what another exporter serves. Entry point: [`Transport::fetch`].

use http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, StatusCode, Uri};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use prost::bytes::Bytes;

use super::connection::Connection;
use super::payload::Payload;
use super::{Failure, FailureKind, Stage, Transport, broken, page};
use crate::export::otlp::settings::Protocol;
use crate::grpc_response::read_text;
use crate::text::printable;

impl Transport {
    /// Requests the document at the path of a receiver that has the protocol [`Protocol::HttpProtobuf`]: JSON of at most `limit` bytes. The
    /// time limit covers everything, from looking up the name to the end of the answer.
    ///
    /// # Errors
    ///
    /// Fails if the server is unreachable, does not answer in time, or answers with anything but success.
    pub async fn fetch(&mut self, limit: usize) -> Result<Bytes, Failure> {
        if let Ok(result) = tokio::time::timeout(self.timeout, self.try_to_fetch(limit)).await {
            return result;
        }
        let reason = format!("{} within {:?}", self.connector.stage, self.timeout);
        Err(Failure::retryable(FailureKind::Timeout, reason))
    }

    async fn try_to_fetch(&mut self, limit: usize) -> Result<Bytes, Failure> {
        if self.connector.renew().await {
            self.connection = None;
        }
        if let Some(connection) = self.connection.take_if(|connection| !connection.is_closed())
            && let Ok(result) = self.get(connection, limit).await
        {
            return result;
        }
        // A server may close a connection just when it is used again: that is no failure.
        let stream = self.connector.connect().await?;
        let connection = Connection::open(stream, Protocol::HttpProtobuf).await;
        let connection = connection.map_err(|error| broken(&error))?;
        self.get(connection, limit).await.map_err(|error| broken(&error))?
    }

    /// Sends the request and reads the answer; keeps the connection if it can be used again.
    ///
    /// # Errors
    ///
    /// Fails if the connection ends before the answer begins.
    async fn get(
        &mut self,
        mut connection: Connection,
        limit: usize,
    ) -> Result<Result<Bytes, Failure>, hyper::Error> {
        self.connector.stage = Stage::Answer;
        let uri = Uri::builder().path_and_query(self.path.clone()).build().expect("its parts were checked");
        let mut request = http::Request::get(uri).body(Payload::plain(Bytes::new()));
        let headers = request.as_mut().expect("its parts were checked").headers_mut();
        *headers = self.headers.clone();
        headers.remove(CONTENT_TYPE);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let response = connection.send(request.expect("its parts were checked")).await?;
        let result = read(response, limit).await;
        if result.is_ok() {
            connection.finish();
            self.connection = Some(connection);
        }
        Ok(result)
    }
}

async fn read(response: http::Response<Incoming>, limit: usize) -> Result<Bytes, Failure> {
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        let kind = FailureKind::Http(head.status.as_u16());
        if head.status.is_redirection() {
            let reason = redirection(head.status, head.headers.get(LOCATION));
            return Err(Failure::retryable(kind, reason));
        }
        return Err(Failure::retryable(kind, page(head.status, &read_text(body).await)));
    }
    let collected = Limited::new(body, limit).collect().await;
    let body = collected.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let reason = format!("the answer has more than {limit} bytes");
            Failure::dropping(FailureKind::AnswerTooLarge, reason)
        } else {
            broken(error.as_ref())
        }
    })?;
    Ok(body.to_bytes())
}

/// Returns what to do about a redirection. It is not followed: credentials are for the server that was given.
fn redirection(status: StatusCode, location: Option<&HeaderValue>) -> String {
    match location {
        Some(location) => {
            let location = printable(location.as_bytes());
            format!(
                "HTTP status {status}: redirections are not followed; give the URL of its target, {location}"
            )
        }
        None => format!("HTTP status {status}: redirections are not followed, and this one names no target"),
    }
}
