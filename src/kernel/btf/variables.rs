//! Variables of a section of an object file (`BTF_KIND_DATASEC`): where in the section each is, and how to read it.
//!
//! Entry point: [`Types::variables`].

use super::{KIND_ARRAY, KIND_DATASEC, KIND_INT, KIND_VAR, TYPE_LEN, Types, head, word};

/// `BTF_INT_SIGNED` and `BTF_INT_BOOL`.
const SIGNED: u32 = 1;
const BOOL: u32 = 4;

/// `struct btf_var_secinfo`: type, offset and size.
const VARIABLE_LEN: usize = 12;

/// A variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variable<'a> {
    pub(crate) name: &'a [u8],
    /// Its place in the section, in bytes.
    pub(crate) offset: usize,
    /// In bytes.
    pub(crate) size: usize,
    /// How to read it; `None` for structures, pointers and arrays of anything but bytes.
    pub(crate) scalar: Option<Scalar>,
}

/// How to read a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    /// An array of bytes, up to the first zero.
    Text,
    /// A number.
    Signed,
    /// A number that is not negative.
    Unsigned,
    /// False if it is zero.
    Bool,
}

impl Types {
    /// Returns the variables of a section, in the order of the object file; none for another type.
    pub(crate) fn variables(&self, section: u32) -> impl Iterator<Item = Variable<'_>> {
        let section = self.locate(section).and_then(|(object, at)| {
            let section = head(&object.data, at).filter(|head| head.kind == KIND_DATASEC)?;
            Some((object, at + TYPE_LEN..section.next))
        });
        section.into_iter().flat_map(move |(object, variables)| {
            variables.step_by(VARIABLE_LEN).filter_map(move |at| self.variable(&object.data, at))
        })
    }

    fn variable(&self, section: &[u8], at: usize) -> Option<Variable<'_>> {
        let (object, variable) = self.locate(word(section, at)?)?;
        let start = head(&object.data, variable).filter(|head| head.kind == KIND_VAR)?;
        Some(Variable {
            name: object.name(start.name)?,
            offset: word(section, at + 4)? as usize,
            size: word(section, at + 8)? as usize,
            scalar: self.scalar(word(&object.data, variable + 8)?),
        })
    }

    fn scalar(&self, type_id: u32) -> Option<Scalar> {
        let (object, at, kind) = self.unqualified(type_id)?;
        if kind == KIND_ARRAY {
            let (element, at, kind) = self.unqualified(word(&object.data, at + TYPE_LEN)?)?;
            let is_byte = kind == KIND_INT && word(&element.data, at + 8)? == 1;
            return is_byte.then_some(Scalar::Text);
        }
        let encoding = word(&object.data, at + TYPE_LEN).filter(|_| kind == KIND_INT)? >> 24;
        Some(if encoding & BOOL != 0 {
            Scalar::Bool
        } else if encoding & SIGNED != 0 {
            Scalar::Signed
        } else {
            Scalar::Unsigned
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::object;
    use super::super::{KIND_CONST, KIND_STRUCT, KIND_TYPEDEF};
    use super::*;

    const NAMES: &[u8] = b"\0char\0u32\0text\0number\0pair\0.rodata\0";
    /// Where they begin.
    const CHAR: u32 = 1;
    const U32: u32 = 6;
    const TEXT: u32 = 10;
    const NUMBER: u32 = 15;
    const PAIR: u32 = 22;
    const SECTION: u32 = 27;

    fn example() -> Types {
        let types: [&[u32]; 10] = [
            &[CHAR, KIND_INT << 24, 1, SIGNED << 24 | 8],
            &[0, KIND_CONST << 24, 1],
            &[0, KIND_ARRAY << 24, 0, 2, 1, 4],
            &[TEXT, KIND_VAR << 24, 3, 1],
            &[0, KIND_INT << 24, 4, 32],
            &[U32, KIND_TYPEDEF << 24, 5],
            &[NUMBER, KIND_VAR << 24, 6, 1],
            &[0, KIND_STRUCT << 24, 8],
            &[PAIR, KIND_VAR << 24, 8, 1],
            &[SECTION, KIND_DATASEC << 24 | 4, 16, 4, 0, 4, 7, 4, 4, 9, 8, 8, 1, 0, 1],
        ];
        Types::parse(object(&types, NAMES), None)
    }

    #[test]
    fn variables_have_their_place_and_how_to_read_them() {
        let types = example();
        let variable = |name: &'static str, offset, size, scalar| Variable {
            name: name.as_bytes(),
            offset,
            size,
            scalar,
        };
        let expected = [
            variable("text", 0, 4, Some(Scalar::Text)),
            variable("number", 4, 4, Some(Scalar::Unsigned)),
            variable("pair", 8, 8, None),
        ];
        assert!(types.variables(10).eq(expected), "the fourth is no variable");
        assert_eq!(types.variables(9).count(), 0, "it is no section");
        assert_eq!(types.variables(11).count(), 0, "there is no such type");
    }
}
