//! The file systems of pins (bpffs) of the host, in whatever mount namespace they are mounted.
//!
//! Entry point: [`BpffsList::read`].

use zerocopy::FromBytes as _;

use super::Table;
use super::records::BpffsRecord;
use crate::host::issues::Issues;
use crate::sys::Result;

/// How often the list is read again if a file system left it meanwhile.
const ATTEMPTS: usize = 3;

/// The list of all superblocks, of which the program reports those of bpffs.
#[derive(Debug)]
pub(crate) struct BpffsList {
    table: Table,
}

impl BpffsList {
    pub(crate) fn new(table: Table) -> Self {
        Self { table }
    }

    /// Returns the device numbers of every bpffs of the host, as stat(2) has them, ascending. `None` if the list changed each time;
    /// `None`, and an issue, on failure.
    pub(crate) fn read(&mut self, issues: &mut Issues) -> Option<Vec<u64>> {
        for _ in 0..ATTEMPTS {
            match self.read_once() {
                Ok(None) => {}
                Ok(devices) => return devices,
                Err(error) => {
                    issues.record(self.table.part, error);
                    return None;
                }
            }
        }
        None
    }

    /// `None` if the list was not read to its end.
    fn read_once(&mut self) -> Result<Option<Vec<u64>>> {
        let mut devices = Devices::default();
        self.table.run(|bytes| devices.take(bytes))?;
        Ok(devices.complete())
    }
}

/// The records of one pass.
#[derive(Default)]
struct Devices {
    found: Vec<u64>,
    ended: bool,
}

impl Devices {
    /// Takes the complete records at the start of `bytes`, and returns their length.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut left = bytes;
        while let Ok((record, rest)) = BpffsRecord::read_from_prefix(left) {
            left = rest;
            match record.device {
                0 => self.ended = true,
                device => self.found.push(stat_device(device)),
            }
        }
        bytes.len() - left.len()
    }

    fn complete(mut self) -> Option<Vec<u64>> {
        self.found.sort_unstable();
        self.found.dedup();
        self.ended.then_some(self.found)
    }
}

/// Converts a device number of the kernel (`MKDEV`, `include/linux/kdev_t.h`) to that of stat(2).
fn stat_device(device: u32) -> u64 {
    const MINOR_BITS: u32 = 20;
    libc::makedev(device >> MINOR_BITS, device & ((1 << MINOR_BITS) - 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(devices: &[u32]) -> Option<Vec<u64>> {
        let bytes: Vec<u8> = devices.iter().flat_map(|device| device.to_ne_bytes()).collect();
        let mut parser = Devices::default();
        assert_eq!(parser.take(&bytes), bytes.len());
        parser.complete()
    }

    #[test]
    fn a_list_without_its_end_is_unknown() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[31, 29]), None);
        assert_eq!(read(&[31, 29, 31, 0]), Some(vec![29, 31]));
        assert_eq!(read(&[0]), Some(vec![]));
    }

    #[test]
    fn devices_are_those_of_stat() {
        assert_eq!(stat_device(0x0000_001f), 0x1f);
        assert_eq!(stat_device(0x0080_012c), libc::makedev(8, 300));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let mut parser = Devices::default();
            prop_assert!(bytes.len() - parser.take(&bytes) < 4);
        }
    }
}
