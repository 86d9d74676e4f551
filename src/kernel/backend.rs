//! By which road each table is read, and why. Begin at [`Backend::choose`].

use super::ReaderChoice;
use crate::model::{Kind, ReaderKind};
use crate::sys::Error;

/// By which road a table is read, and what each needs for it.
#[derive(Debug)]
pub(crate) enum Backend<I, W> {
    /// By an iterator.
    Iter(I),
    /// By ids.
    Walk(W),
    /// Not at all: only an iterator was wanted, and there is none.
    Closed(Refusal),
}

/// Why a table cannot be read by an iterator.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// The call that failed.
    pub(crate) error: Error,
    /// The reason in words.
    pub(crate) text: String,
}

impl Refusal {
    /// Explains a failed call in words.
    pub(crate) fn new(error: Error, why: impl Into<String>) -> Self {
        Self { error, text: why.into() }
    }
}

/// What was chosen for a table.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The table.
    pub kind: Kind,
    /// How it is read; `None` when it cannot be in the way that was asked for.
    pub reader: Option<ReaderKind>,
    /// Why not by an iterator, where that was tried.
    pub reason: Option<String>,
}

impl<I, W: Default> Backend<I, W> {
    /// Chooses for a table; `iterator` is missing where none was to be tried. Notes the choice.
    pub(crate) fn choose(
        kind: Kind,
        wanted: ReaderChoice,
        iterator: Option<Result<I, Refusal>>,
        choices: &mut Vec<Choice>,
    ) -> Self {
        let road = match iterator {
            Some(Ok(iterator)) => Self::Iter(iterator),
            Some(Err(refusal)) if wanted == ReaderChoice::Only(ReaderKind::Iter) => {
                choices.push(Choice { kind, reader: None, reason: Some(refusal.text.clone()) });
                return Self::Closed(refusal);
            }
            Some(Err(refusal)) => {
                choices.push(Choice { kind, reader: Some(ReaderKind::Walk), reason: Some(refusal.text) });
                return Self::Walk(W::default());
            }
            None => Self::Walk(W::default()),
        };
        choices.push(Choice { kind, reader: Some(road.reader()), reason: None });
        road
    }

    pub(crate) fn reader(&self) -> ReaderKind {
        match self {
            Self::Iter(_) | Self::Closed(_) => ReaderKind::Iter,
            Self::Walk(_) => ReaderKind::Walk,
        }
    }
}

/// The choices in words, without the reasons: `programs and maps by BPF iterators, links and BTF objects by id`.
#[must_use]
pub fn in_words(choices: &[Choice]) -> String {
    let roads = [
        (Some(ReaderKind::Iter), "by BPF iterators"),
        (Some(ReaderKind::Walk), "by id"),
        (None, "not at all"),
    ];
    let phrase = |(reader, how): (Option<ReaderKind>, &str)| {
        let kinds: Vec<_> = choices
            .iter()
            .filter(|choice| choice.reader == reader)
            .map(|choice| plural(choice.kind))
            .collect();
        let (last, others) = kinds.split_last()?;
        let kinds =
            if others.is_empty() { (*last).to_owned() } else { format!("{} and {last}", others.join(", ")) };
        Some(format!("{kinds} {how}"))
    };
    roads.into_iter().filter_map(phrase).collect::<Vec<_>>().join(", ")
}

/// What is called by this name, several of them.
fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Program => "programs",
        Kind::Map => "maps",
        Kind::Link => "links",
        Kind::Btf => "BTF objects",
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    fn choices(iterators: [bool; 3], wanted: ReaderChoice) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (kind, loads) in [Kind::Program, Kind::Map, Kind::Link].into_iter().zip(iterators) {
            let refusal = Refusal::new(Error::new("BPF_PROG_LOAD", Errno::EINVAL), "old");
            let iterator = if loads { Ok(()) } else { Err(refusal) };
            let tried = (wanted != ReaderChoice::Only(ReaderKind::Walk)).then_some(iterator);
            let road: Backend<(), ()> = Backend::choose(kind, wanted, tried, &mut choices);
            assert_eq!(
                matches!(road, Backend::Iter(())),
                loads && wanted != ReaderChoice::Only(ReaderKind::Walk)
            );
        }
        choices.push(Choice { kind: Kind::Btf, reader: Some(ReaderKind::Walk), reason: None });
        choices
    }

    #[test]
    fn each_table_has_its_road_and_the_words_say_so() {
        let auto = choices([true, true, true], ReaderChoice::Auto);
        assert_eq!(in_words(&auto), "programs, maps and links by BPF iterators, BTF objects by id");
        let old = choices([false, true, false], ReaderChoice::Auto);
        assert_eq!(in_words(&old), "maps by BPF iterators, programs, links and BTF objects by id");
        assert_eq!(old[0].reason.as_deref(), Some("old"));
        let walk = choices([true, true, true], ReaderChoice::Only(ReaderKind::Walk));
        assert_eq!(in_words(&walk), "programs, maps, links and BTF objects by id");
        let iter = choices([true, true, false], ReaderChoice::Only(ReaderKind::Iter));
        assert_eq!(
            in_words(&iter),
            "programs and maps by BPF iterators, BTF objects by id, links not at all"
        );
    }
}
