//! Printable text from names and paths that the kernel reports.
//!
//! Entry point: [`printable`].

/// Returns a name of the kernel's up to its first zero byte. Bytes that are not UTF-8, and control characters other than the
/// line feed, are escaped as `\xff`.
///
/// Since 4.15 the kernel restricts names of programs and maps to letters, digits, `_` and `.`. Other names are unrestricted,
/// and end up in terminals and in formats whose readers differ about carriage returns.
#[must_use]
pub(crate) fn printable(name: &[u8]) -> String {
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    let mut text = String::with_capacity(end);
    let escaped = |byte: u32| format!("\\x{byte:02x}");
    for chunk in name[..end].utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() && character != '\n' {
                text.push_str(&escaped(character.into()));
            } else {
                text.push(character);
            }
        }
        text.extend(chunk.invalid().iter().map(|&byte| escaped(byte.into())));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_the_first_zero_and_control_characters_are_escaped() {
        assert_eq!(printable(b"plain\0rest"), "plain");
        assert_eq!(printable(b"sixteen_no_zero_"), "sixteen_no_zero_");
        assert_eq!(printable(b"\"quoted\"\n\xff\xc3\xbc"), "\"quoted\"\n\\xff\u{fc}");
        assert_eq!(printable(b"\x1b[31mred\r"), "\\x1b[31mred\\x0d");
        assert_eq!(printable(b""), "");
    }
}
