//! Users and their passwords, hashed with bcrypt. Entry point: [`Users::verify`].
//!
//! A hash costs tens of milliseconds of CPU, so one is computed at a time, on a thread of its own, and verdicts are remembered. An
//! unknown user costs as much as the dearest known one: where all hashes have the same cost, names cannot be guessed by time.

use std::collections::{HashMap, VecDeque};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bcrypt::HashParts;
use http::HeaderValue;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;

use crate::web::bounds;
use crate::worker::Worker;

/// Whether a request may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::web) enum Verdict {
    Allowed,
    /// No credentials, or wrong ones.
    Refused,
    /// Too many others wait for their verification.
    Busy,
}

/// The users of a configuration file.
pub(super) struct Users {
    hashes: Arc<HashMap<String, String>>,
    /// Compared with where there is no such user: no password has this hash.
    stand_in: Arc<str>,
    waiting: Arc<AtomicUsize>,
    verdicts: Arc<Mutex<Verdicts>>,
}

/// Base64 as clients write it, with or without padding.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// SHA-256 of salted credentials.
type Digest = [u8; 32];

/// The last verdicts, at most [`bounds::VERDICTS`].
struct Verdicts {
    /// So that digests are of no use elsewhere.
    salt: [u8; 16],
    known: VecDeque<(Digest, bool)>,
}

/// Returns whether this is a bcrypt hash.
pub(super) fn is_hash(text: &str) -> bool {
    HashParts::from_str(text).is_ok()
}

/// Returns the least and the highest cost of hashes; `None` for no hash.
pub(super) fn costs<'a>(hashes: impl Iterator<Item = &'a String>) -> Option<(u32, u32)> {
    let costs = hashes.filter_map(|hash| HashParts::from_str(hash).ok()).map(|parts| parts.get_cost());
    costs.fold(None, |range, cost| {
        let (least, most) = range.unwrap_or((cost, cost));
        Some((least.min(cost), most.max(cost)))
    })
}

/// Counts a verification that waits.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Users {
    /// Returns the users with these hashes, which are valid.
    pub(super) fn new(hashes: HashMap<String, String>) -> Self {
        let cost = costs(hashes.values()).map_or(bcrypt::DEFAULT_COST, |(_, most)| most);
        Self {
            hashes: hashes.into(),
            stand_in: format!("$2b${cost:02}${}", ".".repeat(53)).into(),
            waiting: Arc::default(),
            verdicts: Arc::new(Mutex::new(Verdicts { salt: rand::random(), known: VecDeque::new() })),
        }
    }

    /// Returns whether they are the same users with the same passwords as others.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.hashes == other.hashes
    }

    /// Verifies the value of `Authorization` on a thread.
    pub(super) async fn verify(&self, authorization: Option<&HeaderValue>, worker: &Worker) -> Verdict {
        let Some((user, password)) = authorization.and_then(credentials) else { return Verdict::Refused };
        let digest = self.digest(&user, &password);
        if let Some(is_right) = self.verdict(&digest) {
            return if is_right { Verdict::Allowed } else { Verdict::Refused };
        }
        // Counted before: a burst of requests must not pass the limit together.
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let counted = Waiting(Arc::clone(&self.waiting));
        if waiting >= bounds::VERIFICATIONS {
            return Verdict::Busy;
        }
        let (hashes, stand_in) = (Arc::clone(&self.hashes), Arc::clone(&self.stand_in));
        let verdicts = Arc::clone(&self.verdicts);
        let verify = move || {
            let _counted = counted;
            // Others with the same password may have waited before this one.
            if let Some(is_right) = find(&verdicts, &digest) {
                return is_right;
            }
            let known = hashes.get(&user).map(String::as_str);
            let fits = bcrypt::verify(&password, known.unwrap_or(&stand_in)).unwrap_or(false);
            let is_right = known.is_some() && fits;
            let mut verdicts = verdicts.lock().expect("nothing panics with it");
            if verdicts.known.len() >= bounds::VERDICTS {
                // A flood of wrong passwords does not drive out the right ones.
                let wrong = verdicts.known.iter().position(|&(_, is_right)| !is_right);
                verdicts.known.remove(wrong.unwrap_or(0));
            }
            verdicts.known.push_back((digest, is_right));
            is_right
        };
        if worker.turn().await.run(verify).await { Verdict::Allowed } else { Verdict::Refused }
    }

    fn verdict(&self, digest: &Digest) -> Option<bool> {
        find(&self.verdicts, digest)
    }

    fn digest(&self, user: &str, password: &[u8]) -> Digest {
        let salt = self.verdicts.lock().expect("nothing panics with it").salt;
        let length = (user.len() as u64).to_le_bytes();
        let text = [&salt[..], &length, user.as_bytes(), password].concat();
        let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("it is a suite of TLS 1.3");
        let output = suite.common.hash_provider.hash(&text);
        output.as_ref().try_into().expect("its hash is SHA-256")
    }
}

fn find(verdicts: &Mutex<Verdicts>, digest: &Digest) -> Option<bool> {
    let verdicts = verdicts.lock().expect("nothing panics with it");
    verdicts.known.iter().find(|(known, _)| known == digest).map(|&(_, is_right)| is_right)
}

/// Returns user and password of basic authentication.
pub(super) fn credentials(authorization: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = authorization.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = ENGINE.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((user, decoded[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).expect("visible text")
    }

    #[test]
    fn credentials_are_decoded() {
        assert_eq!(credentials(&basic("Basic YTpiOmM=")), Some(("a".to_owned(), b"b:c".to_vec())));
        assert_eq!(credentials(&basic("basic Og")), Some((String::new(), Vec::new())));
        for wrong in ["Bearer YTpi", "Basic", "Basic YQ==", "Basic !", "Basic YWFhYQA"] {
            assert_eq!(credentials(&basic(wrong)), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn passwords_are_verified_once_and_unknown_users_cost_as_much() {
        let hash = bcrypt::hash("secret", 8).expect("a hash");
        assert!(is_hash(&hash) && !is_hash("secret"));
        let users = Users::new([("ann".to_owned(), hash)].into());
        let worker = Worker::start("test").expect("a thread");
        assert!(is_hash(&users.stand_in) && users.stand_in.starts_with("$2b$08$"));
        let ann = basic("Basic YW5uOnNlY3JldA==");
        for _ in 0..2 {
            assert_eq!(users.verify(Some(&ann), &worker).await, Verdict::Allowed);
            assert_eq!(users.verify(Some(&basic("Basic YW5uOndyb25n")), &worker).await, Verdict::Refused);
            assert_eq!(users.verify(Some(&basic("Basic Ym9iOnNlY3JldA==")), &worker).await, Verdict::Refused);
        }
        assert_eq!(users.verdicts.lock().expect("no panic").known.len(), 3);
        assert_eq!(users.verify(None, &worker).await, Verdict::Refused);
        assert_eq!(users.waiting.load(Ordering::Relaxed), 0);
        users.waiting.store(bounds::VERIFICATIONS, Ordering::Relaxed);
        assert_eq!(users.verify(Some(&basic("Basic YW5uOm90aGVy")), &worker).await, Verdict::Busy);
        assert_eq!(users.verify(Some(&ann), &worker).await, Verdict::Allowed, "who is known does not wait");
    }
}
