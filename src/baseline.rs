//! The programs that are expected on a host: a text file, one line for each, made for version control.
//! Entry points: [`Baseline::load`], [`render`], and [`Expected`], a baseline that can be replaced while the exporter runs.
//!
//! A program is identified by its type and its tag, the kernel's hash of its instructions. Its name and owner are in the file for
//! people.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::{Program, Snapshot};
use crate::text::visible;

/// The first line, up to the number of the format.
const MAGIC: &str = "# bpf-metrics-exporter baseline ";

/// The format that is written and read.
const VERSION: &str = "1";

/// What the columns are, for people.
const COLUMNS: &str = "# type\tname\ttag\towner";

/// What is not known, or has no name.
const NOTHING: &str = "-";

/// Programs of one type and tag that differ in a column.
const SEVERAL: &str = "(several)";

/// The largest file that is read, in bytes: about sixty thousand programs.
pub const MAX_BYTES: u64 = 4 << 20;

/// Programs that are expected.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// The types of the programs with each tag.
    types: HashMap<[u8; 8], Vec<Box<str>>>,
}

/// Why a file is no baseline: its path, the line where one is known, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {problem}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct BaselineError {
    path: PathBuf,
    line: Option<usize>,
    problem: String,
}

/// Why a text is no baseline: the line, from 1, and what is wrong with it.
pub(crate) type Mistake = (usize, String);

impl Baseline {
    /// Reads a file that [`render`] has written. Lines that are empty or begin with `#` are skipped after the first; the owner may be
    /// missing.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is larger than [`MAX_BYTES`], or has a line that is not one of a baseline.
    pub fn load(path: &Path) -> Result<Self, BaselineError> {
        let failed = |line, problem| BaselineError { path: path.to_owned(), line, problem };
        let bytes = read(path).map_err(|error| failed(None, error.to_string()))?;
        Self::parse(&bytes).map_err(|(line, problem)| failed(Some(line), problem))
    }

    /// Parses the contents of a file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Mistake> {
        let mut baseline = Self::default();
        let mut lines = (1..).zip(bytes.split(|&byte| byte == b'\n'));
        let first = lines.next().map_or(&[][..], |(_, line)| line).trim_ascii_end();
        let version = first.strip_prefix(MAGIC.as_bytes());
        let version = version.ok_or_else(|| (1, format!("the first line is not {:?}", header())))?;
        if version != VERSION.as_bytes() {
            let version = version.escape_ascii();
            return Err((
                1,
                format!("format \"{version}\" is not known; this release reads format {VERSION}"),
            ));
        }
        for (number, line) in lines {
            let line = line.trim_ascii_end();
            if !line.is_empty() && !line.starts_with(b"#") {
                baseline.add(line).map_err(|problem| (number, problem))?;
            }
        }
        Ok(baseline)
    }

    fn add(&mut self, line: &[u8]) -> Result<(), String> {
        let line = str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
        let fields: Vec<&str> = line.split('\t').take(5).collect();
        let (&[program_type, _, tag] | &[program_type, _, tag, _]) = &fields[..] else {
            return Err("not type, name, tag and owner, separated by tabs".to_owned());
        };
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if program_type.is_empty() || !program_type.bytes().all(is_word) {
            return Err(format!("{program_type:?} is not the type of a program"));
        }
        let digits = tag.len() == 16 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
        let tag = u64::from_str_radix(tag, 16).ok().filter(|_| digits);
        let tag = tag.ok_or_else(|| format!("the tag is not 16 hexadecimal digits: {:?}", fields[2]))?;
        let types = self.types.entry(tag.to_be_bytes()).or_default();
        if !types.iter().any(|known| **known == *program_type) {
            types.push(program_type.into());
        }
        Ok(())
    }

    /// Returns whether a program is in it. One whose type is not known is if one of any type has its tag.
    pub(crate) fn has(&self, tag: [u8; 8], program_type: Option<&str>) -> bool {
        let types = self.types.get(&tag);
        types.is_some_and(|types| {
            program_type.is_none_or(|wanted| types.iter().any(|known| **known == *wanted))
        })
    }

    /// Returns the number of distinct programs in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.types.values().map(Vec::len).sum()
    }

    /// Returns whether no program is expected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }
}

/// Reads a regular file of at most [`MAX_BYTES`].
fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for its writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 4 MiB"));
    }
    Ok(bytes)
}

fn header() -> String {
    format!("{MAGIC}{VERSION}")
}

/// What people read of the programs of one type and tag.
#[derive(Default)]
struct Columns {
    names: BTreeSet<String>,
    owners: BTreeSet<String>,
}

/// Writes the baseline of the programs of a snapshot, in the order of the bytes of the lines, as `LC_ALL=C sort` has them. Programs that
/// the exporter itself has loaded are left out, since they are always expected. `None` unless every program was read.
#[must_use]
pub fn render(snapshot: &Snapshot) -> Option<String> {
    let programs = snapshot.programs.as_ref()?;
    if !snapshot.has_every_program() {
        return None;
    }
    let mut columns: BTreeMap<_, Columns> = BTreeMap::new();
    for program in programs {
        let Columns { names, owners } = columns.entry(identity(program)).or_default();
        names.insert(program.facts.name.clone());
        owners.insert(owner(program));
    }
    for own in programs.iter().filter(|program| snapshot.own_programs.contains(&program.facts.id)) {
        columns.remove(&identity(own));
    }
    let mut lines = BTreeSet::new();
    for ((program_type, tag), Columns { names, owners }) in columns {
        let tag = u64::from_be_bytes(tag);
        let program_type = visible(&program_type);
        lines.insert(format!("{program_type}\t{}\t{tag:016x}\t{}", one_of(&names), one_of(&owners)));
    }
    let mut text = format!("{}\n{COLUMNS}\n", header());
    for line in lines {
        writeln!(text, "{line}").expect("writing to a String never fails");
    }
    Some(text)
}

/// Returns what identifies a program: its type and its tag.
pub(crate) fn identity(program: &Program) -> (String, [u8; 8]) {
    (program.facts.program_type.word_or_number().into_owned(), program.facts.tag.0)
}

fn owner(program: &Program) -> String {
    let owner = program.owner.as_ref();
    owner.map_or_else(String::new, |owner| format!("{}:{}", owner.kind().as_str(), owner.name()))
}

/// Returns the only text of a column.
fn one_of(texts: &BTreeSet<String>) -> String {
    let mut texts = texts.iter();
    match (texts.next(), texts.next()) {
        // A snapshot from a file has names of any origin, and the lines may go to a terminal.
        (Some(text), None) if !text.is_empty() => visible(text).into_owned(),
        (_, Some(_)) => SEVERAL.to_owned(),
        _ => NOTHING.to_owned(),
    }
}

/// The baseline that is in use, shared by who looks programs up and who replaces it.
#[derive(Clone, Debug, Default)]
pub struct Expected(Arc<RwLock<Arc<Baseline>>>);

impl Expected {
    /// Returns a handle to this baseline.
    #[must_use]
    pub fn new(baseline: Baseline) -> Self {
        let expected = Self::default();
        expected.replace(baseline);
        expected
    }

    /// Uses another one from now on.
    pub fn replace(&self, baseline: Baseline) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(baseline);
    }

    /// Returns the one in use.
    pub(crate) fn current(&self) -> Arc<Baseline> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Parses bytes as a file.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    if let Ok(baseline) = Baseline::parse(bytes) {
        let has_one = baseline.types.keys().next().is_some_and(|&tag| baseline.has(tag, None));
        assert_eq!(has_one, !baseline.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAGS: [[u8; 8]; 2] = [[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef], [0xff; 8]];

    fn parse(text: &str) -> Result<Baseline, Mistake> {
        Baseline::parse(format!("{}\n{text}", header()).as_bytes())
    }

    #[test]
    fn type_and_tag_identify_a_program() {
        let text = "# a comment\n\nkprobe\tone\t0123456789abcdef\tunit:a.service\nxdp\t-\t0123456789ABCDEF\n\
                    kprobe\tother\t0123456789abcdef\t-\r\n33\tnew\tffffffffffffffff\t-";
        let baseline = parse(text).expect("it is one");
        assert_eq!(baseline.len(), 3);
        assert!(baseline.has(TAGS[0], Some("kprobe")) && baseline.has(TAGS[0], Some("xdp")));
        assert!(!baseline.has(TAGS[0], Some("33")) && baseline.has(TAGS[1], Some("33")));
        assert!(baseline.has(TAGS[1], None) && !baseline.has([0; 8], None));
        assert!(parse("").expect("it expects nothing").is_empty());
    }

    #[test]
    fn a_mistake_has_its_line() {
        let mistake = |text: &str| parse(text).expect_err(text);
        let columns = "not type, name, tag and owner, separated by tabs";
        for line in ["kprobe one 0123456789abcdef", "kprobe\tone", "kprobe\tone\t0123456789abcdef\ta\tb"] {
            assert_eq!(mistake(&format!("\n{line}")), (3, columns.to_owned()), "{line}");
        }
        let tag = "the tag is not 16 hexadecimal digits: \"+123456789abcdef\"".to_owned();
        assert_eq!(mistake("kprobe\tone\t+123456789abcdef"), (2, tag));
        let no_type = "\"k probe\" is not the type of a program".to_owned();
        assert_eq!(mistake("k probe\tone\t0123456789abcdef"), (2, no_type));
        let not_utf8 = [header().as_bytes(), b"\nkprobe\t\xff\t0123456789abcdef"].concat();
        assert_eq!(Baseline::parse(&not_utf8), Err((2, "not UTF-8".to_owned())));
    }

    #[test]
    fn another_format_is_refused() {
        let newer = "format \"2\" is not known; this release reads format 1".to_owned();
        assert_eq!(Baseline::parse(b"# bpf-metrics-exporter baseline 2\n"), Err((1, newer)));
        let none = "the first line is not \"# bpf-metrics-exporter baseline 1\"".to_owned();
        for text in ["", "kprobe\tone\t0123456789abcdef\n"] {
            assert_eq!(Baseline::parse(text.as_bytes()), Err((1, none.clone())));
        }
    }

    #[test]
    fn names_of_any_origin_do_no_harm() {
        let name = |name: &str| one_of(&BTreeSet::from([name.to_owned()]));
        assert_eq!(name("a\u{1b}[2J\t\n\u{202e}b"), "a\\x1b[2J\\x09\\x0a\\u{202e}b");
        assert_eq!(name("a b"), "a b");
    }

    #[test]
    fn files_are_bounded_and_regular() {
        let failed = |path: &Path| Baseline::load(path).expect_err("it is no baseline").to_string();
        assert_eq!(failed(Path::new("/dev/zero")), "/dev/zero: not a regular file");
        assert_eq!(failed(Path::new("/nowhere")), "/nowhere: No such file or directory (os error 2)");
        let file = tempfile::NamedTempFile::new().expect("it can be made");
        file.as_file().set_len(MAX_BYTES + 1).expect("it has room");
        assert_eq!(failed(file.path()), format!("{}: larger than 4 MiB", file.path().display()));
    }
}
