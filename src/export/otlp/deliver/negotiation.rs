//! Which compression a receiver gets: Zstandard until it refuses that, gzip then, which every receiver takes.
//! Entry point: [`Negotiation`].
//!
//! A request that is refused with Zstandard is sent once more with gzip, so nothing is lost by trying. Whatever becomes of it, gzip is
//! used for [`RETRIAL`] then: a receiver that refuses everything is not sent everything twice.

use std::time::Duration;

use tokio::time::Instant;

use crate::export::otlp::settings::{Compression, CompressionPolicy};
use crate::export::otlp::transport::{Failure, FailureKind, Remedy};

/// How long gzip is used until Zstandard is tried again: behind an address there can be another receiver, or a new version.
pub(super) const RETRIAL: Duration = Duration::from_hours(1);

/// The compression that a receiver gets, and what it said to Zstandard.
#[derive(Debug)]
pub(super) struct Negotiation {
    policy: CompressionPolicy,
    /// Whether the receiver has accepted Zstandard since it last refused it.
    has_accepted: bool,
    /// Until then it gets gzip.
    gzip_until: Option<Instant>,
    /// Why it refused Zstandard, until it has answered to gzip.
    refusal: Option<String>,
}

impl Negotiation {
    pub(super) fn new(policy: CompressionPolicy) -> Self {
        Self { policy, has_accepted: false, gzip_until: None, refusal: None }
    }

    /// Returns the compression of the next request.
    pub(super) fn compression(&mut self) -> Compression {
        match self.policy {
            CompressionPolicy::Fixed(compression) => compression,
            CompressionPolicy::Negotiated => {
                self.gzip_until.take_if(|until| *until <= Instant::now());
                if self.gzip_until.is_some() { Compression::Gzip } else { self.policy.first() }
            }
        }
    }

    /// Returns whether a request in this form can be sent as it is.
    pub(super) fn allows(&mut self, form: Compression) -> bool {
        match (self.policy, form) {
            // It was left uncompressed.
            (_, Compression::None) | (CompressionPolicy::Negotiated, Compression::Gzip) => true,
            (_, form) => form == self.compression(),
        }
    }

    /// Takes note that a request in this form was not accepted. Returns whether its compression can be the cause, so that it is to be
    /// sent with gzip.
    pub(super) fn failed(&mut self, form: Compression, failure: &Failure) -> bool {
        let can_be_cause = match failure.kind {
            FailureKind::Grpc(_) | FailureKind::Http(_) => failure.remedy == Remedy::Drop,
            // Instead of an answer.
            FailureKind::Broken => !self.has_accepted,
            _ => false,
        };
        if self.policy != CompressionPolicy::Negotiated || form != Compression::Zstd || !can_be_cause {
            return false;
        }
        self.has_accepted = false;
        self.gzip_until = Some(Instant::now() + RETRIAL);
        self.refusal = Some(failure.reason.clone());
        true
    }

    /// Takes note that a request in this form was refused for good, so not for its compression.
    pub(super) fn refused(&mut self) {
        self.refusal = None;
    }

    /// Takes note that a request in this form was accepted. Returns why one with Zstandard was not, if that is known now.
    pub(super) fn accepted(&mut self, form: Compression) -> Option<String> {
        self.has_accepted |= form == Compression::Zstd;
        self.refusal.take().filter(|_| form == Compression::Gzip)
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::export::otlp::transport::Retry;

    fn failure(kind: FailureKind, remedy: Remedy) -> Failure {
        Failure { kind, reason: format!("{kind}"), remedy }
    }

    fn negotiation() -> Negotiation {
        Negotiation::new(CompressionPolicy::Negotiated)
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_refuses_zstd_gets_gzip_for_an_hour() {
        for kind in [FailureKind::Grpc(Code::Unimplemented), FailureKind::Http(415), FailureKind::Http(400)] {
            let mut negotiation = negotiation();
            assert_eq!(negotiation.compression(), Compression::Zstd);
            assert!(negotiation.failed(Compression::Zstd, &failure(kind, Remedy::Drop)));
            assert_eq!(negotiation.compression(), Compression::Gzip);
            assert!(negotiation.allows(Compression::Gzip) && !negotiation.allows(Compression::Zstd));
            assert_eq!(negotiation.accepted(Compression::Gzip), Some(kind.to_string()));
            assert_eq!(negotiation.accepted(Compression::Gzip), None, "it is known");
            tokio::time::advance(RETRIAL).await;
            assert_eq!(negotiation.compression(), Compression::Zstd);
            assert!(negotiation.allows(Compression::Gzip), "what waits with gzip is sent so");
        }
    }

    #[test]
    fn a_refusal_of_gzip_as_well_is_none_of_zstd() {
        let mut negotiation = negotiation();
        let unauthorized = failure(FailureKind::Http(401), Remedy::Drop);
        assert!(negotiation.failed(Compression::Zstd, &unauthorized));
        assert!(!negotiation.failed(Compression::Gzip, &unauthorized));
        negotiation.refused();
        assert_eq!(negotiation.accepted(Compression::Gzip), None);
        assert_eq!(negotiation.compression(), Compression::Gzip, "not everything is sent twice");
    }

    #[test]
    fn what_can_pass_or_has_another_cause_is_no_refusal() {
        let mut negotiation = negotiation();
        let retry = Remedy::Retry(Retry::WithBackoff);
        for (kind, remedy) in [
            (FailureKind::Connect, retry),
            (FailureKind::Timeout, retry),
            (FailureKind::Http(503), retry),
            (FailureKind::Grpc(Code::ResourceExhausted), Remedy::Split),
            (FailureKind::AnswerTooLarge, Remedy::Drop),
        ] {
            assert!(!negotiation.failed(Compression::Zstd, &failure(kind, remedy)), "{kind}");
        }
        assert_eq!(negotiation.compression(), Compression::Zstd);
    }

    #[test]
    fn a_connection_that_breaks_is_a_refusal_until_zstd_was_accepted() {
        let broken = failure(FailureKind::Broken, Remedy::Retry(Retry::WithBackoff));
        let mut negotiation = negotiation();
        assert_eq!(negotiation.accepted(Compression::Zstd), None);
        assert!(!negotiation.failed(Compression::Zstd, &broken));
        // Behind the address is another receiver now.
        assert!(negotiation.failed(Compression::Zstd, &failure(FailureKind::Http(415), Remedy::Drop)));
        assert!(negotiation.failed(Compression::Zstd, &broken));
    }

    #[test]
    fn what_the_user_chose_stays() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut negotiation = Negotiation::new(CompressionPolicy::Fixed(compression));
            let refusal = failure(FailureKind::Http(415), Remedy::Drop);
            assert!(!negotiation.failed(compression, &refusal));
            assert_eq!(negotiation.compression(), compression);
        }
    }
}
