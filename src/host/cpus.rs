//! Lists of CPUs, as files of sysfs have them. Entry points: [`parse`] and [`OnlineCpus::read`].

use nix::errno::Errno;

use super::kept_file::KeptFile;
use crate::sys::{Error, Result, failed};

/// The CPUs that are online: `0-3,8`.
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// The list of the CPUs that are online.
#[derive(Debug)]
pub(crate) struct OnlineCpus(KeptFile);

impl Default for OnlineCpus {
    fn default() -> Self {
        Self(KeptFile::new(ONLINE))
    }
}

impl OnlineCpus {
    /// Returns the CPUs that are online now, in ascending order.
    ///
    /// # Errors
    ///
    /// Those of open(2) and pread(2); `EBADMSG` for what is no list.
    pub(crate) fn read(&mut self) -> Result<Vec<u32>> {
        let text = self.0.read().map_err(failed(ONLINE))?;
        parse(&text).ok_or(Error::new(ONLINE, Errno::EBADMSG))
    }
}

/// Parses a list of CPUs, such as `0-3,8`, and returns their numbers in ascending order.
pub(crate) fn parse(text: &str) -> Option<Vec<u32>> {
    /// More than any kernel has (`CONFIG_NR_CPUS`).
    const MOST: u32 = 1 << 16;
    let mut cpus = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last >= MOST {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_parsed() {
        assert_eq!(parse("0\n"), Some(vec![0]));
        assert_eq!(parse("0"), Some(vec![0]));
        assert_eq!(parse("0-3\n"), Some(vec![0, 1, 2, 3]));
        assert_eq!(parse("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse("0-1,4,6-7\n"), Some(vec![0, 1, 4, 6, 7]));
        for wrong in ["", "a", "3-1", "0-", "-1", "0-99999999", "0-4000000000"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
