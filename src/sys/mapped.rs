//! Pages of the program's own file in memory. Entry point: [`unmap_code`].
#![expect(unsafe_code, reason = "the memory map of a process has no safe interface")]

use std::ops::Range;

/// Takes the program's code and constants out of the process, and returns how many bytes of address space that are: what is used
/// again is mapped again when it is used.
///
/// A start uses most of the code once, for flags, the loader of iterators and the sandbox, and the kernel maps 64 KiB around each page:
/// 12 of 16 MB that the process has on a node with few objects. The pages stay in the page cache, from where they are mapped again
/// without I/O; the system can take them for something else when memory is short, as it could before.
pub fn unmap_code() -> usize {
    let mut segments: Vec<Range<usize>> = Vec::new();
    // SAFETY: `add_segments` is called during this call only, with the vector to which this points and nothing else refers.
    unsafe {
        libc::dl_iterate_phdr(Some(add_segments), (&raw mut segments).cast());
    }
    let mut unmapped = 0;
    for segment in segments {
        // SAFETY: a segment that is not writable has the content of the file and nothing else, and a page of it that is used after this
        // is read from there again. The linker refuses relocations in such segments (`-z text`).
        let result =
            unsafe { libc::madvise(segment.start as *mut libc::c_void, segment.len(), libc::MADV_DONTNEED) };
        // Without it they stay in memory.
        if result == 0 {
            unmapped += segment.len();
        }
    }
    unmapped
}

/// Adds the read-only segments of the first object, which is the program, to a vector of ranges, as whole pages. Libraries are shared
/// with other processes.
///
/// # Safety
///
/// `info` describes a loaded object, and `segments` points to a vector to which nothing else refers.
unsafe extern "C" fn add_segments(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    segments: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the caller's promises. The headers are a table of this length, which lives as long as the object is loaded.
    let (base, headers, segments) = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
        (info.dlpi_addr, headers, &mut *segments.cast::<Vec<Range<usize>>>())
    };
    // SAFETY: it takes a number and reads a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let Some(page) = usize::try_from(page).ok().filter(|page| page.is_power_of_two()) else { return 1 };
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD) {
        if header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let begin = base.wrapping_add(header.p_vaddr);
        let range = (usize::try_from(begin), usize::try_from(begin.wrapping_add(header.p_memsz)));
        if let (Ok(begin), Ok(end)) = range {
            segments.push(begin & !(page - 1)..end.next_multiple_of(page));
        }
    }
    // Ends the iteration.
    1
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Returns the resident kilobytes of this program's read-only mappings.
    fn resident() -> u64 {
        let smaps = fs::read_to_string("/proc/self/smaps").expect("our own memory can be read");
        let program = std::env::current_exe().expect("it has a path");
        let program = program.to_str().expect("it is text");
        let (mut is_ours, mut resident) = (false, 0);
        for line in smaps.lines() {
            if let Some((_, permissions)) = line.split_once(' ').filter(|(range, _)| range.contains('-')) {
                is_ours = line.ends_with(program) && permissions.starts_with("r-");
            } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| is_ours) {
                let size = size.trim().strip_suffix(" kB").expect("a size");
                resident += size.parse::<u64>().expect("a number");
            }
        }
        resident
    }

    #[test]
    fn code_that_is_not_used_is_not_resident_and_comes_back_when_it_is() {
        let text = format!("{:?}", fs::metadata("/").expect("it is there"));
        let before = resident();
        let unmapped = unmap_code();
        let after = resident();
        assert!(unmapped > 1 << 20, "{unmapped} bytes");
        // Other tests run at the same time.
        assert!(after + 4096 < before, "{before} kB before, {after} kB after");
        assert_eq!(format!("{:?}", fs::metadata("/").expect("it is there")).len(), text.len());
    }
}
