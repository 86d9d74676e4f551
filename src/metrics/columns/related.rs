//! What other tables know of an object: its links, programs, holders and pins. Entry points: [`Related`], and [`RelatedIndex`] to
//! share what it finds.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use crate::model::{HeldBy, Kind, Object, Program, Snapshot};

/// Looks into the other tables of a snapshot.
pub(super) struct Related<'a> {
    snapshot: &'a Snapshot,
    index: Arc<RelatedIndex>,
}

/// Which objects of a snapshot refer to each other. Each part is made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct RelatedIndex {
    links: OnceLock<Ids>,
    programs: OnceLock<Ids>,
    /// Positions in the list of pins.
    pins: OnceLock<HashMap<Object, Vec<usize>>>,
    own: OnceLock<HashSet<Object>>,
}

/// Ids of objects by the id of another one.
type Ids = HashMap<u32, Vec<u32>>;

impl<'a> Related<'a> {
    /// `index` is of this snapshot.
    pub(super) const fn new(snapshot: &'a Snapshot, index: Arc<RelatedIndex>) -> Self {
        Self { snapshot, index }
    }

    /// Returns a program.
    pub(super) fn program(&self, id: u32) -> Option<&'a Program> {
        self.snapshot.program(id)
    }

    /// Returns the links of a program; `None` if links could not be read.
    pub(super) fn links_of(&self, program: u32) -> Option<&[u32]> {
        let links = self.snapshot.links.as_deref()?;
        let index = self.index.links.get_or_init(|| {
            grouped(links.iter().filter_map(|link| Some((link.facts.prog_id?, link.facts.id))))
        });
        Some(index.get(&program).map_or(&[], Vec::as_slice))
    }

    /// Returns the programs that use a map; `None` if that could not be read.
    pub(super) fn programs_of(&self, map: u32) -> Option<&[u32]> {
        let programs = self.snapshot.programs.as_deref().filter(|_| self.snapshot.knows_map_uses())?;
        let uses = || {
            let uses = programs.iter().flat_map(|program| {
                let maps = program.facts.map_ids.as_deref().unwrap_or_default();
                maps.iter().map(|&map| (map, program.facts.id))
            });
            grouped(uses)
        };
        Some(self.index.programs.get_or_init(uses).get(&map).map_or(&[], Vec::as_slice))
    }

    /// Returns the processes that hold an object: `bpftrace[812], cilium-agent[99]`; `None` if holders could not be read or there is
    /// none.
    pub(super) fn processes(&self, kind: Kind, id: u32) -> Option<String> {
        let holders = self.snapshot.holders.as_ref()?.of(kind);
        let first = holders.partition_point(|holder| holder.id < id);
        let mut text = String::new();
        for holder in holders[first..].iter().take_while(|holder| holder.id == id) {
            let Some(process) = holder.owner.process.as_ref().filter(|_| holder.held_by == HeldBy::Process)
            else {
                continue;
            };
            let separator = if text.is_empty() { "" } else { ", " };
            let _infallible = write!(text, "{separator}{}[{}]", process.name, process.pid);
        }
        Some(text).filter(|text| !text.is_empty())
    }

    /// Returns the paths at which an object is pinned: `/sys/fs/bpf/a, /sys/fs/bpf/b`; `None` if there is none or pins could not be
    /// read.
    pub(super) fn pins(&self, kind: Kind, id: u32) -> Option<String> {
        let pins = self.snapshot.pins.as_deref()?;
        let index = || {
            let mut index: HashMap<_, Vec<_>> = HashMap::new();
            for (position, pin) in pins.iter().enumerate() {
                index.entry(Object { kind: pin.kind, id: pin.id }).or_default().push(position);
            }
            index
        };
        let positions = self.index.pins.get_or_init(index).get(&Object { kind, id })?;
        Some(positions.iter().map(|&position| &*pins[position].path).collect::<Vec<_>>().join(", "))
    }

    /// Returns the memory that is charged for an object.
    pub(super) fn mem(&self, Object { kind, id }: Object) -> Option<u64> {
        match kind {
            Kind::Program => self.program(id)?.facts.mem,
            Kind::Map => self.snapshot.map(id)?.mem,
            Kind::Link => None,
            Kind::Btf => Some(self.snapshot.btf(id)?.size.into()),
        }
    }

    /// Returns the name and the type of an object; `None` for what has none.
    pub(super) fn name_and_type(&self, Object { kind, id }: Object) -> (Option<&'a str>, Option<String>) {
        match kind {
            Kind::Program => self.program(id).map_or((None, None), |program| {
                (Some(&*program.facts.name), Some(program.facts.program_type.word_or_number().into_owned()))
            }),
            Kind::Map => self.snapshot.map(id).map_or((None, None), |map| {
                (Some(&*map.facts.name), Some(map.facts.map_type.word_or_number().into_owned()))
            }),
            Kind::Link => {
                let link = self.snapshot.link(id);
                (None, link.map(|link| link.facts.link_type.word_or_number().into_owned()))
            }
            Kind::Btf => (self.snapshot.btf(id).and_then(|btf| btf.name.as_deref()), None),
        }
    }

    /// Returns whether an object is the exporter's own: a program that it has loaded, or a link, a map or BTF of one.
    pub(super) fn is_own(&self, object: Object) -> bool {
        let own = || {
            let programs = self.snapshot.own_programs.iter();
            let of_program = |&id: &u32| {
                let facts = self.program(id).map(|program| &program.facts);
                let maps = facts.into_iter().flat_map(|facts| facts.map_ids.as_deref().unwrap_or_default());
                let maps = maps.map(|&id| Object { kind: Kind::Map, id });
                let links = self.links_of(id).unwrap_or_default();
                let links = links.iter().map(|&id| Object { kind: Kind::Link, id });
                let btf = facts.and_then(|facts| facts.btf_id).map(|id| Object { kind: Kind::Btf, id });
                let program = Object { kind: Kind::Program, id };
                std::iter::once(program).chain(maps).chain(links).chain(btf).collect::<Vec<_>>()
            };
            programs.flat_map(of_program).collect()
        };
        self.index.own.get_or_init(own).contains(&object)
    }
}

fn grouped(pairs: impl Iterator<Item = (u32, u32)>) -> Ids {
    let mut index = Ids::new();
    for (key, id) in pairs {
        index.entry(key).or_default().push(id);
    }
    index
}
