//! What a loaded program can do, as words. One table for the code, the labels and `docs/security.md`.
//! Entry points: [`ProgramCapability`], [`ProgramCapabilities`] and [`markdown`].

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::enums::program_type;

/// Something that a program can do to the host. A program has it if its code contains the call or the instruction, whether or not it
/// is ever reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramCapability {
    /// Writes to the memory of processes.
    WriteUserMemory,
    /// Replaces what functions of the kernel return.
    OverrideReturn,
    /// Sends signals to processes.
    SendSignal,
    /// Reads any memory of the kernel.
    ReadKernelMemory,
    /// Reads the memory of processes.
    ReadUserMemory,
    /// Changes packets.
    ChangePacket,
    /// Sends packets to another interface, CPU or socket.
    RedirectPacket,
    /// Drops packets.
    DropPacket,
    /// Makes BPF objects itself.
    LoadBpf,
    /// May sleep.
    Sleepable,
    /// Decides at a hook of the Linux security modules.
    Lsm,
    /// Calls another program of a map.
    TailCall,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct ProgramCapabilityRow {
    /// The word used in labels.
    pub name: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// The functions of the kernel behind its helpers: as `/proc/kallsyms` has them, which is not always the name of the helper.
    pub helpers: &'static [&'static str],
    /// Its kfuncs.
    pub kfuncs: &'static [&'static str],
    /// The program types that have it, whatever their instructions are.
    pub types: &'static [u32],
    /// Another sign of it in the instructions.
    pub sign: &'static str,
    /// What does the same and is not seen.
    pub not_covered: &'static str,
}

impl ProgramCapability {
    /// Every word.
    pub const ALL: [Self; 12] = [
        Self::WriteUserMemory,
        Self::OverrideReturn,
        Self::SendSignal,
        Self::ReadKernelMemory,
        Self::ReadUserMemory,
        Self::ChangePacket,
        Self::RedirectPacket,
        Self::DropPacket,
        Self::LoadBpf,
        Self::Sleepable,
        Self::Lsm,
        Self::TailCall,
    ];

    /// Returns its row.
    #[must_use]
    pub const fn row(self) -> &'static ProgramCapabilityRow {
        &ROWS[self as usize]
    }

    /// Returns the word used in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().name
    }
}

const NOTHING: ProgramCapabilityRow = ProgramCapabilityRow {
    name: "",
    meaning: "",
    helpers: &[],
    kfuncs: &[],
    types: &[],
    sign: "",
    not_covered: "",
};

/// The words, in the order of [`ProgramCapability::ALL`].
///
/// Helpers have the names of their functions, which changed: `bpf_probe_read` is `bpf_probe_read_compat` since 5.5, and the verifier
/// replaces `bpf_redirect_map` by the function of the map's type since 5.13.
const ROWS: [ProgramCapabilityRow; ProgramCapability::ALL.len()] = [
    ProgramCapabilityRow {
        name: "write_user_memory",
        meaning: "writes to the memory of the process in whose context it runs",
        helpers: &["bpf_probe_write_user"],
        not_covered: "memory that a process shares with the program: maps mapped with mmap(2), arenas, ring buffers",
        ..NOTHING
    },
    ProgramCapabilityRow {
        name: "override_return",
        meaning: "replaces what a function of the kernel returns, without running it",
        helpers: &["bpf_override_return"],
        not_covered: "programs of type `tracing` attached by `fmod_ret`, whose attach type is on their link \
                      (`bpf_link_info{attach_type=\"modify_return\"}`); return values that are the purpose of a type: `lsm`, \
                      `cgroup_*`, `struct_ops`",
        ..NOTHING
    },
    ProgramCapabilityRow {
        name: "send_signal",
        meaning: "sends signals to processes or threads",
        helpers: &["bpf_send_signal", "bpf_send_signal_thread"],
        kfuncs: &["bpf_send_signal_task"],
        ..NOTHING
    },
    ProgramCapabilityRow {
        name: "read_kernel_memory",
        meaning: "reads memory of the kernel at any address",
        helpers: &[
            "bpf_probe_read",
            "bpf_probe_read_str",
            "bpf_probe_read_compat",
            "bpf_probe_read_compat_str",
            "bpf_probe_read_kernel",
            "bpf_probe_read_kernel_str",
            "bpf_snprintf_btf",
            "bpf_seq_printf_btf",
        ],
        kfuncs: &["bpf_probe_read_kernel_dynptr", "bpf_probe_read_kernel_str_dynptr"],
        sign: "sign-extending loads that may fault (`BPF_PROBE_MEMSX`)",
        not_covered: "direct loads through typed pointers (`tracing`, `lsm`, `struct_ops`, `bpf_rdonly_cast`), which the kernel shows \
                      as ordinary loads; values that the context of a program has",
        ..NOTHING
    },
    ProgramCapabilityRow {
        name: "read_user_memory",
        meaning: "reads the memory of processes",
        helpers: &[
            "bpf_probe_read",
            "bpf_probe_read_str",
            "bpf_probe_read_compat",
            "bpf_probe_read_compat_str",
            "bpf_probe_read_user",
            "bpf_probe_read_user_str",
            "bpf_copy_from_user",
            "bpf_copy_from_user_task",
        ],
        kfuncs: &[
            "bpf_copy_from_user_str",
            "bpf_copy_from_user_task_str",
            "bpf_probe_read_user_dynptr",
            "bpf_probe_read_user_str_dynptr",
            "bpf_copy_from_user_dynptr",
            "bpf_copy_from_user_str_dynptr",
            "bpf_copy_from_user_task_dynptr",
            "bpf_copy_from_user_task_str_dynptr",
        ],
        ..NOTHING
    },
    ProgramCapabilityRow {
        name: "change_packet",
        meaning: "changes the content, the length or the metadata of packets",
        helpers: &[
            "bpf_skb_store_bytes",
            "bpf_l3_csum_replace",
            "bpf_l4_csum_replace",
            "bpf_skb_change_proto",
            "bpf_skb_change_type",
            "bpf_skb_change_tail",
            "bpf_skb_change_head",
            "bpf_skb_adjust_room",
            "sk_skb_change_tail",
            "sk_skb_change_head",
            "sk_skb_adjust_room",
            "bpf_skb_vlan_push",
            "bpf_skb_vlan_pop",
            "bpf_skb_ecn_set_ce",
            "bpf_xdp_adjust_head",
            "bpf_xdp_adjust_tail",
            "bpf_xdp_adjust_meta",
            "bpf_xdp_store_bytes",
            "bpf_msg_push_data",
            "bpf_msg_pop_data",
            "bpf_lwt_in_push_encap",
            "bpf_lwt_xmit_push_encap",
            "bpf_lwt_seg6_store_bytes",
            "bpf_lwt_seg6_adjust_srh",
            "bpf_lwt_seg6_action",
            "bpf_sock_ops_store_hdr_opt",
        ],
        kfuncs: &["bpf_dynptr_slice_rdwr"],
        sign: "the prologue of programs that write to the packet directly (`sched_cls`, `sched_act`, `lwt_xmit`, `sk_skb`), unless \
               `net.core.bpf_jit_harden` rewrites it",
        not_covered: "direct writes in other types, above all `xdp` and `sk_msg`; writes by `bpf_dynptr_write`; fields of the context \
                      such as `skb->mark`",
        ..NOTHING
    },
    ProgramCapabilityRow {
        name: "redirect_packet",
        meaning: "sends packets to another interface, CPU or socket",
        helpers: &[
            "bpf_redirect",
            "bpf_redirect_peer",
            "bpf_redirect_neigh",
            "bpf_clone_redirect",
            "bpf_xdp_redirect",
            "bpf_xdp_redirect_map",
            "dev_map_redirect",
            "dev_hash_map_redirect",
            "cpu_map_redirect",
            "xsk_map_redirect",
            "bpf_sk_redirect_map",
            "bpf_sk_redirect_hash",
            "bpf_msg_redirect_map",
            "bpf_msg_redirect_hash",
            "bpf_sk_assign",
            "bpf_sk_lookup_assign",
        ],
        not_covered: "return values that send a packet back or elsewhere without a helper: `XDP_TX`, `BPF_LWT_REROUTE`",
        ..NOTHING
    },
    ProgramCapabilityRow {
        name: "drop_packet",
        meaning: "can drop packets by what it returns",
        kfuncs: &["bpf_qdisc_skb_drop"],
        types: &[
            program_type::SOCKET_FILTER,
            program_type::SCHED_CLS,
            program_type::SCHED_ACT,
            program_type::XDP,
            program_type::CGROUP_SKB,
            program_type::LWT_IN,
            program_type::LWT_OUT,
            program_type::LWT_XMIT,
            program_type::LWT_SEG6LOCAL,
            program_type::SK_SKB,
            program_type::SK_MSG,
            program_type::SK_REUSEPORT,
            program_type::SK_LOOKUP,
            program_type::NETFILTER,
        ],
        not_covered: "extensions (`ext`) of such programs; types that refuse connections or system calls rather than packets",
        ..NOTHING
    },
    ProgramCapabilityRow {
        name: "load_bpf",
        meaning: "calls bpf(2) from within the kernel: makes maps, loads and attaches programs",
        helpers: &["bpf_sys_bpf"],
        ..NOTHING
    },
    ProgramCapabilityRow {
        name: "sleepable",
        meaning: "may sleep, so that it can also wait for memory of processes to be paged in",
        helpers: &[
            "bpf_copy_from_user",
            "bpf_copy_from_user_task",
            "bpf_ima_inode_hash",
            "bpf_ima_file_hash",
            "bpf_sys_bpf",
        ],
        kfuncs: &[
            "bpf_copy_from_user_str",
            "bpf_copy_from_user_task_str",
            "bpf_copy_from_user_dynptr",
            "bpf_copy_from_user_str_dynptr",
            "bpf_copy_from_user_task_dynptr",
            "bpf_copy_from_user_task_str_dynptr",
        ],
        types: &[program_type::SYSCALL],
        not_covered: "programs loaded with `BPF_F_SLEEPABLE` that call nothing of this: `bpf_prog_info` does not have the flag",
        ..NOTHING
    },
    ProgramCapabilityRow {
        name: "lsm",
        meaning: "decides at a hook of the Linux security modules, of the host or of a cgroup",
        types: &[program_type::LSM],
        ..NOTHING
    },
    ProgramCapabilityRow {
        name: "tail_call",
        meaning: "continues in a program of a map, with that program's capabilities",
        sign: "the instruction of `bpf_tail_call`",
        ..NOTHING
    },
];

/// What one program can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProgramCapabilities {
    /// Words in the order of [`ProgramCapability::ALL`].
    pub words: Vec<ProgramCapability>,
    /// Names of the kfuncs it calls, ascending, at most [`Self::MAX_KFUNCS`].
    pub kfuncs: Vec<String>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgramCapabilityName<'a> {
    /// A word.
    Word(ProgramCapability),
    /// A call of a kfunc with this name.
    Kfunc(&'a str),
}

impl ProgramCapabilities {
    /// The most kfuncs that are kept of a program.
    pub const MAX_KFUNCS: usize = 64;

    /// Returns the words and the kfuncs.
    pub fn names(&self) -> impl Iterator<Item = ProgramCapabilityName<'_>> {
        (0..).map_while(|index| self.name(index))
    }

    /// Returns one of the words, or of the kfuncs after them.
    #[must_use]
    pub fn name(&self, index: usize) -> Option<ProgramCapabilityName<'_>> {
        match index.checked_sub(self.words.len()) {
            None => Some(ProgramCapabilityName::Word(self.words[index])),
            Some(index) => self.kfuncs.get(index).map(|name| ProgramCapabilityName::Kfunc(name)),
        }
    }
}

/// A variable of a program that describes it: `bpf_metadata_KEY` in its `.rodata`, a convention of libbpf.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MetadataVariable {
    /// The name without `bpf_metadata_`.
    pub key: String,
    /// The value: a text, a number, `true` or `false`.
    pub value: String,
}

/// Returns the words as a table for the documents.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "| `capability` | the program | known by | not covered |\n\
         |---|---|---|---|\n",
    );
    for capability in ProgramCapability::ALL {
        let ProgramCapabilityRow { name, meaning, helpers, kfuncs, types, sign, not_covered } =
            capability.row();
        let quoted = |head: &str, names: Vec<&str>| {
            let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
            (!names.is_empty()).then(|| format!("{head}{}", names.join(", ")))
        };
        let types = types.iter().filter_map(|&number| program_type::word(number)).collect();
        let sources = [
            quoted("", helpers.to_vec()),
            quoted("kfuncs ", kfuncs.to_vec()),
            quoted("program types ", types),
            (!sign.is_empty()).then(|| (*sign).to_owned()),
        ];
        let sources = sources.into_iter().flatten().collect::<Vec<_>>().join("; ");
        let _infallible = writeln!(text, "| `{name}` | {meaning} | {sources} | {not_covered} |");
    }
    text += "| `kfunc:NAME` | calls a kfunc, a function of the kernel that is no helper | its name; `kfunc:unknown` where the kernel \
             shows none | those beyond the first 64 |\n";
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_word_has_its_own_row_and_a_source() {
        let names: BTreeSet<_> = ProgramCapability::ALL.iter().map(|word| word.as_str()).collect();
        assert_eq!(names.len(), ProgramCapability::ALL.len());
        for (place, word) in ProgramCapability::ALL.into_iter().enumerate() {
            assert_eq!(word as usize, place);
            let json = serde_json::to_value(word).expect("it is a word");
            assert_eq!(json, word.as_str(), "labels and JSON have the same word");
            let row = word.row();
            let functions: BTreeSet<_> = row.helpers.iter().chain(row.kfuncs).collect();
            assert_eq!(functions.len(), row.helpers.len() + row.kfuncs.len(), "{word:?} lists each once");
            assert!(!functions.is_empty() || !row.types.is_empty() || !row.sign.is_empty(), "{word:?}");
            assert!(row.types.iter().all(|&number| program_type::word(number).is_some()), "{word:?}");
        }
    }

    #[test]
    fn words_precede_kfuncs() {
        let capabilities = ProgramCapabilities {
            words: vec![ProgramCapability::DropPacket, ProgramCapability::TailCall],
            kfuncs: vec!["bpf_a".to_owned()],
        };
        let names: Vec<_> = capabilities.names().collect();
        let word = ProgramCapabilityName::Word;
        let expected = [
            word(ProgramCapability::DropPacket),
            word(ProgramCapability::TailCall),
            ProgramCapabilityName::Kfunc("bpf_a"),
        ];
        assert_eq!(names, expected);
    }
}
