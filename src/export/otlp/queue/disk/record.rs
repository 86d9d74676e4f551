//! Records of the files that keep a backlog: the format, and how it is read back from bytes that may be damaged.
//! Entry points: [`Header`], [`scan`].
//!
//! A record is a header and a body, all numbers in little endian:
//!
//! | bytes | what |
//! |---:|---|
//! | 4 | `BPQ1`, or `DONE` once it is settled |
//! | 4 | CRC-32 of the rest of the header |
//! | 4 | CRC-32 of the body |
//! | 4 | length of the body |
//! | 8 | sequence number |
//! | 8 | number of the reading |
//! | 8 | number of items |
//! | 1 | signal: 0 metrics, 1 logs |
//! | 1 | compression: 0 none, 1 gzip, 2 Zstandard |
//! | 6 | 0 |

use std::io;

use crate::export::otlp::encode::{Items, Signal};
use crate::export::otlp::settings::Compression;
use crate::export::wire;

/// Length of a header in bytes.
pub(super) const HEADER: usize = 48;

/// The first bytes of a record.
const WAITING: [u8; 4] = *b"BPQ1";

/// The first bytes of a record that is settled.
pub(super) const SETTLED: [u8; 4] = *b"DONE";

/// Where the checked part of a header begins.
const CHECKED: usize = 8;

const SIGNALS: [Signal; 2] = [Signal::Metrics, Signal::Logs];
const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

/// What a record says of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// CRC-32 of the body.
    pub(super) checksum: u32,
    /// Length of the body.
    pub(super) len: u32,
    /// Ascends from record to record.
    pub(super) sequence: u64,
    pub(super) reading: u64,
    pub(super) items: Items,
    pub(super) compression: Compression,
    pub(super) is_settled: bool,
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        let position = |found: Option<usize>| found.and_then(|index| u8::try_from(index).ok()).unwrap_or(0);
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(if self.is_settled { &SETTLED } else { &WAITING });
        bytes[8..12].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.reading.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.items.count.to_le_bytes());
        bytes[40] = position(SIGNALS.iter().position(|signal| *signal == self.items.signal));
        bytes[41] = position(COMPRESSIONS.iter().position(|compression| *compression == self.compression));
        let checksum = crc32fast::hash(&bytes[CHECKED..]);
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Parses the header at the start of these bytes; `None` if there is no whole and undamaged one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER] = bytes.first_chunk()?;
        let four = |at: usize| bytes[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let eight = |at: usize| bytes[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let is_settled = bytes[..4] == SETTLED;
        if !(is_settled || bytes[..4] == WAITING) || four(4)? != crc32fast::hash(&bytes[CHECKED..]) {
            return None;
        }
        Some(Self {
            checksum: four(8)?,
            len: four(12)?,
            sequence: eight(16)?,
            reading: eight(24)?,
            items: Items { signal: *SIGNALS.get(usize::from(bytes[40]))?, count: eight(32)? },
            compression: *COMPRESSIONS.get(usize::from(bytes[41]))?,
            is_settled,
        })
    }

    /// Returns true if these bytes are the body.
    pub(super) fn matches(&self, body: &[u8]) -> bool {
        body.len() == self.len as usize && crc32fast::hash(body) == self.checksum
    }
}

/// The records in a file.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The whole records: where each begins, and its header. Their bodies are not checked.
    pub(super) records: Vec<(u64, Header)>,
    /// How many places are damaged: no record begins where one should.
    pub(super) damaged: u64,
}

/// How much of a damaged place is read at once, in bytes.
const WINDOW: usize = 64 << 10;

/// Finds the records in a file of this length; `read` fills a buffer from a place in it. Skips what is damaged; a last record that is
/// cut off is not one.
///
/// # Errors
///
/// If the file cannot be read.
pub(super) fn scan(len: u64, mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>) -> io::Result<Scan> {
    let mut found = Scan::default();
    let mut at = 0;
    while len - at >= HEADER as u64 {
        let mut header = [0; HEADER];
        read(&mut header, at)?;
        if let Some(header) = Header::parse(&header).filter(|header| header.len as usize <= wire::MAX_LEN) {
            let end = at + HEADER as u64 + u64::from(header.len);
            if end > len {
                break;
            }
            found.records.push((at, header));
            at = end;
        } else {
            found.damaged += 1;
            let Some(next) = next_header(at + 1, len, &mut read)? else { break };
            at = next;
        }
    }
    Ok(found)
}

/// Returns where the next header begins, from `at` on.
fn next_header(
    mut at: u64,
    len: u64,
    read: &mut impl FnMut(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<Option<u64>> {
    let mut window = Vec::new();
    while at + HEADER as u64 <= len {
        window.resize(usize::try_from(len - at).map_or(WINDOW, |left| left.min(WINDOW)), 0);
        read(&mut window, at)?;
        let begins =
            |bytes: &[u8]| Header::parse(bytes).is_some_and(|header| header.len as usize <= wire::MAX_LEN);
        if let Some(found) = window.windows(HEADER).position(begins) {
            return Ok(Some(at + found as u64));
        }
        // A header may begin in the last bytes.
        at += (window.len() - HEADER + 1) as u64;
    }
    Ok(None)
}

/// Finds the records in these bytes.
fn scan_bytes(file: &[u8]) -> Scan {
    let read = |bytes: &mut [u8], at: u64| {
        let at = usize::try_from(at).expect("it is within the file");
        bytes.copy_from_slice(&file[at..at + bytes.len()]);
        Ok(())
    };
    scan(file.len() as u64, read).expect("memory can be read")
}

/// Entry point of a fuzzer: takes any bytes for a file.
pub(crate) fn fuzz(file: &[u8]) {
    let mut end = 0;
    for (at, header) in scan_bytes(file).records {
        let at = usize::try_from(at).expect("it is within the file");
        assert!(at >= end, "records do not overlap");
        end = at + HEADER + header.len as usize;
        let _intact = header.matches(&file[at + HEADER..end]);
        assert_eq!(Header::parse(&header.to_bytes()), Some(header));
    }
    assert!(end <= file.len());
    // The checksum keeps a fuzzer from the rest of the parser.
    if let Some(header) = file.first_chunk::<HEADER>() {
        let mut header = *header;
        header[..4].copy_from_slice(&WAITING);
        let checksum = crc32fast::hash(&header[CHECKED..]);
        header[4..8].copy_from_slice(&checksum.to_le_bytes());
        let _record = scan_bytes(&[&header[..], &file[HEADER..]].concat());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(sequence: u64, body: &[u8]) -> Vec<u8> {
        let index = usize::try_from(sequence).expect("it is small");
        let header = Header {
            checksum: crc32fast::hash(body),
            len: u32::try_from(body.len()).expect("it is short"),
            sequence,
            reading: sequence / 2,
            items: Items { signal: SIGNALS[index % 2], count: sequence * 3 },
            compression: COMPRESSIONS[index % 3],
            is_settled: sequence.is_multiple_of(5),
        };
        assert_eq!(Header::parse(&header.to_bytes()), Some(header));
        [&header.to_bytes()[..], body].concat()
    }

    fn body_at<'a>(file: &'a [u8], at: u64, header: &Header) -> &'a [u8] {
        &file[usize::try_from(at).expect("it is short") + HEADER..][..header.len as usize]
    }

    proptest! {
        #[test]
        fn what_was_written_is_found(bodies: Vec<Vec<u8>>) {
            let file: Vec<u8> = (0..).zip(&bodies).flat_map(|(sequence, body)| record(sequence, body)).collect();
            let Scan { records, damaged } = scan_bytes(&file);
            prop_assert_eq!((records.len(), damaged), (bodies.len(), 0));
            for ((at, header), body) in records.iter().zip(&bodies) {
                prop_assert!(header.matches(body_at(&file, *at, header)));
                prop_assert_eq!(header.len as usize, body.len());
            }
        }

        #[test]
        fn a_torn_tail_costs_the_last_record_only(count in 1_u64..10, cut in 1_usize..90) {
            let file: Vec<u8> = (0..count).flat_map(|sequence| record(sequence, &[7; 42])).collect();
            let Scan { records, damaged } = scan_bytes(&file[..file.len() - cut]);
            prop_assert_eq!((records.len() as u64, damaged), (count - 1, 0));
        }

        #[test]
        fn a_damaged_byte_costs_one_record_at_most(count in 1_u64..10, at: prop::sample::Index, bit in 0_u8..8) {
            let mut file: Vec<u8> = (0..count).flat_map(|sequence| record(sequence, &[7; 42])).collect();
            let at = at.index(file.len());
            file[at] ^= 1_u8 << bit;
            let Scan { records, damaged } = scan_bytes(&file);
            let intact = records
                .iter()
                .filter(|(at, header)| header.matches(body_at(&file, *at, header)));
            prop_assert_eq!(intact.count() as u64, count - 1);
            prop_assert!(damaged <= 1);
        }

        #[test]
        fn a_record_after_much_damage_is_found(junk in WINDOW - 60..WINDOW + 60) {
            let file = [vec![b'B'; junk], record(1, &[7; 42])].concat();
            let Scan { records, damaged } = scan_bytes(&file);
            prop_assert_eq!((records.len(), records[0].0, damaged), (1, junk as u64, 1));
        }

        #[test]
        fn any_bytes_are_scanned(file: Vec<u8>) {
            fuzz(&file);
        }
    }
}
