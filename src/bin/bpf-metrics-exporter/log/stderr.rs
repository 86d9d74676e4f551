//! Standard error without the lock of the standard library, which a thread that waits for a full pipe would keep. Entry point:
//! [`write`].

use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A pipe that is ready takes so much without waiting (`PIPE_BUF`).
const CHUNK: usize = 4096;

/// Writes all bytes, or fails at the deadline, if there is one.
///
/// # Errors
///
/// If standard error is closed, its file system is full, or it takes nothing until the deadline.
pub(super) fn write(mut bytes: &[u8], deadline: Option<Instant>) -> io::Result<()> {
    let stderr = io::stderr();
    let stderr = stderr.as_fd();
    while !bytes.is_empty() {
        let timeout = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            None => PollTimeout::NONE,
            // Rounded up, so that the last wait is not one of no time.
            Some(left) => PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
        };
        match poll(&mut [PollFd::new(stderr, PollFlags::POLLOUT)], timeout) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match nix::unistd::write(stderr, &bytes[..bytes.len().min(CHUNK)]) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
