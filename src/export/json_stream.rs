//! A snapshot as JSON, written as it is made: the text of [`json::render`](super::json::render()) without the memory for it.
//! Entry point: [`write`].

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, PrettyFormatter, Serializer};

use super::json::{SCHEMA_VERSION, escaped};
use crate::model::{BootTime, Snapshot, WallClock};

#[derive(Serialize)]
struct WholeSnapshot<'a> {
    schema_version: u32,
    #[serde(flatten)]
    snapshot: &'a Snapshot,
}

/// Writes a snapshot with everything in it, with the date beside each time since boot. Invisible characters are escaped.
///
/// # Errors
///
/// Those of `out`.
pub fn write(snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    let dated = Dated {
        pretty: PrettyFormatter::new(),
        clock: snapshot.clock,
        key: Vec::new(),
        place: KeyPlace::Value,
    };
    let document = WholeSnapshot { schema_version: SCHEMA_VERSION, snapshot };
    document.serialize(&mut Serializer::with_formatter(&mut *out, dated))?;
    out.write_all(b"\n")
}

/// Holds each key back until its value begins: the date of a time comes before it.
struct Dated {
    pretty: PrettyFormatter<'static>,
    clock: WallClock,
    /// The key as it is written, with its quotes.
    key: Vec<u8>,
    place: KeyPlace,
}

#[derive(Clone, Copy)]
enum KeyPlace {
    /// Within a key, which is the first of its object or not.
    Key {
        is_first: bool,
    },
    /// Between a key and its value.
    AfterKey {
        is_first: bool,
    },
    Value,
}

impl Dated {
    /// Writes a key and what is between it and its value.
    fn begin_value<W: ?Sized + Write>(&mut self, out: &mut W, is_first: bool, key: &[u8]) -> io::Result<()> {
        self.pretty.begin_object_key(out, is_first)?;
        out.write_all(key)?;
        self.pretty.end_object_key(out)?;
        self.pretty.begin_object_value(out)
    }

    /// Writes the key that is held back, if there is one.
    fn release<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        let KeyPlace::AfterKey { is_first } = self.place else { return Ok(()) };
        self.place = KeyPlace::Value;
        let key = std::mem::take(&mut self.key);
        self.begin_value(out, is_first, &key)?;
        self.key = key;
        Ok(())
    }

    /// Writes a date before the key that is held back, if that is of a time.
    fn add_date<W: ?Sized + Write>(&mut self, out: &mut W, time: u64) -> io::Result<()> {
        let KeyPlace::AfterKey { is_first } = self.place else { return Ok(()) };
        let Some(name) = self.key.strip_suffix(b"_boot_ns\"") else { return Ok(()) };
        let key = [name, b"\""].concat();
        self.begin_value(out, is_first, &key)?;
        write!(out, "\"{}\"", self.clock.at(BootTime(time)))?;
        self.pretty.end_object_value(out)?;
        self.place = KeyPlace::AfterKey { is_first: false };
        Ok(())
    }
}

/// Values before which a key is written.
macro_rules! scalars {
    ($($write:ident: $type:ty),*) => {
        $(fn $write<W: ?Sized + Write>(&mut self, out: &mut W, value: $type) -> io::Result<()> {
            // The key of a map may be a number.
            if let KeyPlace::Key { .. } = self.place {
                return self.pretty.$write(&mut self.key, value);
            }
            self.release(out)?;
            self.pretty.$write(out, value)
        })*
    };
}

impl Formatter for Dated {
    scalars! {
        write_bool: bool, write_i8: i8, write_i16: i16, write_i32: i32, write_i64: i64, write_i128: i128, write_u8: u8,
        write_u16: u16, write_u32: u32, write_u128: u128, write_f32: f32, write_f64: f64, write_number_str: &str,
        write_raw_fragment: &str
    }

    fn write_null<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.release(out)?;
        self.pretty.write_null(out)
    }

    fn write_u64<W: ?Sized + Write>(&mut self, out: &mut W, value: u64) -> io::Result<()> {
        if let KeyPlace::Key { .. } = self.place {
            return self.pretty.write_u64(&mut self.key, value);
        }
        self.add_date(out, value)?;
        self.release(out)?;
        self.pretty.write_u64(out, value)
    }

    fn begin_string<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        if let KeyPlace::Key { .. } = self.place {
            return self.pretty.begin_string(&mut self.key);
        }
        self.release(out)?;
        self.pretty.begin_string(out)
    }

    fn end_string<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        match self.place {
            KeyPlace::Key { .. } => self.pretty.end_string(&mut self.key),
            _ => self.pretty.end_string(out),
        }
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        let text = escaped(text);
        match self.place {
            KeyPlace::Key { .. } => self.pretty.write_string_fragment(&mut self.key, &text),
            _ => self.pretty.write_string_fragment(out, &text),
        }
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()> {
        match self.place {
            KeyPlace::Key { .. } => self.pretty.write_char_escape(&mut self.key, escape),
            _ => self.pretty.write_char_escape(out, escape),
        }
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.release(out)?;
        self.pretty.begin_array(out)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.pretty.end_array(out)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, is_first: bool) -> io::Result<()> {
        self.pretty.begin_array_value(out, is_first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.pretty.end_array_value(out)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.release(out)?;
        self.pretty.begin_object(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.pretty.end_object(out)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, _: &mut W, is_first: bool) -> io::Result<()> {
        self.key.clear();
        self.place = KeyPlace::Key { is_first };
        Ok(())
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        if let KeyPlace::Key { is_first } = self.place {
            self.place = KeyPlace::AfterKey { is_first };
        }
        Ok(())
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.pretty.end_object_value(out)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::export::json;
    use crate::metrics::select::Selected;
    use crate::text::is_invisible;

    fn text(snapshot: &Snapshot) -> String {
        let mut text = Vec::new();
        write(snapshot, &mut text).expect("memory takes it");
        String::from_utf8(text).expect("JSON is UTF-8")
    }

    #[test]
    fn the_text_is_that_of_the_document_in_memory() {
        let golden: Snapshot = serde_json::from_str(include_str!("../../tests/golden/node/snapshot.json"))
            .expect("it is a snapshot");
        let mut odd = golden.clone();
        for program in odd.programs.iter_mut().flatten() {
            Arc::make_mut(&mut program.facts).name =
                "a_boot_ns\":1,\"\n\u{1}\u{202e}\u{9b}31m\u{e0041}".into();
        }
        let empty = Snapshot::begun(BootTime(1), BootTime(2), WallClock::default());
        for snapshot in [golden, odd, empty] {
            let expected = json::render(&Selected::all(Arc::new(snapshot.clone()))).expect("it is JSON");
            assert_eq!(text(&snapshot), expected);
            assert!(!expected.contains(|character| character != '\n' && is_invisible(character)));
            let again = json::parse(&expected).expect("it is a snapshot");
            let value = |snapshot: &Snapshot| serde_json::to_value(snapshot).expect("it is JSON");
            assert!(value(&again.snapshot) == value(&snapshot), "escapes mean the same");
        }
    }
}
