//! Rules of a selection as they are written in flags: `kind=map,name=cilium_*`. Entry point: [`parse`].

use super::values::nearest;
use crate::metrics::select::{Key, Rule};
use crate::model::enums::{link_type, map_type, program_type};
use crate::model::{Kind, OwnerKind};

const KEYS: [Key; 5] = [Key::Kind, Key::Type, Key::Name, Key::Owner, Key::OwnerKind];
const OWNER_KINDS: [OwnerKind; 6] = [
    OwnerKind::Pod,
    OwnerKind::Container,
    OwnerKind::Unit,
    OwnerKind::Process,
    OwnerKind::Pin,
    OwnerKind::Kernel,
];
const KINDS: [Kind; 4] = [Kind::Program, Kind::Map, Kind::Link, Kind::Btf];

/// A rule, or a line for each term of it that is wrong.
pub(super) fn parse(text: &str) -> Result<Rule, String> {
    let (mut terms, mut problems) = (Vec::new(), Vec::new());
    for term in text.split(',') {
        match parse_term(term) {
            Ok(term) => terms.push(term),
            Err(problem) => problems.push(problem),
        }
    }
    problems.extend(check_types(&terms));
    if problems.is_empty() { Ok(Rule { terms }) } else { Err(problems.join("\n")) }
}

fn parse_term(term: &str) -> Result<(Key, String), String> {
    let keys = KEYS.map(Key::as_str);
    let Some((word, pattern)) = term.split_once('=') else {
        return Err(format!("the term {term:?} is not KEY=PATTERN, with one of {} for KEY", keys.join(", ")));
    };
    let key = KEYS.into_iter().find(|key| key.as_str() == word);
    let key = key.ok_or_else(|| none_of("key", word, &keys))?;
    match key {
        Key::Kind => known("kind", pattern, &KINDS.map(Kind::as_str))?,
        Key::OwnerKind => known("owner kind", pattern, &OWNER_KINDS.map(OwnerKind::as_str))?,
        Key::Type | Key::Name | Key::Owner => {}
    }
    Ok((key, pattern.to_owned()))
}

/// Types that no object of the rule's kind has. A number stands for a type that is newer than this program.
fn check_types(terms: &[(Key, String)]) -> Vec<String> {
    let kind = terms.iter().find_map(|(key, pattern)| {
        KINDS.into_iter().find(|kind| *key == Key::Kind && kind.as_str() == pattern)
    });
    let kinds = KINDS.into_iter().filter(|&each| kind.is_none_or(|kind| kind == each));
    let names: Vec<&str> = kinds.flat_map(types).map(|&(_, _, word)| word).collect();
    let what = kind.map_or_else(|| "type".to_owned(), |kind| format!("{} type", kind.as_str()));
    let types = terms.iter().filter(|(key, pattern)| *key == Key::Type && pattern.parse::<u32>().is_err());
    types.filter_map(|(_, pattern)| known(&what, pattern, &names).err()).collect()
}

/// The types of one kind of object: name, number and word. BTF has none.
fn types(kind: Kind) -> &'static [(&'static str, u32, &'static str)] {
    match kind {
        Kind::Program => program_type::ALL,
        Kind::Map => map_type::ALL,
        Kind::Link => link_type::ALL,
        Kind::Btf => &[],
    }
}

/// Refuses a pattern without wildcards that equals none of the words.
fn known(what: &str, pattern: &str, words: &[&str]) -> Result<(), String> {
    if pattern.contains(['*', '?']) || words.contains(&pattern) {
        Ok(())
    } else {
        Err(none_of(what, pattern, words))
    }
}

/// Names the nearest word, or all of them if none is near.
fn none_of(what: &str, given: &str, words: &[&str]) -> String {
    match nearest(given, words.iter().copied()) {
        Some(near) => format!("there is no {what} {given:?}; did you mean {near}?"),
        None if words.is_empty() => format!("there is no {what}"),
        // Too many for a message.
        None if words.len() > 10 => format!("there is no {what} {given:?}"),
        None => format!("there is no {what} {given:?}; there are {}", words.join(", ")),
    }
}
