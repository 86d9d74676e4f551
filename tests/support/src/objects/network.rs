//! Network namespaces for tests: each made by a thread of its own, so that the test never leaves the one it is in.
//! A namespace lives as long as its [`Network`], and everything attached inside with it.

use super::error::failed_to;
use super::netlink;
use super::sys;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::thread;

/// The index of the loopback interface, which every network namespace has from its birth (`LOOPBACK_IFINDEX`).
pub(super) const LOOPBACK: u32 = 1;

/// Why no pair of interfaces can be made; `None` where one can. Many kernels have them in a module.
#[must_use]
pub fn pairs_missing() -> Option<String> {
    const INDEX: u32 = 77;
    let made = Network::new_with(|network| network.add_pair("probe", INDEX));
    made.err().map(|error| format!("needs a kernel with veth: {error}"))
}

/// A network namespace, kept by an fd.
#[derive(Debug)]
pub struct Network {
    namespace: File,
    inode: u64,
}

impl Network {
    /// Does `work` on a thread inside a new network namespace. The thread ends with it; the namespace stays.
    ///
    /// # Errors
    /// A refusal to make the namespace; the error of `work`.
    pub fn new_with<T: Send>(work: impl FnOnce(&Self) -> io::Result<T> + Send) -> io::Result<(T, Self)> {
        let inside = || {
            sys::unshare_network()
                .map_err(|error| failed_to("make a network namespace".to_owned(), error))?;
            let namespace = File::open("/proc/thread-self/ns/net")?;
            let network = Self { inode: namespace.metadata()?.ino(), namespace };
            Ok((work(&network)?, network))
        };
        thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(done) => done,
            Err(panicked) => panic::resume_unwind(panicked),
        })
    }

    /// Does `work` on a thread inside this namespace. The thread ends with it.
    ///
    /// # Errors
    /// A refusal to enter the namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let inside = || {
            sys::enter_network(self.fd())
                .map_err(|error| failed_to("enter a network namespace".to_owned(), error))?;
            Ok(work())
        };
        thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(done) => done,
            Err(panicked) => panic::resume_unwind(panicked),
        })
    }

    /// Gives its loopback interface another name.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn rename_loopback(&self, name: &str) -> io::Result<()> {
        self.inside(|| netlink::rename_interface(LOOPBACK.cast_signed(), name))?
    }

    /// Makes a pair of interfaces: one with this name and index, and one with the next index.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn add_pair(&self, name: &str, index: u32) -> io::Result<()> {
        self.inside(|| netlink::create_pair("veth", name, index.cast_signed(), index.cast_signed() + 1))?
    }

    /// Removes an interface, and with it the other one of its pair.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn remove_interface(&self, index: u32) -> io::Result<()> {
        self.inside(|| netlink::delete_interface(index.cast_signed()))?
    }

    /// The namespace's number, as in `net:[4026531840]` and as links report it.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The fd that keeps it.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}
