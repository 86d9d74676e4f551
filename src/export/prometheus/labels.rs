//! Labels as text. Entry points: [`Blocks::fill`], [`write_labels`].

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use crate::metrics::{Label, LabelValue, prometheus_name};
use crate::model::{Tag, WallClock};

/// A label with its Prometheus name.
pub(super) struct Named<T: 'static> {
    pub(super) name: String,
    pub(super) label: &'static Label<T>,
}

/// Returns labels with their names.
pub(super) fn named<T>(labels: &'static [Label<T>]) -> Vec<Named<T>> {
    labels.iter().map(|label| Named { name: prometheus_name::label(label.name), label }).collect()
}

/// A text for each value of an entity, one after the other.
#[derive(Default)]
pub(super) struct Blocks {
    pub(super) text: String,
    lengths: Vec<u32>,
}

impl Blocks {
    /// Replaces all by the key labels of these values: written once for all of their metrics.
    pub(super) fn fill<T>(&mut self, labels: &[Named<T>], values: &[T], clock: WallClock) {
        self.text.clear();
        self.lengths.clear();
        self.lengths.reserve(values.len());
        for value in values {
            let begin = self.text.len();
            let mut empty = true;
            for label in labels {
                write_label(&mut self.text, label, value, clock, &mut empty);
            }
            self.end(begin);
        }
    }

    /// Ends the text of a value, which began here.
    pub(super) fn end(&mut self, begin: usize) {
        let length = self.text.len() - begin;
        self.lengths.push(u32::try_from(length).expect("a line is shorter than 4 GiB"));
    }

    /// Returns the text of a value by its index and beginning.
    pub(super) fn get(&self, index: usize, begin: usize) -> Option<&str> {
        let length = *self.lengths.get(index)?;
        Some(&self.text[begin..begin + length as usize])
    }

    /// Returns the texts in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let mut begin = 0;
        (0..self.lengths.len()).map_while(move |index| {
            let text = self.get(index, begin)?;
            begin += text.len();
            Some(text)
        })
    }

    /// Gives back the memory that is not used.
    pub(super) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.lengths.shrink_to_fit();
    }
}

/// Writes what follows the key labels: these labels and the closing brace. Without any label there are no braces.
pub(super) fn write_labels<T>(
    text: &mut String,
    key: &str,
    labels: &[Named<T>],
    value: &T,
    clock: WallClock,
) {
    let begin = text.len();
    let mut empty = key.is_empty();
    if empty {
        text.push('{');
    }
    for label in labels {
        write_label(text, label, value, clock, &mut empty);
    }
    if empty {
        text.truncate(begin);
    } else {
        text.push('}');
    }
}

/// Writes a label, unless it is missing or empty, which is the same to Prometheus.
fn write_label<T>(text: &mut String, named: &Named<T>, value: &T, clock: WallClock, empty: &mut bool) {
    let Some(value) = (named.label.read)(value) else { return };
    let before = text.len();
    if !*empty {
        text.push(',');
    }
    text.push_str(&named.name);
    text.push_str("=\"");
    let begin = text.len();
    match value {
        LabelValue::Text(value) => escape(text, value, true),
        LabelValue::Number(number) => text.push_str(itoa::Buffer::new().format(number)),
        LabelValue::Integer(number) => text.push_str(itoa::Buffer::new().format(number)),
        LabelValue::Flag(flag) => text.push_str(if flag { "true" } else { "false" }),
        LabelValue::Tag(tag) => write_tag(text, tag),
        LabelValue::Target(_) | LabelValue::Kfunc(_) => {
            write!(Escaped(text), "{}", value.by(clock)).expect("writing to a String never fails");
        }
        LabelValue::Time(_) => put(text, format_args!("{}", value.by(clock))),
    }
    if text.len() == begin {
        text.truncate(before);
        return;
    }
    text.push('"');
    *empty = false;
}

/// Writes a tag as [`Tag`] displays it, faster.
fn write_tag(text: &mut String, Tag(bytes): Tag) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
}

/// Escapes the parts of a label value as they are written.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        escape(self.0, part, true);
        Ok(())
    }
}

/// Escapes backslash and line feed, and the quote in label values and in the help of `OpenMetrics`.
pub(super) fn escape(text: &mut String, value: &str, quotes: bool) {
    let is_special = |byte: u8| byte == b'\\' || byte == b'\n' || quotes && byte == b'"';
    // All bytes at once, which takes a fraction of the time.
    if !value.bytes().fold(false, |any, byte| any | is_special(byte)) {
        text.push_str(value);
        return;
    }
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

/// Returns the attributes of the resource as labels. Values of those whose names become the same label are joined, in the order of
/// the names.
pub(super) fn target_labels(resource: &[(String, String)]) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    let ordered: BTreeMap<_, _> = resource.iter().map(|(name, value)| (name, value)).collect();
    for (name, value) in ordered {
        labels
            .entry(prometheus_name::label(name))
            .and_modify(|joined| {
                joined.push(';');
                joined.push_str(value);
            })
            .or_insert_with(|| value.clone());
    }
    labels
}

pub(super) fn put(text: &mut String, arguments: fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String never fails");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped() {
        let escaped = |value, quotes| {
            let mut text = String::new();
            escape(&mut text, value, quotes);
            text
        };
        for plain in ["", "plain", "ümläut/{}=,"] {
            assert_eq!(escaped(plain, true), plain);
        }
        assert_eq!(escaped("\"a\\b\nü\"", true), r#"\"a\\b\nü\""#);
        assert_eq!(escaped("\"a\\b\nü\"", false), r#""a\\b\nü""#);
    }

    #[test]
    fn tags_are_written_as_they_are_displayed() {
        let tag = Tag([0, 1, 0x2f, 0xa0, 0xff, 9, 0x10, 0xab]);
        let mut text = String::new();
        write_tag(&mut text, tag);
        assert_eq!(text, tag.to_string());
    }
}
