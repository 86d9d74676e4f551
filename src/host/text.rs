//! Names that come from the kernel as printable text.

/// A name of the kernel's, up to its first zero byte, as text; what is not UTF-8, and control characters but the line
/// feed, is written as `\xff`.
///
/// The kernel lets only letters, digits, `_` and `.` into the names of programs and maps since 4.15. Nothing else may
/// rely on it: a name ends up in terminals and in formats whose readers differ about carriage returns.
#[must_use]
pub(crate) fn text(name: &[u8]) -> String {
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
    fn names_end_at_the_first_zero_and_keep_every_byte() {
        assert_eq!(text(b"plain\0rest"), "plain");
        assert_eq!(text(b"sixteen_no_zero_"), "sixteen_no_zero_");
        assert_eq!(text(b"\"quoted\"\n\xff\xc3\xbc"), "\"quoted\"\n\\xff\u{fc}");
        assert_eq!(text(b"\x1b[31mred\r"), "\\x1b[31mred\\x0d");
        assert_eq!(text(b""), "");
    }
}
