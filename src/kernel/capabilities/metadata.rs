//! Variables `bpf_metadata_*` of a program, by which its authors say what it is: constants in the section `.rodata`, which libbpf makes a
//! frozen array with one element. bpftool prints the same.
//!
//! Entry points: [`candidates`] and [`read`].

use std::os::fd::AsFd as _;

use nix::errno::Errno;

use super::super::btf::{Scalar, Types, Variable};
use super::super::reading::{ReadContext, nonzero};
use super::CALL;
use crate::model::enums::map_type;
use crate::model::{Kind, Map, MapFacts, MetadataVariable};
use crate::sys::bpf as sys;
use crate::sys::{Error, Result};
use crate::text::printable;

/// The start of the names.
const PREFIX: &[u8] = b"bpf_metadata_";

/// In the name of the map, after the first characters of the object's name; sections such as `.rodata.str` have one, too.
const SECTION: &str = ".rodata";

/// The most variables that are kept of a program.
const MAX_VARIABLES: usize = 16;

/// The most characters that are kept of a name and of a value.
const MAX_CHARACTERS: usize = 128;

/// The most maps of a program that are read.
const MAX_MAPS: usize = 4;

/// The largest element that is read, in bytes.
const MAX_VALUE: u32 = 1 << 20;

/// Variables of a map.
pub(super) type Variables = Vec<MetadataVariable>;

/// Returns those of a program's maps that can have such variables. `None` if it is not known yet: one is not in the table, or whether it
/// is frozen could not be read.
pub(super) fn candidates<'a>(ids: &[u32], maps: &'a [Map]) -> Option<Vec<&'a MapFacts>> {
    let mut candidates = Vec::new();
    for id in ids {
        let map = &maps[maps.binary_search_by_key(id, |map| map.facts.id).ok()?];
        let facts = &*map.facts;
        let is_section = facts.map_type.number == map_type::ARRAY
            && (facts.key_size, facts.max_entries) == (4, 1)
            && facts.btf_id.is_some()
            && facts.name.contains(SECTION);
        // What is not frozen can still change, and is no fact about the program.
        if is_section && map.frozen? && candidates.len() < MAX_MAPS {
            candidates.push(facts);
        }
    }
    Some(candidates)
}

/// Reads the variables of a map; `None` if it is gone.
///
/// # Errors
///
/// The failed call; `E2BIG` for an element of more than a megabyte.
pub(super) fn read(map: &MapFacts, cx: &mut ReadContext<'_>) -> Result<Option<Variables>> {
    let fd = match sys::fd_by_id(Kind::Map, map.id) {
        Ok(fd) => fd,
        Err(Error { errno: Errno::ENOENT, .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let info = sys::map_info(fd.as_fd())?.value;
    // The id may be that of another map by now.
    let is_same = (info.map_type, info.value_size) == (map.map_type.number, map.value_size);
    let (Some(btf_id), true) = (nonzero(info.btf_id), is_same) else { return Ok(None) };
    let Some(described) = cx.names.btf().described(btf_id)? else { return Ok(None) };
    if !has_variables(&described.types, info.btf_value_type_id) {
        return Ok(Some(Vec::new()));
    }
    if map.value_size > MAX_VALUE {
        return Err(Error::new(CALL, Errno::E2BIG));
    }
    let mut value = vec![0; map.value_size as usize];
    sys::MapEntries::of(fd.as_fd())?.lookup(&0_u32.to_ne_bytes(), &mut value)?;
    Ok(Some(variables(&described.types, info.btf_value_type_id, &value)))
}

/// Returns the variables of several maps, ascending by name and each name once, as many as are kept.
pub(super) fn merged(mut variables: Variables) -> Variables {
    variables.sort_by(|one, other| one.key.cmp(&other.key));
    variables.dedup_by(|next, kept| next.key == kept.key);
    variables.truncate(MAX_VARIABLES);
    variables
}

fn has_variables(types: &Types, section: u32) -> bool {
    types.variables(section).any(|variable| variable.name.starts_with(PREFIX))
}

/// Returns the variables of a section with this content.
pub(in super::super) fn variables(types: &Types, section: u32, content: &[u8]) -> Variables {
    let found = types.variables(section).filter_map(|variable| {
        let key = variable.name.strip_prefix(PREFIX).filter(|key| !key.is_empty())?;
        Some(MetadataVariable { key: shortened(printable(key)), value: value(&variable, content)? })
    });
    found.take(MAX_VARIABLES).collect()
}

/// Returns the value of a variable; `None` for a type that is neither text nor a number.
fn value(variable: &Variable<'_>, content: &[u8]) -> Option<String> {
    let bytes = content.get(variable.offset..variable.offset.checked_add(variable.size)?)?;
    let number = || {
        let mut number = [0; 8];
        let room = if cfg!(target_endian = "little") {
            number.get_mut(..bytes.len())?
        } else {
            number.get_mut(8_usize.checked_sub(bytes.len())?..)?
        };
        room.copy_from_slice(bytes);
        Some(u64::from_ne_bytes(number))
    };
    Some(match variable.scalar? {
        Scalar::Text => shortened(printable(bytes)),
        Scalar::Bool => (number()? != 0).to_string(),
        Scalar::Unsigned => number()?.to_string(),
        Scalar::Signed => {
            let unused = 64_usize.checked_sub(8 * bytes.len()).filter(|&unused| unused < 64)?;
            ((number()? << unused).cast_signed() >> unused).to_string()
        }
    })
}

/// Returns the start of a text.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_CHARACTERS) {
        text.truncate(end);
    }
    text
}
