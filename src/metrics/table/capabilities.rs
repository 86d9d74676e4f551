//! Metrics of what programs can do, and of how they describe themselves.

use std::sync::Arc;

use super::owners::key_labels;
use crate::metrics::Birth::Observed;
use crate::metrics::Carries::{Info, Key};
use crate::metrics::LabelValue::{Kfunc, Number, Text};
use crate::metrics::MetricKind::Gauge;
use crate::metrics::Unit::{self, Each};
use crate::metrics::Value::{self, Int};
use crate::metrics::{Entity, Label, Metric, Series};
use crate::model::{
    BootTime, Kind, MetadataVariable, Object, Owner, OwnerTotal, Part, Program, ProgramCapabilities,
    ProgramCapability, ProgramCapabilityName, Snapshot, hash,
};

/// Something that a program can do.
#[derive(Clone, Debug)]
pub struct CapableProgram {
    prog_id: u32,
    capabilities: Arc<ProgramCapabilities>,
    /// Which of them.
    index: usize,
}

impl CapableProgram {
    fn name(&self) -> Option<ProgramCapabilityName<'_>> {
        self.capabilities.name(self.index)
    }
}

/// What programs can do.
pub static PROGRAM_CAPABILITY: Entity<CapableProgram> = Entity {
    title: "Programs, what they can do",
    part: Some(Part::Program),
    key: &[
        Label { name: "id", help: "the program's id", read: |c| Some(Number(c.prog_id)) },
        Label {
            name: "capability",
            help: "a word of [security.md](security.md), or `kfunc:NAME` for a kfunc that it calls",
            read: |c| match c.name()? {
                ProgramCapabilityName::Word(word) => Some(Text(word.as_str())),
                ProgramCapabilityName::Kfunc(name) => Some(Kfunc(name)),
            },
        },
    ],
    info: &[],
    metrics: &[Metric {
        name: "bpf_program_capability_info",
        kind: Gauge,
        unit: Unit::None,
        help: "Something that the program can do by its instructions and its type, whether or not it ever does; always 1; absent where \
               the kernel does not show which functions it calls.",
        source: "`bpf_prog_info.xlated_prog_insns`, `/proc/kallsyms`",
        since: "4.15",
        carries: Info,
        read: |_| Some(Int(1)),
    }],
    object: Some(|c| Object { kind: Kind::Program, id: c.prog_id }),
    series: |c| Series::fixed(hash((c.prog_id, c.name())), None),
};

/// Returns everything that programs can do.
pub(super) fn of_programs(snapshot: &Snapshot) -> Option<Vec<CapableProgram>> {
    let of_program = |program: &Program| {
        let (prog_id, capabilities) = (program.facts.id, program.capabilities.clone());
        let count = capabilities.as_ref().map_or(0, |all| all.words.len() + all.kfuncs.len());
        let row = move |(index, capabilities)| CapableProgram { prog_id, capabilities, index };
        (0..count).zip(std::iter::repeat_n(capabilities, count).flatten()).map(row)
    };
    Some(snapshot.programs.as_ref()?.iter().flat_map(of_program).collect())
}

/// A variable of a program.
#[derive(Clone, Debug)]
pub struct ProgramMetadata {
    prog_id: u32,
    variables: Arc<[MetadataVariable]>,
    /// Which of them.
    index: usize,
}

impl ProgramMetadata {
    fn variable(&self) -> &MetadataVariable {
        &self.variables[self.index]
    }
}

/// Metadata of programs.
pub static PROGRAM_METADATA: Entity<ProgramMetadata> = Entity {
    title: "Programs, metadata",
    part: Some(Part::Program),
    key: &[
        Label { name: "id", help: "the program's id", read: |m| Some(Number(m.prog_id)) },
        Label {
            name: "key",
            help: "the name of the variable without `bpf_metadata_`, 128 characters at most",
            read: |m| Some(Text(&m.variable().key)),
        },
        Label {
            name: "value",
            help: "its value: a text of 128 characters at most, a number, `true` or `false`",
            read: |m| Some(Text(&m.variable().value)),
        },
    ],
    info: &[],
    metrics: &[Metric {
        name: "bpf_program_metadata_info",
        kind: Gauge,
        unit: Unit::None,
        help: "A constant `bpf_metadata_*` in the program's `.rodata`, as bpftool prints it, of which a program has 16 at most; always 1.",
        source: "the program's frozen array, BTF",
        since: "5.2",
        carries: Info,
        read: |_| Some(Int(1)),
    }],
    object: Some(|m| Object { kind: Kind::Program, id: m.prog_id }),
    series: |m| Series::fixed(hash((m.prog_id, m.variable())), None),
};

/// Returns the metadata of all programs.
pub(super) fn metadata(snapshot: &Snapshot) -> Option<Vec<ProgramMetadata>> {
    let of_program = |program: &Program| {
        let (prog_id, variables) = (program.facts.id, program.metadata.clone());
        let count = variables.as_ref().map_or(0, |all| all.len());
        let row = move |(index, variables)| ProgramMetadata { prog_id, variables, index };
        (0..count).zip(std::iter::repeat_n(variables, count).flatten()).map(row)
    };
    Some(snapshot.programs.as_ref()?.iter().flat_map(of_program).collect())
}

/// The programs of an owner that can do the same.
#[derive(Clone, Debug)]
pub struct OwnerCapability {
    owner: Arc<Owner>,
    since: BootTime,
    capability: ProgramCapability,
    programs: u64,
}

/// What the programs of owners can do.
pub static OWNER_CAPABILITY: Entity<OwnerCapability> = Entity {
    title: "Owners, what their programs can do",
    part: Some(Part::Cgroup),
    key: key_labels![
        Label {
            name: "capability",
            help: "a word of [security.md](security.md)",
            read: |c| Some(Text(c.capability.as_str())),
        },
        ; |c| c.owner
    ],
    info: &[],
    metrics: &[Metric {
        name: "bpf_owner_capable_programs",
        kind: Gauge,
        unit: Each("{object}"),
        help: "Programs of this owner that can do this; absent where none can, and unless it is known of each of its programs.",
        source: "as `bpf_program_capability_info`",
        since: "4.15",
        carries: Key,
        read: |c| Some(Value::count(c.programs)),
    }],
    object: None,
    series: |c| Series {
        id: hash((c.owner.key(), c.capability)),
        birth: Some(Observed(c.since)),
        revision: c.owner.revision(),
    },
};

/// Returns what the programs of each owner can do.
pub(super) fn of_owners(snapshot: &Snapshot) -> Vec<OwnerCapability> {
    let of_owner = |total: &OwnerTotal| {
        let (owner, since) = (Arc::clone(&total.owner), total.since);
        let row = move |(&capability, &programs): (&_, &_)| OwnerCapability {
            owner: Arc::clone(&owner),
            since,
            capability,
            programs,
        };
        total.capable.iter().flatten().map(row).collect::<Vec<_>>()
    };
    snapshot.owners.iter().flat_map(of_owner).collect()
}
