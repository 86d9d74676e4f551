//! The parts of the screen. Entry point: [`Tab`].

use crate::metrics::columns::TableKind;

/// A part of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// A table.
    Table(TableKind),
    /// What happened.
    Events,
}

impl Tab {
    /// Every tab, in the order of their digits.
    pub const ALL: [Self; 8] = [
        Self::Table(TableKind::Programs),
        Self::Table(TableKind::Maps),
        Self::Table(TableKind::Links),
        Self::Table(TableKind::Owners),
        Self::Table(TableKind::Hooks),
        Self::Table(TableKind::Orphans),
        Self::Table(TableKind::Btfs),
        Self::Events,
    ];

    /// Returns its heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Table(TableKind::Btfs) => "BTF",
            Self::Table(kind) => kind.title(),
            Self::Events => "Events",
        }
    }

    pub(super) fn position(self) -> usize {
        Self::ALL.iter().position(|&tab| tab == self).expect("every tab is in the list")
    }
}
