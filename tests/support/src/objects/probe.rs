//! Prerequisites of probes: the numbers of perf's probe kinds and of tracepoints, and a function of this process to probe.
//! Entry point: [`probed`].

use super::error::{failed_to, invalid};
use super::mount::Mount;
use std::ffi::CStr;
use std::fmt::Display;
use std::fs;
use std::hint;
use std::io;
use std::path::Path;
use std::str::FromStr;

/// This process's own executable, for probes on [`probed`].
pub(super) const OWN_FILE: &CStr = c"/proc/self/exe";

/// The function that [`super::Link::uprobe`] and [`super::Link::uprobe_multi`] probe: call it to make their programs run.
#[inline(never)]
pub extern "C" fn probed() {
    // A body that no other function has, or the compiler may make the two one.
    hint::black_box("bpf_metrics_exporter::objects::probed");
}

/// A second function to probe.
#[inline(never)]
pub(super) extern "C" fn probed_as_well() {
    hint::black_box("bpf_metrics_exporter::objects::probed_as_well");
}

/// The number of a kind of perf event that is not built in.
pub(super) fn pmu(name: &str) -> io::Result<u32> {
    read_number(Path::new(&format!("/sys/bus/event_source/devices/{name}/type")))
}

/// The number of a scheduler's tracepoint.
pub(super) fn tracepoint(name: &CStr) -> io::Result<u64> {
    let tracefs = Mount::detached(c"tracefs")?;
    let id = format!("events/sched/{}/id", name.to_string_lossy());
    read_number(&tracefs.path().join(id))
}

fn read_number<T: FromStr<Err: Display>>(file: &Path) -> io::Result<T> {
    let read =
        fs::read_to_string(file).map_err(|error| failed_to(format!("read {}", file.display()), error))?;
    read.trim().parse().map_err(|error| invalid(format!("{}: {error}", file.display())))
}

/// Where in this process's executable [`probed`] begins.
pub(super) fn offset_of_probed() -> io::Result<u64> {
    offset_of(probed)
}

/// Where in this process's executable a function begins.
pub(super) fn offset_of(function: extern "C" fn()) -> io::Result<u64> {
    let address = (function as usize) as u64;
    let maps = fs::read_to_string("/proc/self/maps")?;
    maps.lines()
        .find_map(|line| offset_within(line, address))
        .ok_or_else(|| invalid("this process does not map its own code".to_owned()))
}

/// The offset in the mapped file of `address`, if it lies in this line of `/proc/PID/maps`
/// ("55d0c6a00000-55d0c6b00000 r-xp 0001f000 08:01 1234 /path").
fn offset_within(line: &str, address: u64) -> Option<u64> {
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
    let mut columns = line.split_ascii_whitespace();
    let (start, end) = columns.next()?.split_once('-')?;
    let (start, end) = (hexadecimal(start)?, hexadecimal(end)?);
    let offset = hexadecimal(columns.nth(1)?)?;
    (start..end).contains(&address).then(|| address - start + offset)
}
