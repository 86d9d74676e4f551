//! Brings the command line and the environment together and checks every value. Entry point: [`resolve`].
//!
//! clap stops at the first wrong value. So the arguments are first split without a look at values, each value is then checked by
//! itself, and what is right is parsed in the end. Structural mistakes, such as an unknown flag, still stop at once.

use std::error::Error as _;
use std::ffi::{OsStr, OsString};

use clap::builder::OsStringValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, FromArgMatches as _};

use super::environment::Environment;
use super::flags::{self, Flags, PROGRAM};
use super::settings::{self, Given};
use super::{ConfigErrors, push};
use crate::model::SettingInForce;

/// What became of the arguments.
pub(super) enum Resolved {
    /// The flags, and what is in force by them.
    Flags(Box<Flags>, Vec<SettingInForce>),
    /// A text that was asked for.
    Print(String),
    /// Nothing, for reasons that are among the errors.
    Nothing,
}

/// Makes flags of arguments (the first is the program's name) and variables.
pub(super) fn resolve(
    arguments: Vec<OsString>,
    environment: &Environment,
    errors: &mut ConfigErrors,
    warnings: &mut Vec<String>,
) -> Resolved {
    let typed = flags::command();
    let matches = match untyped(typed.clone()).try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Resolved::Print(error.to_string());
        }
        Err(error) => {
            errors.lines.push(one_line(&error));
            return Resolved::Nothing;
        }
    };
    let mut given = given_on_command_line(&typed, &matches);
    let mut prefix = vec![OsString::from(PROGRAM)];
    let mut target = &typed;
    if let Some((name, matches)) = matches.subcommand() {
        target = typed.find_subcommand(name).expect("clap found it");
        prefix.push(name.into());
        let taken = |id: &str| target.get_arguments().any(|arg| arg.get_id() == id);
        for (_, Given { setting, .. }) in given.extract_if(.., |(id, _)| !taken(id)) {
            errors.lines.push(format!("{setting} does not apply to the subcommand {name}"));
        }
        given.extend(given_on_command_line(target, matches));
    }
    let mut ignored = Vec::new();
    // A subcommand does without the noise of variables that are set for the exporter.
    let of_otel = if prefix.len() == 1 { &mut *warnings } else { &mut ignored };
    add_variables(target, environment, &mut given, errors, of_otel);
    let known: Vec<String> = std::iter::once(&typed)
        .chain(typed.get_subcommands())
        .flat_map(|command| command.get_arguments().filter_map(flags::variable))
        .collect();
    environment.warn_of_unknown(&known, warnings);

    let parse =
        |given: &[&OsString]| typed.clone().try_get_matches_from(prefix.iter().chain(given.iter().copied()));
    given.retain(|(_, Given { setting, argument })| match parse(&[argument]) {
        Err(error) if error.kind() != ErrorKind::MissingRequiredArgument => {
            errors.lines.extend(wrong_value(setting, &error));
            false
        }
        _ => true,
    });
    let arguments: Vec<_> = given.iter().map(|(_, given)| &given.argument).collect();
    let flags = parse(&arguments).and_then(|matches| Flags::from_arg_matches(&matches));
    match flags {
        Ok(flags) => Resolved::Flags(Box::new(flags), settings::in_force(target, &given, environment)),
        // A flag that is given before the subcommand and after it, or a missing one whose value was wrong.
        Err(error) => {
            if errors.lines.is_empty() {
                errors.lines.push(one_line(&error));
            }
            Resolved::Nothing
        }
    }
}

/// The same flags, with any text as a value.
fn untyped(command: Command) -> Command {
    let any = |arg: Arg| {
        let takes_values = arg.get_action().takes_values();
        if takes_values { arg.value_parser(OsStringValueParser::new()) } else { arg }
    };
    command.mut_args(any).mut_subcommands(|command| command.mut_args(any))
}

/// What the command line sets, with the id of each flag.
fn given_on_command_line(command: &Command, matches: &ArgMatches) -> Vec<(String, Given)> {
    let mut all = Vec::new();
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let flag = arg.get_long().map(|long| format!("--{long}"));
        if !arg.get_action().takes_values() {
            let flag = flag.expect("a switch has a name");
            all.push((id.to_owned(), Given { argument: OsString::from(&flag), setting: flag }));
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            all.push((id.to_owned(), given(arg, value, None)));
        }
    }
    all
}

fn given(arg: &Arg, value: &OsStr, variable: Option<&str>) -> Given {
    let (mut argument, mut setting) = (OsString::new(), arg.get_id().to_string());
    if let Some(long) = arg.get_long() {
        setting = format!("--{long}");
        argument.push(&setting);
        argument.push("=");
    }
    argument.push(value);
    Given { setting: variable.map_or(setting, str::to_owned), argument }
}

/// Adds what only variables set.
fn add_variables(
    command: &Command,
    environment: &Environment,
    all: &mut Vec<(String, Given)>,
    errors: &mut ConfigErrors,
    warnings: &mut Vec<String>,
) {
    for arg in command.get_arguments() {
        let (id, switch) = (arg.get_id().as_str(), flags::switch_of(arg));
        let is_given = |id: &str| all.iter().any(|(given, _)| given == id);
        if is_given(id) || switch.as_deref().is_some_and(|name| is_given(&flags::undoing_id(name))) {
            continue;
        }
        let Some(variable) = flags::variable(arg) else { continue };
        let Some(value) = environment.get(&variable) else {
            let otel = push::as_flag(id, environment, warnings);
            all.extend(otel.map(|(name, value)| (id.to_owned(), given(arg, value.as_ref(), Some(name)))));
            continue;
        };
        match (switch, flags::separator(arg), value.to_str()) {
            (Some(name), _, Some("true")) => {
                all.push((id.to_owned(), Given { argument: format!("--{name}").into(), setting: variable }));
            }
            (Some(name), _, Some("false")) => {
                all.push((
                    id.to_owned(),
                    Given { argument: format!("--no-{name}").into(), setting: variable },
                ));
            }
            (Some(_), _, _) => {
                errors
                    .lines
                    .push(format!("{variable}: {:?} is neither true nor false", value.to_string_lossy()));
            }
            (None, Some(separator), Some(text)) => {
                let values = text.split(separator).map(str::trim).filter(|value| !value.is_empty());
                all.extend(values.map(|value| (id.to_owned(), given(arg, value.as_ref(), Some(&variable)))));
            }
            (None, _, _) => all.push((id.to_owned(), given(arg, value, Some(&variable)))),
        }
    }
}

/// A line for each thing that is wrong with a value.
fn wrong_value(setting: &str, error: &clap::Error) -> Vec<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    };
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let problem = match error.kind() {
        ErrorKind::InvalidValue if value.is_empty() => "the value is empty".to_owned(),
        ErrorKind::InvalidValue => {
            let near = text(ContextKind::SuggestedValue)
                .map_or_else(String::new, |near| format!("; did you mean {near}?"));
            let valid = text(ContextKind::ValidValue).unwrap_or_default();
            format!("{value:?} is none of {valid}{near}")
        }
        ErrorKind::ValueValidation => match error.source() {
            Some(source) => source.to_string(),
            None => format!("{value:?} is not valid"),
        },
        ErrorKind::InvalidUtf8 => "the value is not UTF-8".to_owned(),
        _ => return vec![one_line(error)],
    };
    problem.lines().map(|line| format!("{setting}: {line}")).collect()
}

/// clap's message in one line, with its suggestion.
fn one_line(error: &clap::Error) -> String {
    if let (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(missing))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    {
        return format!("{} is missing; --help shows what it may be", missing.join(", "));
    }
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().map_or("wrong arguments", |line| line.strip_prefix("error: ").unwrap_or(line));
    match lines.find_map(|line| line.strip_prefix("tip: ")) {
        Some(tip) => format!("{first}; {tip}"),
        None => format!("{first}; --help lists all flags"),
    }
}
