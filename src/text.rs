//! Text from outside, as it is stored and shown: without invisible characters, and bounded.
//!
//! Entry point: [`printable`], for every name, path and message that the kernel, a file, a process or a peer provides.
//! [`visible`] is for text whose origin is unknown on its way to a terminal or a log.

use std::borrow::Cow;
use std::fmt::Write as _;

use uuid::Uuid;

/// The longest text from outside that is stored, in bytes.
pub const MAX_LEN: usize = 1024;

/// Bytes kept of each end of a longer text.
const END_LEN: usize = (MAX_LEN - MARK_LEN) / 2;

/// Length of what replaces the middle: 16 hexadecimal digits between dots.
const MARK_LEN: usize = "...0123456789abcdef...".len();

/// The longest text that is not cut. Text that is cut is always longer, since a character has at most four bytes: so it is
/// never equal to another one that is not.
const MAX_WHOLE_LEN: usize = 2 * (END_LEN - 3) + MARK_LEN - 1;

/// Returns a name, a path or a message up to its first zero byte, escaped and bounded. Different texts stay different.
#[must_use]
pub fn printable(text: &[u8]) -> String {
    let escaped = escaped(text);
    match bounded(&escaped) {
        Cow::Borrowed(_) => escaped,
        Cow::Owned(cut) => cut,
    }
}

/// Returns text up to its first zero byte. Bytes that are not UTF-8 and control characters are escaped as `\xff`, other invisible
/// characters as `\u{202e}`. It may have any length: this is for what is parsed before parts of it are shown.
///
/// A backslash that could be taken for the start of such an escape is `\x5c`; others stay, as in the names of units (`\x2d`).
#[must_use]
pub(crate) fn escaped(text: &[u8]) -> String {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    let text = &text[..end];
    let is_plain = |&byte: &u8| matches!(byte, b' '..=b'~') && byte != b'\\';
    if text.iter().all(is_plain) {
        return text.iter().map(|&byte| char::from(byte)).collect();
    }
    let mut escaped = String::with_capacity(end);
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid();
        for (at, character) in valid.char_indices() {
            if character == '\\' && is_escape(&valid[at..]) {
                escaped.push_str("\\x5c");
            } else {
                push(&mut escaped, character);
            }
        }
        for byte in chunk.invalid() {
            write!(escaped, "\\x{byte:02x}").expect("writing to a String never fails");
        }
    }
    escaped
}

/// Returns a text of at most [`MAX_LEN`] bytes. A longer one keeps both ends: the first says whose it is, the last which one. A hash
/// of the whole in the middle keeps texts apart that have the same ends; it depends on nothing else, so that series last.
#[must_use]
pub(crate) fn bounded(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_WHOLE_LEN {
        return text.into();
    }
    // A cryptographic hash: an attacker must not find two texts with the same one.
    let (hash, _) = Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).as_u64_pair();
    let head = &text[..text.floor_char_boundary(END_LEN)];
    let tail = &text[text.ceil_char_boundary(text.len() - END_LEN)..];
    format!("{head}...{hash:016x}...{tail}").into()
}

/// Returns text with its invisible characters escaped, line feeds included. It does not change what [`printable`] returned.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_invisible) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len());
    text.chars().for_each(|character| push(&mut escaped, character));
    escaped.into()
}

/// Adds a character, or its escape.
fn push(text: &mut String, character: char) {
    let written = match character {
        '\0'..='\x7f' if is_invisible(character) => write!(text, "\\x{:02x}", u32::from(character)),
        _ if is_invisible(character) => write!(text, "\\u{{{:x}}}", u32::from(character)),
        _ => text.write_char(character),
    };
    written.expect("writing to a String never fails");
}

/// Returns whether text starts with what [`escaped`] could have written for another character.
fn is_escape(text: &str) -> bool {
    let hexadecimal = |digits: &str| {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        u8::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(is_digit))
    };
    let byte = text.strip_prefix("\\x").and_then(|rest| rest.get(..2)).and_then(hexadecimal);
    text.starts_with("\\u{") || byte.is_some_and(|byte| !matches!(byte, b' '..=b'~') || byte == b'\\')
}

/// Returns whether a character is not seen, or changes how others are: control characters, separators of lines and paragraphs,
/// formats (among them the bidirectional ones and tags), and those that renderers ignore by default.
///
/// Source: Unicode 16, general categories Cc, Cf, Zl and Zp, and the property `Default_Ignorable_Code_Point`.
#[must_use]
pub fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes what [`escaped`] returned.
    fn decoded(mut text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(character) = text.chars().next() {
            let code =
                |digits: &str| u32::from_str_radix(digits, 16).expect("an escape has hexadecimal digits");
            if let Some(rest) = text.strip_prefix("\\u{") {
                let (digits, rest) = rest.split_once('}').expect("it ends");
                let character = char::from_u32(code(digits)).expect("it is a character");
                bytes.extend(character.to_string().as_bytes());
                text = rest;
            } else if is_escape(text) {
                bytes.push(u8::try_from(code(&text[2..4])).expect("two digits"));
                text = &text[4..];
            } else {
                bytes.extend(character.to_string().as_bytes());
                text = &text[character.len_utf8()..];
            }
        }
        bytes
    }

    #[test]
    fn names_end_at_the_first_zero_and_invisible_characters_are_escaped() {
        let table: [(&[u8], &str); 11] = [
            (b"plain\0rest", "plain"),
            (b"sixteen_no_zero_", "sixteen_no_zero_"),
            (b"\"quoted\"\n\xff\xc3\xbc", "\"quoted\"\\x0a\\xff\u{fc}"),
            (b"\x1b[31mred\r", "\\x1b[31mred\\x0d"),
            (b"", ""),
            ("a\u{202e}b\u{2066}c".as_bytes(), "a\\u{202e}b\\u{2066}c"),
            ("\u{feff}zero\u{200b}width\u{e0041}".as_bytes(), "\\u{feff}zero\\u{200b}width\\u{e0041}"),
            ("\u{85}\u{2028}".as_bytes(), "\\u{85}\\u{2028}"),
            ("日本語 e\u{301}".as_bytes(), "日本語 e\u{301}"),
            (b"dev-mapper-a\\x2db.swap C:\\users", "dev-mapper-a\\x2db.swap C:\\users"),
            (b"\\x1b \\u{202e} \\x5c", "\\x5cx1b \\x5cu{202e} \\x5cx5c"),
        ];
        for (raw, expected) in table {
            assert_eq!(printable(raw), expected);
        }
    }

    #[test]
    fn long_text_keeps_both_ends_and_a_hash_of_the_whole() {
        let long = |middle: &str| {
            printable(format!("/first/{}/{middle}/{}/last", "a".repeat(900), "ü".repeat(900)).as_bytes())
        };
        let (one, two) = (long("1"), long("2"));
        assert!(one.starts_with("/first/aaa") && one.ends_with("üü/last"), "{one}");
        assert!((MAX_WHOLE_LEN + 1..=MAX_LEN).contains(&one.len()), "{}", one.len());
        assert_ne!(one, two, "they differ in what was cut");
        assert_eq!(one, long("1"));
        assert_eq!(
            &one[END_LEN..END_LEN + MARK_LEN],
            "...01015fe1c00859f2...",
            "it is the same after a restart"
        );
        let whole = "a".repeat(MAX_WHOLE_LEN);
        assert_eq!(printable(whole.as_bytes()), whole);
        assert_eq!(printable(&[b'a'; MAX_WHOLE_LEN + 1]).len(), MAX_LEN);
    }

    proptest! {
        #[test]
        fn printable_text_is_bounded_and_visible(bytes: Vec<u8>, text in "(\\PC|\\p{Cf}|[\\\\xu{}0-9a-f]){0,1500}") {
            for raw in [&bytes[..], text.as_bytes()] {
                let printable = printable(raw);
                prop_assert!(printable.len() <= MAX_LEN);
                prop_assert!(!printable.contains(is_invisible));
                prop_assert_eq!(visible(&printable), &*printable);
            }
        }

        #[test]
        fn escapes_can_be_decoded(bytes: Vec<u8>, text in "([\\\\xu{}0-9a-f\u{1b}\u{202e}]|\\PC){0,50}") {
            for raw in [&bytes[..], text.as_bytes()] {
                let end = raw.iter().position(|&byte| byte == 0).unwrap_or(raw.len());
                prop_assert_eq!(decoded(&escaped(raw)), &raw[..end]);
            }
        }

        #[test]
        fn every_format_and_control_character_is_invisible(
            text in "[\\p{Cc}\\p{Cf}\\p{Zl}\\p{Zp}\\p{Default_Ignorable_Code_Point}]{200}",
            seen in "[\\p{L}\\p{N}\\p{P}\\p{Sm}\\p{Mc}&&[^\\p{Default_Ignorable_Code_Point}]]{200}",
        ) {
            prop_assert!(text.chars().all(is_invisible));
            prop_assert!(!seen.contains(is_invisible));
        }
    }
}
