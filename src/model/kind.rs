//! Kinds of BPF objects, and the identity of one.

use serde::{Deserialize, Serialize};

/// Kind of object: the kernel has a table of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A loaded program.
    Program,
    /// A map.
    Map,
    /// A link.
    Link,
    /// A BTF object.
    Btf,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Self; 4] = [Self::Program, Self::Map, Self::Link, Self::Btf];

    /// Returns the word used in labels and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Map => "map",
            Self::Link => "link",
            Self::Btf => "btf",
        }
    }
}

/// One of the kernel's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its id, unique among the objects of its kind that exist at one time.
    pub id: u32,
}
