//! Which compression a receiver gets: Zstandard, or gzip, which every receiver takes, if Zstandard is not accepted.
//! Entry point: [`Negotiation`].
//!
//! A final refusal says more than a failure that may pass. A request that is refused with Zstandard is sent at once with gzip, so that
//! nothing is lost; one that fails otherwise is tried with gzip after [`DOUBTS`] failures, and Zstandard once more before it counts as
//! not accepted. In both cases gzip has to be accepted right after that: a receiver that takes nothing says nothing about compression.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use crate::export::otlp::settings::{Compression, CompressionPolicy};
use crate::export::otlp::transport::{Failure, FailureKind, Remedy};

/// How long gzip is used until Zstandard is tried again: behind an address there can be another receiver, or a new version.
pub(super) const RETRIAL: Duration = Duration::from_hours(1);

/// How many failures in a row lead to a trial with gzip: a proxy answers 502 if the receiver closes the connection because of Zstandard.
pub(super) const DOUBTS: u32 = 3;

/// The compression that a receiver gets, and what it said to Zstandard.
#[derive(Debug)]
pub(super) struct Negotiation {
    policy: CompressionPolicy,
    stage: Stage,
    /// Whether the receiver has accepted Zstandard on this connection.
    is_proven: bool,
    /// Why it takes no Zstandard, until that is logged.
    conclusion: Option<String>,
    /// Whether a conclusion was drawn and Zstandard not accepted since.
    is_known: bool,
}

/// What is known of a receiver.
#[derive(Debug)]
enum Stage {
    /// Zstandard is used. So many requests with it failed in a row.
    Zstd { failures: u32 },
    /// Gzip is tried. If it is accepted, Zstandard counts as not accepted for this reason; without one it is tried once more, since what
    /// failed may have passed by then.
    Trying { reason: Option<String> },
    /// Zstandard is tried once more: gzip was accepted where it had failed, which may have had another cause, or its hour is over.
    Confirming,
    /// Gzip was refused as well. It is used until it is accepted, so that not everything is sent twice.
    BothRefused,
    /// Zstandard is not accepted. Gzip is used until then.
    Gzip { until: Instant },
}

impl Negotiation {
    pub(super) fn new(policy: CompressionPolicy) -> Self {
        let stage = Stage::Zstd { failures: 0 };
        Self { policy, stage, is_proven: false, conclusion: None, is_known: false }
    }

    /// Returns the compression of the next request.
    pub(super) fn compression(&mut self) -> Compression {
        if let CompressionPolicy::Fixed(compression) = self.policy {
            return compression;
        }
        if let Stage::Gzip { until } = self.stage
            && until <= Instant::now()
        {
            // One failure suffices this time to try gzip.
            self.stage = Stage::Confirming;
        }
        match self.stage {
            Stage::Zstd { .. } | Stage::Confirming => Compression::Zstd,
            Stage::Trying { .. } | Stage::BothRefused | Stage::Gzip { .. } => Compression::Gzip,
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

    /// Records that there can be another receiver now.
    pub(super) fn reconnected(&mut self) {
        self.is_proven = false;
    }

    /// Records that a request in this form was accepted.
    pub(super) fn accepted(&mut self, form: Compression) {
        if self.policy != CompressionPolicy::Negotiated {
            return;
        }
        match (form, &mut self.stage) {
            (Compression::Zstd, stage) => {
                *stage = Stage::Zstd { failures: 0 };
                (self.is_proven, self.is_known) = (true, false);
            }
            (Compression::Gzip, Stage::Trying { reason }) => match reason.take() {
                Some(reason) => self.conclude(reason),
                None => self.stage = Stage::Confirming,
            },
            (Compression::Gzip, stage @ Stage::BothRefused) => *stage = Stage::Zstd { failures: 0 },
            _ => {}
        }
    }

    /// Records that a request in this form was not accepted. Returns whether it is to be sent at once with gzip, rather than as the
    /// failure says.
    pub(super) fn failed(&mut self, form: Compression, failure: &Failure) -> bool {
        if self.policy != CompressionPolicy::Negotiated {
            return false;
        }
        if let (Compression::Gzip, stage @ Stage::Trying { .. }) = (form, &mut self.stage) {
            match failure.remedy {
                Remedy::Drop => *stage = Stage::BothRefused,
                Remedy::Retry(_) => *stage = Stage::Zstd { failures: 0 },
                Remedy::Split => {}
            }
        }
        if form != Compression::Zstd {
            return false;
        }
        // A receiver that has too much to do says so to any compression.
        let is_busy =
            matches!(failure.kind, FailureKind::Grpc(Code::ResourceExhausted) | FailureKind::Http(429));
        let is_answer = matches!(failure.kind, FailureKind::Grpc(_) | FailureKind::Http(_)) && !is_busy;
        let is_refusal = is_answer && failure.remedy == Remedy::Drop;
        let may_pass = match failure.kind {
            FailureKind::Broken | FailureKind::Timeout => true,
            _ => is_answer && matches!(failure.remedy, Remedy::Retry(_)),
        };
        if !(is_refusal || may_pass) {
            return false;
        }
        match &mut self.stage {
            stage @ Stage::Confirming => {
                *stage = Stage::Trying { reason: Some(failure.reason.clone()) };
                is_refusal
            }
            // A receiver that takes Zstandard may have refused the content, or have stored a part of it.
            stage @ Stage::Zstd { .. }
                if is_refusal && (!self.is_proven || names_compression(failure.kind)) =>
            {
                *stage = Stage::Trying { reason: Some(failure.reason.clone()) };
                true
            }
            Stage::Zstd { failures } => {
                *failures += 1;
                if *failures == DOUBTS {
                    self.stage = Stage::Trying { reason: None };
                }
                false
            }
            // Requests have gzip then.
            Stage::Trying { .. } | Stage::BothRefused | Stage::Gzip { .. } => false,
        }
    }

    /// Returns why the receiver takes no Zstandard, if that has become known.
    pub(super) fn take_conclusion(&mut self) -> Option<String> {
        self.conclusion.take()
    }

    fn conclude(&mut self, reason: String) {
        self.is_proven = false;
        self.stage = Stage::Gzip { until: Instant::now() + RETRIAL };
        if !std::mem::replace(&mut self.is_known, true) {
            self.conclusion = Some(reason);
        }
    }
}

/// Returns whether a refusal is the one that the protocols have for a compression that is not known.
fn names_compression(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Grpc(Code::Unimplemented) | FailureKind::Http(415))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::export::otlp::transport::Retry;

    fn negotiation() -> Negotiation {
        Negotiation::new(CompressionPolicy::Negotiated)
    }

    fn failure(kind: FailureKind) -> Failure {
        let remedy = match kind {
            FailureKind::Grpc(Code::ResourceExhausted) => Remedy::Split,
            FailureKind::Grpc(Code::Unavailable)
            | FailureKind::Http(503)
            | FailureKind::Broken
            | FailureKind::Timeout
            | FailureKind::Connect
            | FailureKind::Tls => Remedy::Retry(Retry::WithBackoff),
            _ => Remedy::Drop,
        };
        Failure { kind, reason: kind.to_string(), remedy }
    }

    /// The next request fails so. Returns whether it is repeated at once.
    fn fails(negotiation: &mut Negotiation, kind: FailureKind) -> bool {
        let form = negotiation.compression();
        negotiation.failed(form, &failure(kind))
    }

    const REFUSALS: [FailureKind; 4] = [
        FailureKind::Grpc(Code::Unimplemented),
        FailureKind::Grpc(Code::Internal),
        FailureKind::Http(415),
        FailureKind::Http(400),
    ];

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_refuses_zstd_and_accepts_gzip_gets_gzip_for_an_hour() {
        for kind in REFUSALS {
            let mut negotiation = negotiation();
            for is_first in [true, false] {
                assert_eq!(negotiation.compression(), Compression::Zstd);
                assert!(negotiation.failed(Compression::Zstd, &failure(kind)));
                assert_eq!(negotiation.compression(), Compression::Gzip);
                assert!(!negotiation.allows(Compression::Zstd), "what waits with zstd is not sent so");
                assert_eq!(negotiation.take_conclusion(), None, "gzip may be refused as well");
                negotiation.accepted(Compression::Gzip);
                let conclusion = is_first.then(|| kind.to_string());
                assert_eq!(negotiation.take_conclusion(), conclusion, "it is logged once");
                negotiation.accepted(Compression::Gzip);
                tokio::time::advance(RETRIAL).await;
                assert!(negotiation.allows(Compression::Gzip), "what waits with gzip is sent so");
            }
            negotiation.accepted(Compression::Zstd);
            negotiation.reconnected();
            assert!(negotiation.failed(Compression::Zstd, &failure(kind)));
            negotiation.accepted(Compression::Gzip);
            assert!(negotiation.take_conclusion().is_some(), "it took zstd in between");
        }
    }

    #[test]
    fn a_receiver_that_refuses_everything_is_not_sent_everything_twice() {
        let mut negotiation = negotiation();
        assert!(negotiation.failed(Compression::Zstd, &failure(FailureKind::Http(401))));
        for _ in 0..10 {
            assert!(!fails(&mut negotiation, FailureKind::Http(401)));
            assert_eq!(negotiation.compression(), Compression::Gzip);
        }
        negotiation.accepted(Compression::Gzip);
        assert_eq!((negotiation.take_conclusion(), negotiation.compression()), (None, Compression::Zstd));
        // The first refusal hid that.
        assert!(negotiation.failed(Compression::Zstd, &failure(FailureKind::Http(415))));
    }

    #[test]
    fn a_receiver_that_refuses_gzip_for_another_reason_is_not_sent_everything_twice() {
        for kind in [FailureKind::Http(429), FailureKind::Malformed, FailureKind::AnswerTooLarge] {
            let mut negotiation = negotiation();
            assert!(fails(&mut negotiation, FailureKind::Http(415)));
            for _ in 0..10 {
                assert_eq!(negotiation.compression(), Compression::Gzip);
                assert!(!fails(&mut negotiation, kind), "{kind}");
            }
        }
    }

    #[test]
    fn a_receiver_that_takes_zstd_refuses_content() {
        let mut negotiation = negotiation();
        negotiation.accepted(Compression::Zstd);
        for kind in [FailureKind::Http(400), FailureKind::Http(500), FailureKind::Grpc(Code::InvalidArgument)]
        {
            assert!(!negotiation.failed(Compression::Zstd, &failure(kind)), "{kind} on this connection");
            negotiation.accepted(Compression::Zstd);
        }
        assert!(negotiation.failed(Compression::Zstd, &failure(FailureKind::Http(415))));
    }

    #[test]
    fn failures_that_may_pass_are_no_refusal_if_zstd_is_accepted_after_them() {
        for kind in [FailureKind::Broken, FailureKind::Http(503), FailureKind::Grpc(Code::Unavailable)] {
            let mut negotiation = negotiation();
            for _ in 0..DOUBTS {
                assert_eq!(negotiation.compression(), Compression::Zstd);
                assert!(!negotiation.failed(Compression::Zstd, &failure(kind)));
            }
            assert_eq!(negotiation.compression(), Compression::Gzip);
            assert!(!negotiation.failed(Compression::Gzip, &failure(kind)), "it takes nothing");
            for _ in 0..DOUBTS {
                assert!(!fails(&mut negotiation, kind));
            }
            negotiation.accepted(Compression::Gzip);
            assert_eq!(negotiation.compression(), Compression::Zstd, "the outage is over");
            negotiation.accepted(Compression::Zstd);
            assert_eq!((negotiation.take_conclusion(), negotiation.compression()), (None, Compression::Zstd));
        }
    }

    #[test]
    fn a_receiver_that_fails_whenever_it_gets_zstd_gets_gzip() {
        for kind in [FailureKind::Broken, FailureKind::Timeout, FailureKind::Http(503)] {
            let mut negotiation = negotiation();
            negotiation.accepted(Compression::Zstd);
            for _ in 0..DOUBTS {
                assert!(!negotiation.failed(Compression::Zstd, &failure(kind)));
            }
            negotiation.accepted(Compression::Gzip);
            assert!(!fails(&mut negotiation, kind));
            assert_eq!(negotiation.compression(), Compression::Gzip);
            assert_eq!(negotiation.take_conclusion(), None, "the outage may have returned");
            negotiation.accepted(Compression::Gzip);
            assert_eq!(negotiation.take_conclusion(), Some(kind.to_string()));
            assert_eq!(negotiation.compression(), Compression::Gzip);
        }
    }

    #[test]
    fn an_outage_that_hits_gzip_as_well_says_nothing_of_zstd() {
        for outage in [FailureKind::Http(503), FailureKind::Broken, FailureKind::Connect, FailureKind::Tls] {
            // A refusal that belongs to the outage, and a failure of the last trial with zstd.
            let mut refused = negotiation();
            assert!(fails(&mut refused, FailureKind::Http(500)));
            let mut confirming = negotiation();
            for _ in 0..DOUBTS {
                assert!(!fails(&mut confirming, FailureKind::Broken));
            }
            confirming.accepted(Compression::Gzip);
            assert!(!fails(&mut confirming, FailureKind::Broken));
            for mut negotiation in [refused, confirming] {
                assert_eq!(negotiation.compression(), Compression::Gzip);
                assert!(!fails(&mut negotiation, outage));
                // The request that was repeated keeps its form.
                negotiation.accepted(Compression::Gzip);
                assert_eq!(
                    (negotiation.take_conclusion(), negotiation.compression()),
                    (None, Compression::Zstd)
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_hour_one_refusal_suffices_also_on_a_connection_that_took_zstd() {
        let mut negotiation = negotiation();
        negotiation.accepted(Compression::Zstd);
        // Behind the connection is another receiver now, which refuses zstd with a status that names no compression.
        for _ in 0..DOUBTS {
            assert!(!fails(&mut negotiation, FailureKind::Http(400)));
        }
        negotiation.accepted(Compression::Gzip);
        assert!(fails(&mut negotiation, FailureKind::Http(400)));
        negotiation.accepted(Compression::Gzip);
        for _ in 0..3 {
            tokio::time::advance(RETRIAL).await;
            assert_eq!(negotiation.compression(), Compression::Zstd);
            assert!(fails(&mut negotiation, FailureKind::Http(400)), "it is sent with gzip at once");
            negotiation.accepted(Compression::Gzip);
            assert_eq!(negotiation.compression(), Compression::Gzip);
        }
    }

    #[test]
    fn what_says_nothing_of_compression_changes_nothing() {
        let mut negotiation = negotiation();
        for kind in [
            FailureKind::Connect,
            FailureKind::Tls,
            FailureKind::Proxy(407),
            FailureKind::Grpc(Code::ResourceExhausted),
            FailureKind::AnswerTooLarge,
            FailureKind::Malformed,
        ] {
            for _ in 0..2 * DOUBTS {
                assert!(!negotiation.failed(Compression::Zstd, &failure(kind)), "{kind}");
            }
            assert_eq!(negotiation.compression(), Compression::Zstd, "{kind}");
        }
        for remedy in [Remedy::Drop, Remedy::Retry(Retry::After(Duration::from_secs(1)))] {
            for kind in [FailureKind::Grpc(Code::ResourceExhausted), FailureKind::Http(429)] {
                for _ in 0..2 * DOUBTS {
                    let busy = Failure { remedy, ..failure(kind) };
                    assert!(!negotiation.failed(Compression::Zstd, &busy), "{kind}");
                }
                assert_eq!(negotiation.compression(), Compression::Zstd, "{kind}");
            }
        }
    }

    #[test]
    fn what_the_user_chose_stays() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut negotiation = Negotiation::new(CompressionPolicy::Fixed(compression));
            for kind in [FailureKind::Http(415); 5] {
                assert!(!negotiation.failed(compression, &failure(kind)));
            }
            assert_eq!(negotiation.compression(), compression);
        }
    }

    /// A receiver, by what it does with Zstandard.
    #[derive(Clone, Copy, Debug)]
    enum Takes {
        Zstd,
        Refuses(FailureKind),
        Fails(FailureKind),
    }

    fn takes() -> impl Strategy<Value = Takes> {
        prop_oneof![
            Just(Takes::Zstd),
            prop::sample::select(&REFUSALS[..]).prop_map(Takes::Refuses),
            prop::sample::select(&[FailureKind::Broken, FailureKind::Http(503)][..]).prop_map(Takes::Fails),
        ]
    }

    fn outage() -> impl Strategy<Value = FailureKind> {
        let kinds =
            &[FailureKind::Http(503), FailureKind::Broken, FailureKind::Connect, FailureKind::Timeout];
        prop::sample::select(&kinds[..])
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever receivers did before, behind the same address, and whatever fails for other reasons: one that takes gzip soon gets
        /// everything, and one that takes Zstandard gets it an hour later.
        #[test]
        fn every_receiver_soon_gets_what_it_takes(
            receivers in prop::collection::vec(
                (any::<bool>(), takes(), prop::collection::vec(prop::option::weighted(0.3, outage()), 0..20)),
                1..5,
            ),
            is_hour_over in any::<bool>(),
            last in takes(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.expect("a runtime").block_on(async {
                let mut negotiation = negotiation();
                for (is_hour_over, takes, outages) in receivers {
                    if is_hour_over {
                        tokio::time::advance(RETRIAL).await;
                    }
                    send(&mut negotiation, takes, outages);
                }
                if is_hour_over {
                    tokio::time::advance(RETRIAL).await;
                }
                // The last one is behind the same connection, so that refusals of content look like those of zstd for a while.
                let (mut lost, mut attempts) = (0, 0);
                let mut form = None;
                for _ in 0..20 {
                    let (tried, accepted) = send(&mut negotiation, last, Vec::new());
                    (attempts, lost) = (attempts + tried, lost + u32::from(accepted.is_none()));
                    form = accepted;
                }
                prop_assert!(lost <= DOUBTS + 1 && attempts <= 20 + 3 * DOUBTS, "{} lost, {} attempts", lost, attempts);
                match last {
                    Takes::Zstd if is_hour_over => prop_assert_eq!(form, Some(Compression::Zstd)),
                    // Another one may have refused it within the hour.
                    Takes::Zstd => prop_assert!(form.is_some()),
                    Takes::Refuses(_) | Takes::Fails(_) => prop_assert_eq!(form, Some(Compression::Gzip)),
                }
                Ok(())
            })?;
        }
    }

    /// Sends a request until it is settled. `outages`, from the end: how each attempt fails that meets one. Returns how often it was
    /// sent, and the form in which it was accepted.
    fn send(
        negotiation: &mut Negotiation,
        takes: Takes,
        mut outages: Vec<Option<FailureKind>>,
    ) -> (u32, Option<Compression>) {
        let mut repeated = None;
        for attempt in 1.. {
            // What is to be sent again keeps its form if that is allowed.
            let form = repeated
                .filter(|&form| negotiation.allows(form))
                .unwrap_or_else(|| negotiation.compression());
            let result = match (outages.pop().flatten(), form, takes) {
                (Some(outage), ..) => Err(outage),
                (None, Compression::Zstd, Takes::Refuses(kind) | Takes::Fails(kind)) => Err(kind),
                _ => Ok(()),
            };
            let Err(kind) = result else {
                negotiation.accepted(form);
                return (attempt, Some(form));
            };
            let failure = failure(kind);
            if !negotiation.failed(form, &failure) && failure.remedy == Remedy::Drop {
                return (attempt, None);
            }
            repeated = Some(form);
        }
        unreachable!("it returns")
    }
}
