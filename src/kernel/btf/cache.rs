//! Types of BTF objects by id, cached across readings.
//!
//! Entry point: [`BtfCache::described`].

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;

use super::Types;
use crate::model::Kind;
use crate::sys::bpf as sys;
use crate::sys::bpf::uapi::{BtfInfo, reported};
use crate::sys::{Error, Result, failed};

/// The number of readings after which the kernel's types are dropped if no reading uses them: 5 MB that only new objects need.
const KEPT_FOR: u32 = 30;

/// Reads BTF objects, and caches those that are likely to be needed again. Failures are not cached.
#[derive(Debug)]
pub(crate) struct BtfCache {
    /// The directory in place of `/`.
    root: PathBuf,
    /// The types of the kernel itself, 5 MB, the base of every module's.
    kernel: Option<Arc<Types>>,
    /// The number of readings since the kernel's types were last used.
    unused_for: u32,
    /// The last other object: programs that share one are loaded one after the other.
    last: Option<(u32, Described)>,
}

/// The contents of a BTF object.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) types: Arc<Types>,
    /// Whether they are those of the kernel or a module.
    pub(crate) of_kernel: bool,
}

impl BtfCache {
    /// Returns an empty cache, with `root` in place of `/`.
    pub(crate) fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), kernel: None, unused_for: 0, last: None }
    }

    /// Ends a reading: drops what the next one is unlikely to need. Ids of objects are reused, the kernel's types never change.
    pub(crate) fn end_reading(&mut self) {
        self.last = None;
        self.unused_for += 1;
        if self.unused_for >= KEPT_FOR {
            self.kernel = None;
        }
    }

    /// Returns the types of an object; `None` if it is gone.
    ///
    /// # Errors
    ///
    /// The failed call or file.
    pub(crate) fn described(&mut self, id: u32) -> Result<Option<Described>> {
        if let Some((_, last)) = self.last.as_ref().filter(|(last, _)| *last == id) {
            return Ok(Some(last.clone()));
        }
        let fd = match sys::fd_by_id(Kind::Btf, id) {
            Ok(fd) => fd,
            Err(Error { errno: Errno::ENOENT, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (info, name) = sys::btf_info(fd.as_fd())?;
        let of_kernel = reported!(&info, BtfInfo, kernel_btf).is_some_and(|kernel| kernel != 0);
        let is_kernel = of_kernel && name.starts_with(b"vmlinux\0");
        if let Some(types) = self.kernel.as_ref().filter(|_| is_kernel) {
            self.unused_for = 0;
            return Ok(Some(Described { types: Arc::clone(types), of_kernel }));
        }
        // The ids of a module's types continue those of the kernel's.
        let base = if of_kernel && !is_kernel { Some(self.kernel()?) } else { None };
        let data = sys::btf_data(fd.as_fd(), info.value.btf_size)?;
        let types = if is_kernel { self.keep_kernel(data) } else { Arc::new(Types::parse(data, base)) };
        let described = Described { types, of_kernel };
        if !is_kernel {
            self.last = Some((id, described.clone()));
        }
        Ok(Some(described))
    }

    /// Returns the types of the kernel itself.
    ///
    /// # Errors
    ///
    /// That of reading the file, which needs no capability and no id (`btf_vmlinux_init`, `kernel/bpf/sysfs_btf.c`, since 5.4).
    pub(crate) fn kernel(&mut self) -> Result<Arc<Types>> {
        self.unused_for = 0;
        if let Some(types) = &self.kernel {
            return Ok(Arc::clone(types));
        }
        let data = fs::read(self.root.join("sys/kernel/btf/vmlinux"));
        let data = data.map_err(failed("/sys/kernel/btf/vmlinux"))?;
        Ok(self.keep_kernel(data))
    }

    fn keep_kernel(&mut self, data: Vec<u8>) -> Arc<Types> {
        let size = data.len();
        let started = Instant::now();
        self.unused_for = 0;
        let types = Arc::clone(self.kernel.insert(Arc::new(Types::parse(data, None))));
        tracing::debug!("parsed {size} bytes of kernel BTF in {:?}", started.elapsed());
        types
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn kernel_types_are_read_once_and_dropped_when_unused() {
        let root = TempDir::new().expect("a temporary directory can be created");
        let file = root.path().join("sys/kernel/btf/vmlinux");
        fs::create_dir_all(root.path().join("sys/kernel/btf")).expect("the directory is writable");
        let mut btfs = BtfCache::below(root.path());
        let missing = btfs.kernel().map(|_| ());
        fs::write(&file, b"no types").expect("the directory is writable");
        let first = btfs.kernel();
        root.close().expect("the directory is writable");
        assert_eq!(missing, Err(Error::new("/sys/kernel/btf/vmlinux", Errno::ENOENT)));
        let (first, again) = (first.expect("the file exists"), btfs.kernel().expect("it is cached"));
        assert!(Arc::ptr_eq(&first, &again), "5 MB are read once");
        for _ in 1..KEPT_FOR {
            btfs.end_reading();
        }
        assert!(Arc::ptr_eq(&first, &btfs.kernel().expect("it is cached")), "readings do not read it again");
        for _ in 0..KEPT_FOR {
            btfs.end_reading();
        }
        assert!(btfs.kernel.is_none(), "no reading used it");
    }
}
