//! The limit of open file descriptors. Entry point: [`raise_limit`].

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of descriptors to the hard limit, and returns the limit that is in force. systemd's soft limit of 1,024 is
/// for programs that use select(2), which this one does not.
#[must_use]
pub fn raise_limit() -> u64 {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(error) => {
                tracing::debug!("the soft limit of descriptors stays at {soft}: {error}");
                soft
            }
        },
        Ok((soft, _)) => soft,
        Err(error) => {
            tracing::debug!("the limit of descriptors is unknown: {error}");
            0
        }
    }
}
