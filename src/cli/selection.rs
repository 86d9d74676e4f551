//! Flags that bound how many series there are.

use clap::Args;

use super::{Problems, values};

#[derive(Debug, Args)]
pub(super) struct SelectionFlags {
    /// Exports only objects that a rule means, like `kind=map,type=lru_hash,name=cilium_*` or `owner_kind=pod,owner=kube-system/*`:
    /// all its terms hold; may be given several times. Totals are of all objects anyway
    #[arg(long, value_name = "RULE", global = true)]
    only: Vec<String>,

    /// Exports no objects that a rule means; may be given several times, and wins over --only
    #[arg(long, value_name = "RULE", global = true)]
    except: Vec<String>,

    /// Whether to export single objects, or only what the host and each owner have in all: on, off
    #[arg(long, value_name = "SWITCH", default_value = "on", global = true)]
    per_object: String,

    /// Exports at most so many series: totals first, then whole objects, owner by owner in turns [default: no limit]
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, global = true)]
    max_series: Option<String>,
}

/// Which single objects to export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Only those that one of these rules means, unless there is none.
    pub only: Vec<Rule>,
    /// None of those that one of these rules means.
    pub except: Vec<Rule>,
    /// Whether to export any.
    pub per_object: bool,
    /// How many series there may be in all.
    pub max_series: Option<u64>,
}

/// What to ask of an object, and a pattern for each answer.
pub type Rule = Vec<(RuleKey, String)>;

/// What a term of a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum RuleKey {
    Kind,
    Type,
    Name,
    Owner,
    OwnerKind,
}

const KEYS: [(&str, RuleKey); 5] = [
    ("kind", RuleKey::Kind),
    ("type", RuleKey::Type),
    ("name", RuleKey::Name),
    ("owner", RuleKey::Owner),
    ("owner_kind", RuleKey::OwnerKind),
];
const KINDS: &[&str] = &["program", "map", "link", "btf"];
const OWNER_KINDS: &[&str] = &["pod", "container", "unit", "process", "pin", "kernel"];

impl SelectionFlags {
    pub(super) fn selection(&self, problems: &mut Problems, warnings: &mut Vec<String>) -> Selection {
        let only = rules("--only", &self.only, problems);
        let except = rules("--except", &self.except, problems);
        let per_object = problems.keep("--per-object", values::switch(&self.per_object)).unwrap_or(true);
        if !(per_object || only.is_empty() && except.is_empty()) {
            warnings.push(
                "--only and --except change nothing: --per-object off leaves out all objects".to_owned(),
            );
        }
        let max_series =
            self.max_series.as_ref().and_then(|given| problems.keep("--max-series", values::series(given)));
        Selection { only, except, per_object, max_series }
    }
}

fn rules(flag: &str, given: &[String], problems: &mut Problems) -> Vec<Rule> {
    let mut rules = Vec::new();
    for given in given {
        let terms = given.split(',');
        rules.push(terms.filter_map(|term| problems.keep(flag, parse(term))).collect());
    }
    rules
}

fn parse(term: &str) -> Result<(RuleKey, String), String> {
    let words = KEYS.map(|(word, _)| word).join(", ");
    let Some((word, pattern)) = term.split_once('=') else {
        return Err(format!("the term {term:?} is not KEY=PATTERN, with one of {words} for KEY"));
    };
    let Some((_, key)) = KEYS.iter().find(|(key, _)| *key == word) else {
        return Err(format!("{word:?} is none of {words}"));
    };
    let choice = match key {
        RuleKey::Kind => KINDS,
        RuleKey::OwnerKind => OWNER_KINDS,
        RuleKey::Type | RuleKey::Name | RuleKey::Owner => &[],
    };
    if !choice.is_empty() && !choice.contains(&pattern) && !pattern.contains(['*', '?']) {
        return Err(format!(
            "{word}={pattern} means nothing, since {pattern:?} is none of {}",
            choice.join(", ")
        ));
    }
    Ok((*key, pattern.to_owned()))
}
