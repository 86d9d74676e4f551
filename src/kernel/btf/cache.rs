//! The types of BTF objects, by the ids by which programs, links and maps name them, for one reading.
//! Knows nobody who asks, and makes no issue of a failure. Begin at [`BtfObjects::described`].

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;

use super::Types;
use crate::model::Kind;
use crate::sys::bpf as sys;
use crate::sys::bpf::uapi::{BtfInfo, reported};
use crate::sys::{Error, Result, failed};

/// Reads BTF objects, and keeps what is likely to be asked for again. What could not be read is not kept.
#[derive(Debug)]
pub(crate) struct BtfObjects {
    /// What stands for `/`.
    root: PathBuf,
    /// The types of the kernel itself, 5 MB, on which those of every module rest.
    kernel: Option<Arc<Types>>,
    /// The other object that was asked for last: programs that have one in common were loaded one after the other.
    last: Option<(u32, Described)>,
}

/// What a BTF object describes.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) types: Arc<Types>,
    /// Whether they are the kernel's or a module's.
    pub(crate) of_kernel: bool,
}

impl BtfObjects {
    /// None read yet; `/sys` is below this directory.
    pub(crate) fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), kernel: None, last: None }
    }

    /// The types of the object that has this id; `None` when it is gone.
    ///
    /// # Errors
    ///
    /// The call or file that failed.
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
            return Ok(Some(Described { types: Arc::clone(types), of_kernel }));
        }
        // The types of a module go on where those of the kernel end.
        let base = if of_kernel && !is_kernel { Some(self.kernel()?) } else { None };
        let data = sys::btf_data(fd.as_fd(), info.value.btf_size)?;
        let described = Described { types: Arc::new(Types::parse(data, base)), of_kernel };
        if is_kernel {
            self.kernel = Some(Arc::clone(&described.types));
        } else {
            self.last = Some((id, described.clone()));
        }
        Ok(Some(described))
    }

    /// The types of the kernel itself.
    ///
    /// # Errors
    ///
    /// That of the file, which needs no capability and is there without an id too (`btf_vmlinux_init`, `kernel/bpf/sysfs_btf.c`, since
    /// 5.4).
    pub(crate) fn kernel(&mut self) -> Result<Arc<Types>> {
        if let Some(types) = &self.kernel {
            return Ok(Arc::clone(types));
        }
        let data = fs::read(self.root.join("sys/kernel/btf/vmlinux"));
        let data = data.map_err(failed("/sys/kernel/btf/vmlinux"))?;
        Ok(Arc::clone(self.kernel.insert(Arc::new(Types::parse(data, None)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_read_once_and_its_absence_is_a_failure() {
        let root = std::env::temp_dir().join(format!("btf-objects-{}", std::process::id()));
        let file = root.join("sys/kernel/btf/vmlinux");
        fs::create_dir_all(root.join("sys/kernel/btf")).expect("it can be made");
        let mut btfs = BtfObjects::below(&root);
        let missing = btfs.kernel().map(|_| ());
        fs::write(&file, b"no types").expect("it can be written");
        let first = btfs.kernel();
        fs::remove_dir_all(&root).expect("it can be removed");
        assert_eq!(missing, Err(Error::new("/sys/kernel/btf/vmlinux", Errno::ENOENT)));
        let (first, again) = (first.expect("it is there"), btfs.kernel().expect("it was kept"));
        assert!(Arc::ptr_eq(&first, &again), "5 MB are read once");
    }
}
