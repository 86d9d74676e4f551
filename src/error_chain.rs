//! Text of an error together with its causes, for log lines.
//!
//! Entry point: [`error_chain`].

use std::error::Error;

use tonic::Status;

use crate::text::printable;

/// Returns an error and its causes, outermost first, separated by colons. Leaves out causes whose text an outer error
/// already contains, and wrappers that add nothing to their cause. One line, since a part may come from a peer.
pub(crate) fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        next = error.source();
        match describe(error) {
            Some(part) if text.is_empty() => text = part,
            Some(part) if !text.contains(&part) => text = format!("{text}: {part}"),
            _ => {}
        }
    }
    printable(text.as_bytes())
}

/// Returns the text of one error without its causes; `None` for a wrapper.
fn describe(error: &(dyn Error + 'static)) -> Option<String> {
    let has_cause = error.source().is_some();
    if let Some(status) = error.downcast_ref::<Status>() {
        // tonic wraps errors of our side of the connection in a status. One from the peer has no cause.
        return match status.message() {
            _ if has_cause => None,
            "" => Some(format!("{:?}", status.code())),
            message => Some(format!("{:?}: {message}", status.code())),
        };
    }
    // Its own text is "transport error".
    let is_wrapper = has_cause && error.is::<tonic::transport::Error>();
    (!is_wrapper).then(|| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Outer {
        text: &'static str,
        source: io::Error,
    }

    fn outer(text: &'static str) -> Outer {
        Outer { text, source: io::Error::other("disk full") }
    }

    #[test]
    fn causes_follow_their_error_once() {
        assert_eq!(error_chain(&outer("failed to write")), "failed to write: disk full");
        assert_eq!(error_chain(&outer("failed to write: disk full")), "failed to write: disk full");
    }

    #[test]
    fn a_status_of_the_peer_is_its_code_and_message() {
        assert_eq!(error_chain(&Status::unavailable("busy")), "Unavailable: busy");
        assert_eq!(error_chain(&Status::unavailable("")), "Unavailable");
        assert_eq!(error_chain(&Status::unavailable("a\nb\u{202e}")), "Unavailable: a\\x0ab\\u{202e}");
        assert_eq!(error_chain(&Status::unavailable("a".repeat(1 << 20))).len(), 1024);
    }

    #[test]
    fn a_status_that_wraps_a_local_error_is_left_out() {
        let status = Status::from_error(Box::new(outer("failed to write")));
        assert_eq!(error_chain(&status), "failed to write: disk full");
    }

    #[tokio::test]
    async fn a_refused_connection_is_described_without_wrappers() {
        // Port 1 of the loopback interface: reserved (tcpmux) and unused.
        let endpoint = tonic::transport::Endpoint::from_static("http://127.0.0.1:1");
        let error = endpoint.connect().await.expect_err("no server listens there");
        assert_eq!(error_chain(&error), "tcp connect error: Connection refused (os error 111)");
    }
}
