//! Entry points of a fuzzer for the streams of iterators, and for the object that has them.

use std::path::Path;

use super::files::FileStream;
use super::known::PassRecords;
use super::links::LinkParser;
pub(crate) use super::load::fuzz as object;
use super::maps::MapParser;
use super::programs::ProgramParser;
use super::records::{MapCounters, ProgramCounters};
use crate::kernel::targets::resolver::Resolver;
use crate::model::BootTime;

pub(crate) fn programs(bytes: &[u8]) {
    let mut parser = ProgramParser::new(&[], 4096);
    assert!(parser.take(bytes) <= bytes.len());
    let mut records = PassRecords::default();
    assert!(records.take(bytes, |counters: &ProgramCounters| parser.add_known(counters)) <= bytes.len());
}

pub(crate) fn maps(bytes: &[u8]) {
    let mut parser = MapParser::new(&[], BootTime::default());
    assert!(parser.take(bytes) <= bytes.len());
    let mut records = PassRecords::default();
    assert!(records.take(bytes, |counters: &MapCounters| parser.add_known(counters)) <= bytes.len());
}

pub(crate) fn links(bytes: &[u8]) {
    let mut resolver = Resolver::below(Path::new("/nowhere"));
    assert!(LinkParser::new(Vec::new(), BootTime::default(), &mut resolver).take(bytes) <= bytes.len());
}

pub(crate) fn files(bytes: &[u8]) {
    assert!(FileStream::default().take(bytes, |_, _| {}) <= bytes.len());
}
