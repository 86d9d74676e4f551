//! A pipe that nobody reads.

use std::io::{self, ErrorKind, Write as _};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Returns a pipe that takes nothing more, and whose writer waits.
#[must_use]
pub fn full_pipe() -> (io::PipeReader, io::PipeWriter) {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let set = |writer: &io::PipeWriter, flags| {
        fcntl(writer, FcntlArg::F_SETFL(flags)).expect("a pipe has flags");
    };
    set(&writer, OFlag::O_NONBLOCK);
    // The last bytes one by one: what is larger than the rest of the room is refused as a whole.
    for size in [4096, 1] {
        let bytes = vec![b'x'; size];
        loop {
            match writer.write(&bytes) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("failed to fill a pipe: {error}"),
            }
        }
    }
    set(&writer, OFlag::empty());
    (reader, writer)
}
