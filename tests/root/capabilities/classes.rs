//! Programs of each class, and what bpftool shows of their instructions.

use std::collections::BTreeSet;
use std::io;

use bpf_metrics_exporter::model::{ProgramCapabilities, ProgramCapability, Snapshot};
use test_support::objects::uapi::{map_type, program_type as kind};
use test_support::objects::{Instruction, KernelTypes, Map, Program, every_program_type};
use test_support::{bpftool, readers};

use super::Argument::{self, Context, Number, Stack};
use super::{calling, with, words as words_of};

/// A program, the function of the kernel that it calls as bpftool names it, and its words.
struct Class {
    call: &'static str,
    words: &'static [&'static str],
    program: io::Result<Program>,
}

/// Program type, number of the helper, arguments, name of its function, words in alphabetical order.
type Row = (u32, i32, &'static [Argument<'static>], &'static str, &'static [&'static str]);

const CHANGES: &[&str] = &["change_packet", "drop_packet"];
const REDIRECTS: &[&str] = &["drop_packet", "redirect_packet"];
const READS_BOTH: &[&str] = &["read_kernel_memory", "read_user_memory"];
const READ: &[Argument<'_>] = &[Stack, Number(8), Number(0)];

#[rustfmt::skip]
const HELPERS: &[Row] = &[
    (kind::KPROBE, 36, &[Number(0), Stack, Number(8)], "bpf_probe_write_user", &["write_user_memory"]),
    (kind::KPROBE, 58, &[Context, Number(0)], "bpf_override_return", &["override_return"]),
    (kind::KPROBE, 109, &[Number(0)], "bpf_send_signal", &["send_signal"]),
    (kind::TRACEPOINT, 117, &[Number(0)], "bpf_send_signal_thread", &["send_signal"]),
    (kind::KPROBE, 113, READ, "bpf_probe_read_kernel", &["read_kernel_memory"]),
    (kind::KPROBE, 115, READ, "bpf_probe_read_kernel_str", &["read_kernel_memory"]),
    (kind::KPROBE, 4, READ, "bpf_probe_read_compat", READS_BOTH),
    (kind::KPROBE, 45, READ, "bpf_probe_read_compat_str", READS_BOTH),
    (kind::KPROBE, 112, READ, "bpf_probe_read_user", &["read_user_memory"]),
    (kind::KPROBE, 114, READ, "bpf_probe_read_user_str", &["read_user_memory"]),
    (kind::SYSCALL, 148, READ, "bpf_copy_from_user", &["read_user_memory", "sleepable"]),
    (kind::SYSCALL, 166, &[Number(0), Stack, Number(16)], "bpf_sys_bpf", &["load_bpf", "sleepable"]),
    (kind::SCHED_CLS, 9, &[Context, Number(0), Stack, Number(8), Number(0)], "bpf_skb_store_bytes", CHANGES),
    (kind::SCHED_ACT, 18, &[Context, Number(0), Number(1)], "bpf_skb_vlan_push", CHANGES),
    (kind::CGROUP_SKB, 97, &[Context], "bpf_skb_ecn_set_ce", CHANGES),
    (kind::SK_SKB, 38, &[Context, Number(64), Number(0)], "sk_skb_change_tail", CHANGES),
    (kind::SK_MSG, 90, &[Context, Number(0), Number(8), Number(0)], "bpf_msg_push_data", CHANGES),
    (kind::LWT_IN, 73, &[Context, Number(0), Stack, Number(16)], "bpf_lwt_in_push_encap", CHANGES),
    (kind::XDP, 44, &[Context, Number(0)], "bpf_xdp_adjust_head", CHANGES),
    (kind::XDP, 65, &[Context, Number(0)], "bpf_xdp_adjust_tail", CHANGES),
    (kind::XDP, 190, &[Context, Number(0), Stack, Number(8)], "bpf_xdp_store_bytes", CHANGES),
    (kind::SCHED_CLS, 23, &[Number(1), Number(0)], "bpf_redirect", REDIRECTS),
    (kind::SCHED_CLS, 155, &[Number(1), Number(0)], "bpf_redirect_peer", REDIRECTS),
    (kind::SCHED_CLS, 152, &[Number(1), Number(0), Number(0), Number(0)], "bpf_redirect_neigh", REDIRECTS),
    (kind::SCHED_CLS, 13, &[Context, Number(1), Number(0)], "bpf_clone_redirect", REDIRECTS),
    (kind::XDP, 23, &[Number(1), Number(0)], "bpf_xdp_redirect", REDIRECTS),
    // What is none of this: the number of the process.
    (kind::KPROBE, 14, &[], "bpf_get_current_pid_tgid", &[]),
];

/// Calls that some kernels refuse to every program, and how: where the kernel is locked down, where it is built without
/// `CONFIG_BPF_KPROBE_OVERRIDE`, and where no program may be at hooks of security modules.
const REFUSABLE: [(&str, &str); 3] = [
    ("bpf_probe_write_user", "cannot use helper"),
    ("bpf_override_return", "cannot use helper"),
    (NO_CALL, "Operation not permitted"),
];

/// In place of a name.
const NO_CALL: &str = "";

/// Type of a map, of a program, number of the helper, whether it takes the context first, name of its function.
#[rustfmt::skip]
const OF_MAPS: &[(u32, u32, i32, bool, &str)] = &[
    (map_type::DEVMAP, kind::XDP, 51, false, "dev_map_redirect"),
    (map_type::DEVMAP_HASH, kind::XDP, 51, false, "dev_hash_map_redirect"),
    (map_type::CPUMAP, kind::XDP, 51, false, "cpu_map_redirect"),
    (map_type::XSKMAP, kind::XDP, 51, false, "xsk_map_redirect"),
    (map_type::SOCKMAP, kind::SK_SKB, 52, true, "bpf_sk_redirect_map"),
    (map_type::SOCKMAP, kind::SK_MSG, 60, true, "bpf_msg_redirect_map"),
];

fn classes() -> Vec<Class> {
    let helpers = HELPERS.iter().map(|&(kind, helper, arguments, call, words)| Class {
        call,
        words,
        program: calling(kind, helper, arguments),
    });
    let of_maps = OF_MAPS.iter().map(|&(map, kind, helper, takes_context, call)| {
        let make = || {
            let map = Map::ready(map, "redirects")?;
            let arguments = [Context, Argument::Map(&map), Number(0), Number(0)];
            calling(kind, helper, &arguments[usize::from(!takes_context)..])
        };
        Class { call, words: REDIRECTS, program: make() }
    });
    let direct = Class { call: "bpf_skb_pull_data", words: CHANGES, program: writes_directly() };
    let tail_call =
        Class { call: "bpf_tail_call", words: &["drop_packet", "tail_call"], program: calls_another() };
    let lsm = Class { call: NO_CALL, words: &["lsm"], program: Program::ready(kind::LSM, "capable") };
    helpers.chain(of_maps).chain([direct, tail_call, lsm]).collect()
}

/// Loads a program that writes to the first byte of packets without a helper.
fn writes_directly() -> io::Result<Program> {
    // `struct __sk_buff`.
    const DATA: i16 = 76;
    const DATA_END: i16 = 80;
    let instructions = vec![
        Instruction::load_half(2, 1, DATA),
        Instruction::load_half(3, 1, DATA_END),
        Instruction::copy(4, 2),
        Instruction::add(4, 14),
        Instruction::skip_if_above(4, 3, 1),
        Instruction::store_byte(2, 0, 7),
    ];
    with(kind::SCHED_CLS, instructions)
}

fn calls_another() -> io::Result<Program> {
    let others = Map::ready(map_type::PROG_ARRAY, "others")?;
    calling(kind::SOCKET_FILTER, 12, &[Context, Argument::Map(&others), Number(0)])
}

/// Returns the names of the functions that a program calls, by the instructions that bpftool shows: of the kernel's and not its own.
fn shown(id: u32) -> BTreeSet<String> {
    let dump = bpftool::query(&["prog", "dump", "xlated", "id", &id.to_string()]);
    let lines = dump.as_array().expect("a list of instructions").iter();
    let lines = lines.map(|line| line["disasm"].as_str().expect("an instruction is text"));
    let calls = lines.filter_map(|line| line.split_once("call ")?.1.split_once('#')).map(|(name, _)| name);
    // `pc+5` is a function of the program.
    calls.filter(|name| !name.starts_with("pc")).map(str::to_owned).collect()
}

pub(crate) fn words() {
    let classes = classes();
    let snapshot = readers::best().read();
    let (mut made, mut refused) = (BTreeSet::<&str>::new(), Vec::<&str>::new());
    for Class { call, words, program } in &classes {
        let program = match program {
            Ok(program) => program,
            Err(error) => {
                let message = error.to_string();
                let is_refused = REFUSABLE.iter().any(|(of, how)| of == call && message.contains(how));
                assert!(is_refused, "a program that calls {call}: {error}");
                refused.extend(*words);
                continue;
            }
        };
        let calls = (*call != NO_CALL).then(|| (*call).to_owned());
        assert_eq!(shown(program.id()), calls.into_iter().collect(), "bpftool shows the call");
        assert_eq!(words_of(&snapshot, program.id()).as_deref(), Some(&*owned(words)), "{call}");
        made.extend(*words);
    }
    let all = ProgramCapability::ALL.map(ProgramCapability::as_str).into_iter();
    let missing: Vec<_> = all.filter(|word| !made.contains(word)).collect();
    assert_eq!(missing, refused, "there is a program for each word");
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// Returns what the table says of a program that calls these functions and has this type.
fn by_table(calls: &BTreeSet<String>, program_type: u32) -> Vec<ProgramCapability> {
    let is = |word: &ProgramCapability| {
        let row = word.row();
        row.types.contains(&program_type)
            || row.helpers.iter().chain(row.kfuncs).any(|&name| calls.contains(name))
            || *word == ProgramCapability::TailCall && calls.contains("bpf_tail_call")
    };
    ProgramCapability::ALL.into_iter().filter(is).collect()
}

/// Programs of all types, of all classes, and those of the exporter itself.
pub(crate) fn every_call() {
    let (types, classes) = (every_program_type(), classes());
    let mut reader = readers::best();
    let snapshot = reader.read();
    let of_types = types.iter().filter_map(|(_, program)| program.as_ref().ok());
    let of_classes = classes.iter().filter_map(|class| class.program.as_ref().ok());
    let ids = of_types.chain(of_classes).map(Program::id).chain(own_programs(&snapshot));
    let mut compared = 0;
    for id in ids {
        let program = readers::program(&snapshot, id);
        let shown = shown(id);
        let mut expected = by_table(&shown, program.facts.program_type.number);
        // The verifier's prologue of a program that writes to packets directly is the only use of this function here.
        if shown.contains("bpf_skb_pull_data") {
            expected.push(ProgramCapability::ChangePacket);
            expected.sort();
        }
        let found = program.capabilities.as_ref().expect("root may know it");
        assert_eq!(found.words, expected, "{}: {shown:?}", program.facts.name);
        compared += 1;
    }
    assert!(compared > 40, "{compared} programs");
}

/// Returns programs of this process's iterators.
fn own_programs(snapshot: &Snapshot) -> Vec<u32> {
    let programs = snapshot.programs.iter().flatten();
    let own = programs.filter(|program| program.facts.name.starts_with("bpf_metrics_exporter_"));
    own.map(|program| program.facts.id).collect()
}

/// Names, and the most that are kept of a program: functions of the kernel that take no arguments.
pub(crate) fn kfuncs() {
    let types = KernelTypes::read().expect("this kernel describes its types");
    let id = |name| types.function(name).expect("it has the function");
    let pair = ["bpf_rcu_read_lock", "bpf_rcu_read_unlock"].map(|name| Instruction::call_kfunc(id(name)));
    let locks = with(kind::TRACING, pair.to_vec()).expect("programs may lock since 6.2");
    let mut signals = Vec::new();
    if let Ok(signal) = types.function("bpf_send_signal_task") {
        const GET_CURRENT_TASK_BTF: i32 = 158;
        let mut instructions = vec![Instruction::call_helper(GET_CURRENT_TASK_BTF), Instruction::copy(1, 0)];
        instructions.extend([2, 3, 4].map(|register| Instruction::mov(register, 0)));
        instructions.push(Instruction::call_kfunc(signal));
        signals.push(with(kind::TRACING, instructions).expect("it may send signals"));
    }
    let snapshot = readers::best().read();
    let expected = ["kfunc:bpf_rcu_read_lock", "kfunc:bpf_rcu_read_unlock"];
    assert_eq!(words_of(&snapshot, locks.id()).as_deref(), Some(&*owned(&expected)));
    for program in &signals {
        let expected = owned(&["kfunc:bpf_send_signal_task", "send_signal"]);
        assert_eq!(words_of(&snapshot, program.id()), Some(expected));
    }
    for program in signals.iter().chain([&locks]) {
        let found =
            readers::program(&snapshot, program.id()).capabilities.as_ref().expect("root may know it");
        let names: BTreeSet<_> = found.kfuncs.iter().cloned().collect();
        let shown = shown(program.id());
        assert!(names.is_subset(&shown), "bpftool shows {shown:?}");
        assert!(found.kfuncs.len() <= ProgramCapabilities::MAX_KFUNCS);
    }
}
