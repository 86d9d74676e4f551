//! Rules that match objects: `kind=map,name=cilium_*`.
//! Entry point: [`Rule::matches`].

use std::fmt;
use std::str::Chars;

use crate::model::{BootTime, Btf, Kind, Link, Map, ObjectType, Owner, Program};

/// Property that a term of a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The kind of object: `program`, `map`, `link` or `btf`.
    Kind,
    /// The type among those of its kind: the word, or the number.
    Type,
    /// The name.
    Name,
    /// Name of the owner.
    Owner,
    /// Kind of owner.
    OwnerKind,
}

impl Key {
    /// Returns the word for it in a rule.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Type => "type",
            Self::Name => "name",
            Self::Owner => "owner",
            Self::OwnerKind => "owner_kind",
        }
    }
}

/// Matches the objects for which all its terms hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Properties and their patterns: `*` matches any text, `?` any character.
    pub terms: Vec<(Key, String)>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, pattern)) in self.terms.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}={pattern}", key.as_str())?;
        }
        Ok(())
    }
}

/// Properties of an object. One that is missing or unknown matches no pattern.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits<'a> {
    pub(super) kind: Kind,
    object_type: Option<&'a ObjectType>,
    name: Option<&'a str>,
    pub(super) owner: Option<&'a Owner>,
    /// When it was loaded, or else first seen. `None` for an object that is not in the reading.
    pub(super) since: Option<BootTime>,
}

impl Traits<'_> {
    /// Returns the properties of an object that is referred to but not in the reading.
    pub(super) const fn unknown(kind: Kind) -> Self {
        Self { kind, object_type: None, name: None, owner: None, since: None }
    }
}

impl<'a> From<&'a Program> for Traits<'a> {
    fn from(Program { facts, owner, .. }: &'a Program) -> Self {
        Self {
            kind: Kind::Program,
            object_type: Some(&facts.program_type),
            name: Some(&facts.name),
            owner: owner.as_deref(),
            since: Some(facts.loaded_at),
        }
    }
}

impl<'a> From<&'a Map> for Traits<'a> {
    fn from(Map { facts, owner, .. }: &'a Map) -> Self {
        Self {
            kind: Kind::Map,
            object_type: Some(&facts.map_type),
            name: Some(&facts.name),
            owner: owner.as_deref(),
            since: Some(facts.first_seen),
        }
    }
}

impl<'a> From<&'a Link> for Traits<'a> {
    fn from(Link { facts, owner, .. }: &'a Link) -> Self {
        Self {
            kind: Kind::Link,
            object_type: Some(&facts.link_type),
            name: None,
            owner: owner.as_deref(),
            since: Some(facts.first_seen),
        }
    }
}

impl<'a> From<&'a Btf> for Traits<'a> {
    fn from(btf: &'a Btf) -> Self {
        Self {
            kind: Kind::Btf,
            object_type: None,
            name: btf.name.as_deref(),
            owner: None,
            since: Some(btf.first_seen),
        }
    }
}

impl Rule {
    /// Returns whether it matches an object.
    pub(super) fn matches(&self, traits: Traits<'_>) -> bool {
        self.terms.iter().all(|(key, pattern)| match key {
            Key::Kind => is_like(pattern, traits.kind.as_str()),
            Key::Type => traits.object_type.is_some_and(|ObjectType { number, name }| {
                name.as_ref().is_some_and(|name| is_like(pattern, name)) || pattern.parse() == Ok(*number)
            }),
            Key::Name => traits.name.is_some_and(|name| is_like(pattern, name)),
            Key::Owner => traits.owner.is_some_and(|owner| is_like(pattern, owner.name())),
            Key::OwnerKind => traits.owner.is_some_and(|owner| is_like(pattern, owner.kind().as_str())),
        })
    }
}

/// Returns whether a pattern matches all of a text.
///
/// Only the last star ever has to be extended: extending an earlier one would leave the later one the same text to choose from.
/// So the number of steps is at most the product of both lengths.
pub(super) fn is_like(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // The pattern after the last star, and the text after what that star has taken.
    let mut star: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        let here = text.clone();
        match (pattern.next(), text.next()) {
            (Some('*'), _) => {
                text = here;
                star = Some((pattern.clone(), text.clone()));
            }
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {}
            (_, Some(_)) => {
                let Some((after_star, rest)) = &mut star else { return false };
                rest.next();
                (pattern, text) = (after_star.clone(), rest.clone());
            }
            // Extending a star leaves even less text.
            (Some(_), None) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Identity, Pod};

    /// By definition: slow, but evidently right.
    fn is_like_by_definition(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['*', rest @ ..] => (0..=text.len()).any(|taken| is_like_by_definition(rest, &text[taken..])),
            ['?', rest @ ..] => !text.is_empty() && is_like_by_definition(rest, &text[1..]),
            [wanted, rest @ ..] => text.first() == Some(wanted) && is_like_by_definition(rest, &text[1..]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn patterns_match_as_defined(pattern in "[ab*?é]{0,9}", text in "[abé]{0,9}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(is_like(&pattern, &text), is_like_by_definition(&p, &t));
        }

        #[test]
        fn every_text_matches_itself_and_a_star(text in "\\PC{0,20}") {
            prop_assert!(is_like(&text, &text));
            prop_assert!(is_like("*", &text));
            let literal = text.replace(['*', '?'], "");
            prop_assert!(!is_like(&(literal.clone() + "?"), &literal));
        }
    }

    #[test]
    fn many_stars_do_not_backtrack_exponentially() {
        let (pattern, text) = ("*a".repeat(50) + "*b", "a".repeat(10_000));
        let begun = Instant::now();
        assert!(!is_like(&pattern, &text));
        // Backtracking over every star would outlast the universe.
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    fn rule(terms: &[(Key, &str)]) -> Rule {
        Rule { terms: terms.iter().map(|&(key, pattern)| (key, pattern.to_owned())).collect() }
    }

    #[test]
    fn terms_match_the_properties_of_an_object() {
        let pod = Pod {
            key: "uid".into(),
            uid: None,
            namespace: Some("kube-system".into()),
            name: Some("cilium-x".into()),
        };
        let owner = Arc::new(Owner::from(Identity { pod: Some(pod), ..Identity::default() }));
        let word = ObjectType { number: 9, name: Some("lru_hash".into()) };
        let number = ObjectType { number: 9, name: None };
        let map = Traits {
            kind: Kind::Map,
            object_type: Some(&word),
            name: Some("cilium_ct4"),
            owner: Some(&owner),
            since: None,
        };
        let newer = Traits { object_type: Some(&number), ..map };
        let bare = Traits::unknown(Kind::Map);
        for (terms, of_map, of_newer, of_bare) in [
            (&[][..], true, true, true),
            (&[(Key::Kind, "map")], true, true, true),
            (&[(Key::Kind, "ma?")], true, true, true),
            (&[(Key::Kind, "program")], false, false, false),
            (&[(Key::Type, "lru_*")], true, false, false),
            (&[(Key::Type, "9")], true, true, false),
            (&[(Key::Type, "90")], false, false, false),
            (&[(Key::Type, "*")], true, false, false),
            (&[(Key::Name, "cilium_*")], true, true, false),
            (&[(Key::Name, "CILIUM_*")], false, false, false),
            (&[(Key::Name, "cilium")], false, false, false),
            (&[(Key::Name, "*")], true, true, false),
            (&[(Key::Owner, "kube-system/*")], true, true, false),
            (&[(Key::OwnerKind, "pod")], true, true, false),
            (&[(Key::OwnerKind, "unit")], false, false, false),
            (&[(Key::Kind, "map"), (Key::Name, "cilium_*"), (Key::Name, "*4")], true, true, false),
            (&[(Key::Kind, "map"), (Key::Name, "cilium_*"), (Key::Name, "*6")], false, false, false),
        ] {
            let rule = rule(terms);
            for (what, traits, expected) in
                [("map", map, of_map), ("newer", newer, of_newer), ("bare", bare, of_bare)]
            {
                assert_eq!(rule.matches(traits), expected, "{rule} of {what}");
            }
        }
    }

    #[test]
    fn rules_display_as_given() {
        let rule = rule(&[(Key::Kind, "map"), (Key::OwnerKind, "p*")]);
        assert_eq!(rule.to_string(), "kind=map,owner_kind=p*");
    }
}
