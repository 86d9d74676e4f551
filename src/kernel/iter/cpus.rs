//! The possible CPUs in the order in which the programs read their counters: online ones first, since the counters of others stand
//! still.
//!
//! Entry point: [`SharedCpus::refresh`].

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use crate::host::cpus::OnlineCpus;
use crate::sys::Result;
use crate::sys::bpf as sys;

/// The array of CPUs that the programs share.
#[derive(Clone, Debug)]
pub(crate) struct SharedCpus(Arc<Mutex<Cpus>>);

#[derive(Debug)]
struct Cpus {
    array: OwnedFd,
    possible: Vec<u32>,
    /// Those that were online when the array was written.
    online: Vec<u32>,
    /// The list of those that are online; `None` if it had all CPUs: one that goes offline is read all the same.
    list: Option<OnlineCpus>,
    /// How often the array was written.
    order: u32,
}

impl SharedCpus {
    /// Fills the array.
    ///
    /// # Errors
    ///
    /// Those of `BPF_MAP_UPDATE_ELEM`.
    pub(super) fn fill(array: OwnedFd, possible: Vec<u32>) -> Result<Self> {
        let list = Some(OnlineCpus::default());
        let mut cpus = Cpus { array, possible, online: Vec::new(), list, order: 0 };
        cpus.follow()?;
        Ok(Self(Arc::new(Mutex::new(cpus))))
    }

    /// Writes the array again if a CPU has come online that was not when it was written. Returns the number of the order of CPUs: with
    /// another one, objects have to be learned again.
    ///
    /// # Errors
    ///
    /// Those of `BPF_MAP_UPDATE_ELEM`.
    pub(super) fn refresh(&self) -> Result<u32> {
        let mut cpus = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cpus.follow()?;
        Ok(cpus.order)
    }

    /// Returns the number of possible CPUs, and how many of them come first because they are online.
    pub(super) fn counts(&self) -> (u32, u32) {
        let cpus = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (count(&cpus.possible), count(&cpus.online))
    }
}

impl Cpus {
    /// Writes the array if a CPU is online that was not when it was written. Where CPUs cannot be listed, all are taken to be online,
    /// until they can.
    fn follow(&mut self) -> Result<()> {
        let Some(list) = &mut self.list else { return Ok(()) };
        let listed = list.read();
        let is_whole = listed.is_ok();
        let is_online = |cpu: &u32| listed.as_ref().map_or(true, |listed| listed.binary_search(cpu).is_ok());
        let online: Vec<u32> = self.possible.iter().copied().filter(is_online).collect();
        if online.iter().any(|cpu| self.online.binary_search(cpu).is_err()) {
            self.write(online)?;
        }
        if is_whole && self.online.len() == self.possible.len() {
            self.list = None;
        }
        Ok(())
    }

    fn write(&mut self, online: Vec<u32>) -> Result<()> {
        self.order += 1;
        // Until the array is complete, it has none that is online: the next attempt writes it again.
        self.online.clear();
        for (index, number) in (0..).zip(in_order(&self.possible, &online)) {
            // An offset, which the programs determine, and the number of the CPU.
            sys::update_map(self.array.as_fd(), index, &[0, 0, number, 0])?;
        }
        self.online = online;
        Ok(())
    }
}

/// Returns the possible CPUs, those first that are online.
fn in_order(possible: &[u32], online: &[u32]) -> Vec<u32> {
    let (first, others): (Vec<_>, Vec<_>) = possible.iter().partition(|cpu| online.contains(cpu));
    [first, others].concat()
}

fn count(cpus: &[u32]) -> u32 {
    u32::try_from(cpus.len()).expect("far less than 2^32 CPUs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_that_are_online_come_first() {
        assert_eq!(in_order(&[0, 1, 2, 3, 8], &[2, 8]), [2, 8, 0, 1, 3]);
        assert_eq!(in_order(&[0, 1], &[0, 1]), [0, 1]);
    }
}
