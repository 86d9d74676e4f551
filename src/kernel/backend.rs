//! By which road each table is read, and why. Begin at [`Backend::choose`].

use super::ReaderChoice;
use crate::model::{Part, ReaderKind};
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

/// How one part is read.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The part.
    pub part: Part,
    /// How it is read; `None` if the requested backend is not available.
    pub reader: Option<ReaderKind>,
    /// Why not by an iterator, if that was tried.
    pub reason: Option<String>,
}

impl<I, W: Default> Backend<I, W> {
    /// Chooses for a table; `iterator` is missing where none was to be tried. Notes the choice.
    pub(crate) fn choose(
        part: Part,
        wanted: ReaderChoice,
        iterator: Option<Result<I, Refusal>>,
        choices: &mut Vec<Choice>,
    ) -> Self {
        let road = match iterator {
            Some(Ok(iterator)) => Self::Iter(iterator),
            Some(Err(refusal)) if wanted == ReaderChoice::Only(ReaderKind::Iter) => {
                choices.push(Choice { part, reader: None, reason: Some(refusal.text.clone()) });
                return Self::Closed(refusal);
            }
            Some(Err(refusal)) => {
                choices.push(Choice { part, reader: Some(ReaderKind::Walk), reason: Some(refusal.text) });
                return Self::Walk(W::default());
            }
            None => Self::Walk(W::default()),
        };
        choices.push(Choice { part, reader: Some(road.reader()), reason: None });
        road
    }

    pub(crate) fn reader(&self) -> ReaderKind {
        match self {
            Self::Iter(_) | Self::Closed(_) => ReaderKind::Iter,
            Self::Walk(_) => ReaderKind::Walk,
        }
    }
}

/// Describes choices, without the reasons: `programs and maps by BPF iterators, links and BTF objects by id, holders from /proc`.
#[must_use]
pub fn in_words(choices: &[Choice]) -> String {
    let how = |choice: &Choice| match (choice.reader, choice.part) {
        (Some(ReaderKind::Iter), _) => "by BPF iterators",
        (Some(ReaderKind::Walk), Part::Holder) => "from /proc",
        (Some(ReaderKind::Walk), _) => "by id",
        (None, _) => "not at all",
    };
    let phrase = |backend| {
        let parts = choices.iter().filter(|choice| how(choice) == backend);
        let parts: Vec<_> = parts.map(|choice| plural(choice.part)).collect();
        let (last, others) = parts.split_last()?;
        let parts =
            if others.is_empty() { (*last).to_owned() } else { format!("{} and {last}", others.join(", ")) };
        Some(format!("{parts} {backend}"))
    };
    ["by BPF iterators", "by id", "from /proc", "not at all"]
        .into_iter()
        .filter_map(phrase)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Returns the plural of what a part reads.
fn plural(part: Part) -> &'static str {
    match part {
        Part::Program => "programs",
        Part::Map => "maps",
        Part::Link => "links",
        Part::Btf => "BTF objects",
        Part::Holder => "holders",
        Part::Pin => "pins",
        Part::Cgroup => "cgroups",
        Part::Hook => "hooks",
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    fn choices(iterators: [bool; 3], wanted: ReaderChoice) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (part, loads) in [Part::Program, Part::Map, Part::Link].into_iter().zip(iterators) {
            let refusal = Refusal::new(Error::new("BPF_PROG_LOAD", Errno::EINVAL), "old");
            let iterator = if loads { Ok(()) } else { Err(refusal) };
            let tried = (wanted != ReaderChoice::Only(ReaderKind::Walk)).then_some(iterator);
            let road: Backend<(), ()> = Backend::choose(part, wanted, tried, &mut choices);
            assert_eq!(
                matches!(road, Backend::Iter(())),
                loads && wanted != ReaderChoice::Only(ReaderKind::Walk)
            );
        }
        choices.push(Choice { part: Part::Btf, reader: Some(ReaderKind::Walk), reason: None });
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
