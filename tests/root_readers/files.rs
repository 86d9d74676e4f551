//! The iterator over files, which no reader loads yet: that it knows who holds what, once it has learnt from files of our own
//! what a BPF object's file is.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use aya::maps::Array;
use aya::programs::Iter;
use aya::{Btf as KernelTypes, EbpfLoader};

use super::objects::{self, Link, Map, Program, Types, uapi, wait_until};
use super::running::Running;

const SOON: Duration = Duration::from_secs(20);

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/collector.bpf.o");

/// `struct request` of `bpf/records.h` as words: whose files are all told, and the operations of the kinds.
type Request = [u64; 7];
const OWN_PID: usize = 2;
const OPERATIONS: usize = 3;

/// `struct file_record`, without the start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    pid: u32,
    fd: u32,
    kind: u32,
    id: u32,
    operations: u64,
}

/// `FILE_OWN`.
const UNKNOWN_KIND: u32 = 4;

fn records(program: &mut Iter) -> BTreeSet<Record> {
    let link = program.attach().and_then(|id| program.take_link(id)).expect("it can be linked");
    let mut bytes = Vec::new();
    link.into_file().expect("it can be opened").read_to_end(&mut bytes).expect("it can be read");
    let (records, rest) = bytes.as_chunks::<32>();
    assert!(rest.is_empty(), "records are whole");
    let word =
        |record: &[u8; 32], at: usize| u32::from_ne_bytes(record[at..at + 4].try_into().expect("four bytes"));
    let record = |bytes: &[u8; 32]| Record {
        pid: word(bytes, 0),
        fd: word(bytes, 4),
        kind: word(bytes, 8),
        id: word(bytes, 12),
        operations: u64::from_ne_bytes(bytes[24..].try_into().expect("eight bytes")),
    };
    records.iter().map(record).collect()
}

pub(crate) fn holders() {
    let types = KernelTypes::from_sys_fs().expect("the kernel describes its types");
    let mut loader = EbpfLoader::new();
    let mut object = loader
        .btf(Some(&types))
        .map_max_entries("bpfmetrics_cpus", 1)
        .load(OBJECT)
        .expect("its maps can be made");
    let file: &mut Iter = object
        .program_mut("bpf_metrics_exporter_file")
        .and_then(|program| program.try_into().ok())
        .expect("an iterator");
    if file.load("task_file", &types).is_err() {
        assert!(super::readers::version() < (5, 19), "there has to be an iterator");
        return;
    }

    let program = Program::ready(uapi::program_type::SOCKET_FILTER, "held").expect("it can be loaded");
    let map = Map::ready(uapi::map_type::ARRAY, "held").expect("it can be made");
    let link = Link::cgroup().expect("it can be made");
    let mut own_types = Types::default();
    own_types.integer("int", 4);
    let btf = objects::Btf::load(&own_types).expect("it can be loaded");
    let held: [(BorrowedFd<'_>, u32); 4] =
        [(program.fd(), program.id()), (map.fd(), map.id()), (link.fd(), link.id()), (btf.fd(), btf.id())];

    let mut ask = |request: Request| -> BTreeSet<Record> {
        let map = object.map_mut("bpfmetrics_ask").expect("it has this map");
        Array::<_, Request>::try_from(map)
            .expect("it is an array")
            .set(0, request, 0)
            .expect("it can be set");
        let file = object.program_mut("bpf_metrics_exporter_file").expect("an iterator");
        records(file.try_into().expect("an iterator"))
    };
    let own = std::process::id();
    let mut request = Request::default();
    request[OWN_PID] = own.into();
    let files = ask(request);
    assert!(files.iter().all(|file| file.pid == own && file.kind == UNKNOWN_KIND), "only our own are told");
    for (kind, (fd, _)) in held.iter().enumerate() {
        let fd = fd.as_raw_fd().cast_unsigned();
        let file = files.iter().find(|file| file.fd == fd).expect("our file is told");
        request[OPERATIONS + kind] = file.operations;
    }

    // Another process that holds a map, as its standard input.
    let stdin = Stdio::from(map.fd().try_clone_to_owned().expect("there is a descriptor left"));
    let other = Running(Command::new("sleep").arg("60").stdin(stdin).spawn().expect("it starts"));
    request[OWN_PID] = 0;
    let holds = |files: &BTreeSet<Record>, pid: u32, kind: u32, id: u32| {
        files.iter().filter(|file| (file.pid, file.kind, file.id) == (pid, kind, id)).count()
    };
    let mut files = BTreeSet::new();
    // A process that begins has all our descriptors for a moment.
    wait_until("the other one holds the map once", SOON, || {
        files = ask(request);
        Ok(holds(&files, other.0.id(), 1, map.id()) == 1)
    })
    .expect("it does");
    for (kind, (_, id)) in (0..).zip(held) {
        assert!(holds(&files, own, kind, id) >= 1, "we hold kind {kind} id {id}: {files:?}");
    }
    assert!(files.iter().all(|file| file.kind != UNKNOWN_KIND), "nothing else is told");
}
