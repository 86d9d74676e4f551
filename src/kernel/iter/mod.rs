//! Backend by BPF iterators: the kernel runs our programs over its own tables, and a few reads return the records that they
//! write ([`records`]).
//!
//! Entry point: [`Iterators::load`].

mod bpffs;
mod cpus;
mod files;
pub(crate) mod fuzzing;
mod known;
mod links;
mod load;
mod map_growth;
mod maps;
mod programs;
mod records;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

pub(crate) use self::bpffs::BpffsList;
pub(crate) use self::files::Files;
pub(crate) use self::links::Links;
pub(crate) use self::load::Iterators;
pub(crate) use self::maps::Maps;
pub(crate) use self::programs::Programs;
use crate::host::issues::Issues;
use crate::model::Part;
use crate::sys::bpf as sys;
use crate::sys::{Error, Result};

/// Twice the most that the kernel returns at a time: room for that and for an incomplete record before it.
const BUFFER_LEN: usize = 64 << 10;

/// One of the kernel's tables, read by an iterator program.
#[derive(Debug)]
pub(crate) struct Table {
    part: Part,
    /// The link from which each reading creates an iterator, since an iterator cannot be rewound.
    link: OwnedFd,
    buffer: Box<[u8]>,
}

impl Table {
    fn new(part: impl Into<Part>, link: OwnedFd) -> Self {
        Self { part: part.into(), link, buffer: vec![0; BUFFER_LEN].into_boxed_slice() }
    }

    /// Runs the program over the table. `take` consumes the complete records at the start of a slice, and returns their length.
    ///
    /// `None`, and an issue, on failure: the records up to then are not the complete table.
    fn read(&mut self, issues: &mut Issues, take: impl FnMut(&[u8]) -> usize) -> Option<()> {
        self.run(take).map_err(|error| issues.record(self.part, error)).ok()
    }

    /// As [`Self::read`], without recording the error.
    ///
    /// # Errors
    ///
    /// Those of `BPF_ITER_CREATE` and read(2); `EBADMSG` for an incomplete record.
    fn run(&mut self, take: impl FnMut(&[u8]) -> usize) -> Result<()> {
        let iterator = sys::create_iterator(self.link.as_fd())?;
        take_records(File::from(iterator), &mut self.buffer, take)
            .map_err(|error| Error::new("read", error.raw_os_error().map_or(Errno::EBADMSG, Errno::from_raw)))
    }
}

/// Reads to the end, and passes the data to `take`, preceded by what it left of the data before.
///
/// The kernel returns complete records, unless a read has less room than the kernel has data.
fn take_records(
    mut from: impl Read,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]) -> usize,
) -> io::Result<()> {
    let mut filled = 0;
    loop {
        match from.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(()),
            Ok(0) => return Err(io::Error::other("the last record is incomplete or longer than the buffer")),
            Ok(len) => {
                filled += len;
                let taken = take(&buffer[..filled]);
                buffer.copy_within(taken..filled, 0);
                filled -= taken;
            }
            // The kernel returns EAGAIN after a million objects for which the program wrote nothing, to let other tasks run.
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// Returns its data in pieces of these lengths.
    struct Pieces<I>(Cursor<Vec<u8>>, I);

    impl<I: Iterator<Item = usize>> Read for Pieces<I> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.1.next().unwrap_or(usize::MAX).min(buffer.len());
            if len == 0 && !buffer.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.read(&mut buffer[..len])
        }
    }

    /// Takes records of a length byte and as many bytes.
    fn take(bytes: &[u8], records: &mut Vec<Vec<u8>>) -> usize {
        let mut rest = bytes;
        while let Some((&len, after)) = rest.split_first()
            && let Some((record, after)) = after.split_at_checked(len.into())
        {
            records.push(record.to_vec());
            rest = after;
        }
        bytes.len() - rest.len()
    }

    fn framed(records: &[Vec<u8>]) -> Vec<u8> {
        records
            .iter()
            .flat_map(|record| {
                std::iter::once(u8::try_from(record.len()).expect("short")).chain(record.iter().copied())
            })
            .collect()
    }

    proptest! {
        #[test]
        fn records_are_reassembled_from_any_pieces(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..40),
            pieces in prop::collection::vec(0_usize..70, 0..80),
        ) {
            let mut found = Vec::new();
            let from = Pieces(Cursor::new(framed(&records)), pieces.into_iter());
            let mut buffer = [0; 64];
            take_records(from, &mut buffer, |bytes| take(bytes, &mut found)).expect("every record fits");
            prop_assert_eq!(found, records);
        }
    }

    #[test]
    fn an_incomplete_record_at_the_end_is_an_error() {
        let mut found = Vec::new();
        let mut bytes = framed(&[vec![1, 2, 3], vec![4]]);
        bytes.pop();
        let mut buffer = [0; 64];
        let cut = take_records(&bytes[..], &mut buffer, |bytes| take(bytes, &mut found));
        assert!(cut.is_err() && found == [[1, 2, 3]], "the last record is incomplete");

        let too_long = framed(&[vec![7; 200]]);
        assert!(take_records(&too_long[..], &mut buffer, |bytes| take(bytes, &mut found)).is_err());
    }
}
