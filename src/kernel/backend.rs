//! Choice of the backend, iterator or id walk, for each table, with the reason.
//!
//! Entry point: [`Backend::choose`].

use nix::errno::Errno;

use super::ReaderChoice;
use crate::host::namespaces::Rights;
use crate::model::{Capability, Part, ReaderKind, Reason};
use crate::sys::Error;

/// The backend of a table, with its state.
#[derive(Debug)]
pub(crate) enum Backend<I, W> {
    /// An iterator.
    Iter(I),
    /// The walk by ids.
    Walk(W),
    /// None: an iterator was requested and is not available.
    Unavailable(Refusal),
}

/// Why a table cannot be read by an iterator.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// The call that failed.
    pub(crate) error: Error,
    /// An explanation for the user.
    pub(crate) reason: String,
}

impl Refusal {
    /// Adds an explanation to a failed call.
    pub(crate) fn new(error: Error, reason: impl Into<String>) -> Self {
        Self { error, reason: reason.into() }
    }

    /// Returns the cause. The verifier's error for a program that it does not accept is `EACCES`.
    pub(crate) fn cause(&self, rights: Rights) -> Reason {
        if self.error.errno != Errno::EPERM {
            return Reason::Kernel;
        }
        let missing =
            [Capability::Bpf, Capability::Perfmon].into_iter().find_map(|right| rights.missing(right));
        missing.unwrap_or(Reason::Refused)
    }
}

/// How one part is read.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The part.
    pub part: Part,
    /// How it is read; `None` if the requested backend is not available.
    pub reader: Option<ReaderKind>,
    /// Why not by an iterator, if that was tried; of an iterator, why it visits each object in each reading.
    pub reason: Option<String>,
}

impl<I, W: Default> Backend<I, W> {
    /// As [`Self::choose`], of an iterator that a pass can replace: `pass_refusal` returns why it cannot.
    pub(crate) fn choose_with_pass(
        part: Part,
        wanted: ReaderChoice,
        iterator: Option<Result<I, Refusal>>,
        pass_refusal: impl FnOnce(&I) -> Option<&Refusal>,
        choices: &mut Vec<Choice>,
    ) -> Self {
        let backend = Self::choose(part, wanted, iterator, choices);
        if let (Self::Iter(iterator), Some(choice)) = (&backend, choices.last_mut()) {
            choice.reason = pass_refusal(iterator).map(|refusal| refusal.reason.clone());
        }
        backend
    }

    /// Chooses the backend of a table, and adds the choice to `choices`. `iterator` is `None` if none was tried.
    pub(crate) fn choose(
        part: Part,
        wanted: ReaderChoice,
        iterator: Option<Result<I, Refusal>>,
        choices: &mut Vec<Choice>,
    ) -> Self {
        let backend = match iterator {
            Some(Ok(iterator)) => Self::Iter(iterator),
            Some(Err(refusal)) if wanted == ReaderChoice::Only(ReaderKind::Iter) => {
                choices.push(Choice { part, reader: None, reason: Some(refusal.reason.clone()) });
                return Self::Unavailable(refusal);
            }
            Some(Err(refusal)) => {
                choices.push(Choice { part, reader: Some(ReaderKind::Walk), reason: Some(refusal.reason) });
                return Self::Walk(W::default());
            }
            None => Self::Walk(W::default()),
        };
        choices.push(Choice { part, reader: Some(backend.reader()), reason: None });
        backend
    }

    /// Returns the kind of the backend; of an unavailable one, the requested kind.
    pub(crate) fn reader(&self) -> ReaderKind {
        match self {
            Self::Iter(_) | Self::Unavailable(_) => ReaderKind::Iter,
            Self::Walk(_) => ReaderKind::Walk,
        }
    }
}

/// Describes choices, without the reasons: `programs and maps by BPF iterators, links and BTF objects by id, holders from /proc`.
#[must_use]
pub fn describe_choices(choices: &[Choice]) -> String {
    let how = |choice: &Choice| match (choice.reader, choice.part) {
        (Some(ReaderKind::Iter), _) => "by BPF iterators",
        (Some(ReaderKind::Walk), Part::Holder | Part::Pin) => "from /proc",
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
        Part::Event => "events",
        Part::Host => "settings of the host",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(iterators: [bool; 3], wanted: ReaderChoice) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (part, loads) in [Part::Program, Part::Map, Part::Link].into_iter().zip(iterators) {
            let refusal = Refusal::new(Error::new("BPF_PROG_LOAD", Errno::EINVAL), "old");
            let iterator = if loads { Ok(()) } else { Err(refusal) };
            let tried = (wanted != ReaderChoice::Only(ReaderKind::Walk)).then_some(iterator);
            let backend: Backend<(), ()> = Backend::choose(part, wanted, tried, &mut choices);
            assert_eq!(
                matches!(backend, Backend::Iter(())),
                loads && wanted != ReaderChoice::Only(ReaderKind::Walk)
            );
        }
        choices.push(Choice { part: Part::Btf, reader: Some(ReaderKind::Walk), reason: None });
        choices
    }

    #[test]
    fn a_refusal_is_due_to_a_right_the_kernel_or_something_else() {
        let both = [Capability::Bpf, Capability::Perfmon];
        for (errno, rights, cause) in [
            (Errno::EPERM, &both[..1], Reason::Missing(Capability::Perfmon)),
            (Errno::EPERM, &[], Reason::Missing(Capability::Bpf)),
            (Errno::EPERM, &both, Reason::Refused),
            (Errno::EACCES, &[], Reason::Kernel),
            (Errno::EINVAL, &both, Reason::Kernel),
        ] {
            let refusal = Refusal::new(Error::new("BPF_PROG_LOAD", errno), "refused");
            assert_eq!(refusal.cause(Rights::only(rights)), cause);
        }
    }

    #[test]
    fn each_table_has_a_backend_and_a_description() {
        let auto = choices([true, true, true], ReaderChoice::Auto);
        assert_eq!(describe_choices(&auto), "programs, maps and links by BPF iterators, BTF objects by id");
        let old = choices([false, true, false], ReaderChoice::Auto);
        assert_eq!(describe_choices(&old), "maps by BPF iterators, programs, links and BTF objects by id");
        assert_eq!(old[0].reason.as_deref(), Some("old"));
        let in_proc = |part| Choice { part, reader: Some(ReaderKind::Walk), reason: None };
        assert_eq!(
            describe_choices(&[in_proc(Part::Holder), in_proc(Part::Pin)]),
            "holders and pins from /proc"
        );
        let walk = choices([true, true, true], ReaderChoice::Only(ReaderKind::Walk));
        assert_eq!(describe_choices(&walk), "programs, maps, links and BTF objects by id");
        let iter = choices([true, true, false], ReaderChoice::Only(ReaderKind::Iter));
        assert_eq!(
            describe_choices(&iter),
            "programs and maps by BPF iterators, BTF objects by id, links not at all"
        );
    }
}
