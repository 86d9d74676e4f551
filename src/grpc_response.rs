//! Reads a unary gRPC response from a peer that may send anything.
//! Entry point: [`read`].

use http::HeaderMap;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tonic::body::Body;
use tonic::codec::{Decoder, Streaming};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

/// The header with the details of a status.
const DETAILS: &str = "grpc-status-details-bin";

/// Reads one message followed by a status in the trailers, or only a status in the headers. `None` for a success without a message;
/// a longer message than `max_len`, or than 4 MiB, is an error.
///
/// # Errors
///
/// The status of the peer, or what is wrong with its response.
pub(crate) async fn read<D>(
    decoder: D,
    response: http::Response<Body>,
    max_len: Option<usize>,
) -> Result<Option<D::Item>, Status>
where
    D: Decoder<Error = Status> + Send + 'static,
{
    let (mut head, body) = response.into_parts();
    if let Some(status) = status(&mut head.headers)
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    let body = body.map_frame(|frame| match frame.into_trailers() {
        Ok(mut trailers) => {
            drop_invalid_details(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    });
    let mut messages = Streaming::new_response(decoder, body, head.status, None, max_len);
    let message = messages.message().await?;
    // The status follows the message.
    messages.trailers().await?;
    Ok(message)
}

/// Returns the status in headers or trailers.
pub(crate) fn status(headers: &mut HeaderMap) -> Option<Status> {
    drop_invalid_details(headers);
    Status::from_header_map(headers)
}

/// Removes details that are not encoded as they should be: `Status::from_header_map` panics on them (tonic 0.14).
fn drop_invalid_details(headers: &mut HeaderMap) {
    let metadata = MetadataMap::from_headers(std::mem::take(headers));
    let is_invalid = metadata.get_bin(DETAILS).is_some_and(|details| details.to_bytes().is_err());
    *headers = metadata.into_headers();
    if is_invalid {
        headers.remove(DETAILS);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use prost::bytes::Bytes;
    use tonic::codec::Codec as _;
    use tonic_prost::ProstCodec;

    use super::*;

    fn headers(details: &'static str) -> HeaderMap {
        let values = [("grpc-status", "14"), ("grpc-message", "busy%0A"), (DETAILS, details)];
        values
            .into_iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect()
    }

    #[tokio::test]
    async fn invalid_details_in_headers_and_trailers_are_dropped() {
        for details in ["(", "a", "CA4", "=", ""] {
            let mut only_head = http::Response::new(Body::empty());
            *only_head.headers_mut() = headers(details);
            let trailers = async move { Some(Ok(headers(details))) };
            let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(trailers);
            for response in [only_head, http::Response::new(Body::new(body))] {
                let decoder = ProstCodec::<(), ()>::default().decoder();
                let status =
                    read(decoder, response, None).await.expect_err("the status is that of a failure");
                assert_eq!((status.code(), status.message()), (Code::Unavailable, "busy\n"), "{details}");
                let expected: &[u8] = if details == "CA4" { &[8, 14] } else { &[] };
                assert_eq!(status.details(), expected, "{details}");
            }
        }
    }
}
