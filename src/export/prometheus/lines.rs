//! Where rendered text goes: into pieces that are passed on, or into [`Lines`], where the labels of a value are in memory once.

use std::io;
use std::sync::Arc;

use super::labels::Blocks;

/// How much text is gathered before it is passed on, in bytes: what a first cache of the CPU can hold.
const PIECE: usize = 16 << 10;

/// A rendered text in which the labels of a value are in memory once for all of its metrics.
pub struct Lines {
    parts: Vec<Part>,
    len: u64,
}

pub(super) enum Part {
    Text(String),
    Family(Family),
}

/// The lines of a metric.
pub(super) struct Family {
    keys: Arc<Blocks>,
    /// One, or the metric and its start.
    columns: Vec<Column>,
}

/// Lines that begin with the same name, at most one for each value.
pub(super) struct Column {
    name: String,
    /// What follows the key labels of each value; empty if it has no line.
    rest: Blocks,
    /// Where the text of the current value begins.
    begin: usize,
}

impl Lines {
    /// Returns the size of the text, in bytes.
    #[must_use]
    pub const fn text_len(&self) -> u64 {
        self.len
    }
}

/// A position in a text.
pub struct Cursor {
    lines: Arc<Lines>,
    part: usize,
    /// In a text the next byte, in a family the next value.
    at: usize,
    /// In a family where the key of that value begins, and the rest of its lines.
    key: usize,
    rest: [usize; 2],
}

impl Cursor {
    /// Returns the beginning of a text.
    #[must_use]
    pub const fn new(lines: Arc<Lines>) -> Self {
        Self { lines, part: 0, at: 0, key: 0, rest: [0; 2] }
    }

    /// Returns what follows: `size` bytes, up to the end of a line more, and less only at the end, where it is empty.
    #[must_use]
    pub fn read(&mut self, size: usize) -> Vec<u8> {
        let lines = Arc::clone(&self.lines);
        let mut piece = Vec::with_capacity(size + size / 16);
        while piece.len() < size
            && let Some(part) = lines.parts.get(self.part)
        {
            let is_over = match part {
                Part::Text(text) => self.text(text, &mut piece, size),
                Part::Family(family) => self.family(family, &mut piece, size),
            };
            if is_over {
                *self = Self { part: self.part + 1, ..Self::new(Arc::clone(&lines)) };
            }
        }
        piece
    }

    /// Appends to a piece. Returns whether that was all.
    fn text(&mut self, text: &str, piece: &mut Vec<u8>, size: usize) -> bool {
        let rest = &text.as_bytes()[self.at..];
        let taken = rest.len().min(size - piece.len());
        piece.extend_from_slice(&rest[..taken]);
        self.at += taken;
        taken == rest.len()
    }

    /// Appends to a piece. Returns whether that was all.
    fn family(&mut self, family: &Family, piece: &mut Vec<u8>, size: usize) -> bool {
        while piece.len() < size {
            let Some(key) = family.keys.get(self.at, self.key) else { return true };
            for (column, begin) in family.columns.iter().zip(&mut self.rest) {
                let rest = column.rest.get(self.at, *begin).expect("a text for each key");
                if !rest.is_empty() {
                    piece.extend_from_slice(column.name.as_bytes());
                    if !key.is_empty() {
                        piece.push(b'{');
                        piece.extend_from_slice(key.as_bytes());
                    }
                    piece.extend_from_slice(rest.as_bytes());
                    *begin += rest.len();
                }
            }
            self.at += 1;
            self.key += key.len();
        }
        false
    }
}

/// Where rendered text goes.
pub(super) enum Output<'a> {
    Pieces {
        text: String,
        /// `None` gathers all of it.
        out: Option<&'a mut dyn io::Write>,
        result: io::Result<()>,
    },
    Lines {
        parts: Vec<Part>,
        /// What is not in `parts` yet.
        text: String,
        /// Those of the metric that is being written.
        columns: Vec<Column>,
    },
}

impl<'a> Output<'a> {
    pub(super) const fn pieces(text: String, out: Option<&'a mut dyn io::Write>) -> Self {
        Self::Pieces { text, out, result: Ok(()) }
    }

    pub(super) const fn lines() -> Self {
        Self::Lines { parts: Vec::new(), text: String::new(), columns: Vec::new() }
    }

    /// Returns where text goes that does not belong to single values.
    pub(super) const fn text(&mut self) -> &mut String {
        match self {
            Self::Pieces { text, .. } | Self::Lines { text, .. } => text,
        }
    }

    /// Returns whether key labels stay in memory.
    pub(super) const fn keeps_keys(&self) -> bool {
        matches!(self, Self::Lines { .. })
    }

    /// Begins a metric with lines of these names.
    pub(super) fn begin(&mut self, names: &[&str]) {
        if let Self::Lines { columns, .. } = self {
            let column = |name: &&str| Column { name: (*name).to_owned(), rest: Blocks::default(), begin: 0 };
            *columns = names.iter().map(column).collect();
        }
    }

    /// Begins the line of a value with one of these names. Returns where to write what follows the key labels.
    pub(super) fn line(&mut self, column: usize, name: &str, key: &str) -> &mut String {
        match self {
            Self::Pieces { text, .. } => {
                text.push_str(name);
                if !key.is_empty() {
                    text.push('{');
                    text.push_str(key);
                }
                text
            }
            Self::Lines { columns, .. } => &mut columns[column].rest.text,
        }
    }

    /// Ends the lines of a value, of which there may be none.
    pub(super) fn end_value(&mut self) {
        match self {
            Self::Pieces { .. } => self.pass_on(PIECE),
            Self::Lines { columns, .. } => {
                for Column { rest, begin, .. } in columns {
                    rest.end(*begin);
                    *begin = rest.text.len();
                }
            }
        }
    }

    /// Ends a metric whose values have these key labels.
    pub(super) fn end(&mut self, keys: &Arc<Blocks>) {
        let Self::Lines { parts, text, columns } = self else { return };
        let mut columns = std::mem::take(columns);
        if columns.iter().any(|column| !column.rest.text.is_empty()) {
            for column in &mut columns {
                column.rest.shrink();
            }
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(text)));
            }
            parts.push(Part::Family(Family { keys: Arc::clone(keys), columns }));
        }
    }

    /// Passes the text on if there is more than this many bytes of it.
    fn pass_on(&mut self, more_than: usize) {
        if let Self::Pieces { text, out: Some(out), result } = self
            && text.len() > more_than
        {
            if result.is_ok() {
                *result = out.write_all(text.as_bytes());
            }
            text.clear();
        }
    }

    /// Passes on what is left.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.pass_on(0);
        match self {
            Self::Pieces { result, .. } => result,
            Self::Lines { .. } => Ok(()),
        }
    }

    /// Returns the lines, as far as they are kept.
    pub(super) fn into_lines(self) -> Lines {
        let Self::Lines { mut parts, text, .. } = self else {
            return Lines { parts: Vec::new(), len: 0 };
        };
        parts.push(Part::Text(text));
        let len = parts.iter().map(Part::len).sum();
        Lines { parts, len }
    }
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Family(family) => family.columns.iter().map(|column| column.len(&family.keys)).sum(),
        }
    }
}

impl Column {
    fn len(&self, keys: &Blocks) -> u64 {
        let lines = keys.iter().zip(self.rest.iter()).filter(|(_, rest)| !rest.is_empty());
        let line = |(key, rest): (&str, &str)| {
            self.name.len() + usize::from(!key.is_empty()) + key.len() + rest.len()
        };
        lines.map(|pair| line(pair) as u64).sum()
    }
}
