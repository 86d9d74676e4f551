//! The settings in force, as they may be shown: each flag that has a value, and the variables of OpenTelemetry that are set.
//! Entry point: [`in_force`]. No secret is among them.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

use super::environment::Environment;
use super::{flags, otel};
use crate::model::{SettingInForce, SettingOrigin};

/// What stands for a secret.
const REDACTED: &str = "<redacted>";

/// A flag that is set.
pub(super) struct Given {
    /// What a user wrote: the flag with its dashes, or the variable.
    pub(super) setting: String,
    /// For the parser: `--flag=value`, or a value without a flag.
    pub(super) argument: OsString,
}

/// Returns the settings in force for a command, given what is set by flags and variables.
pub(super) fn in_force(
    command: &Command,
    given: &[(String, Given)],
    environment: &Environment,
) -> Vec<SettingInForce> {
    let flags = command.get_arguments().filter_map(|arg| of_flag(arg, given));
    // Those that stand in for a flag are among the flags.
    let is_flag = |name: &str| given.iter().any(|(_, given)| given.setting == name);
    let honoured = otel::honoured_variables().flat_map(otel::Variable::names);
    let of_otel = honoured.filter(|name| !is_flag(name)).filter_map(|name| {
        let value = shown(name, environment.get(name)?);
        Some(SettingInForce { name: name.to_owned(), value, origin: SettingOrigin::Environment })
    });
    flags.chain(of_otel).collect()
}

/// Returns a flag with its value; `None` if it has none.
fn of_flag(arg: &Arg, given: &[(String, Given)]) -> Option<SettingInForce> {
    flags::variable(arg)?;
    let long = arg.get_long()?;
    let all_of = |id: &str| given.iter().filter(|(known, _)| known == id).map(|(_, given)| given).collect();
    let origin = |given: &[&Given]| match given.first() {
        Some(given) if given.setting.starts_with("--") => SettingOrigin::Flag,
        Some(_) => SettingOrigin::Environment,
        None => SettingOrigin::Default,
    };
    if let Some(name) = flags::switch_of(arg) {
        let (off, on): (Vec<&Given>, Vec<&Given>) =
            (all_of(arg.get_id().as_str()), all_of(&flags::undoing_id(&name)));
        let (value, by) = if off.is_empty() { ("true", on) } else { ("false", off) };
        return Some(SettingInForce {
            name: format!("--{name}"),
            value: value.to_owned(),
            origin: origin(&by),
        });
    }
    let given: Vec<&Given> = all_of(arg.get_id().as_str());
    let name = format!("--{long}");
    let values: Vec<String> = if given.is_empty() {
        arg.get_default_values().iter().map(|value| shown(&name, value)).collect()
    } else {
        let value = |given: &&Given| {
            let argument = given.argument.to_string_lossy();
            let value = argument
                .strip_prefix(&name)
                .map_or(&*argument, |rest| rest.strip_prefix('=').unwrap_or(rest));
            shown(&name, value.as_ref())
        };
        given.iter().map(value).collect()
    };
    let value = values.join(", ");
    (!value.is_empty()).then(|| SettingInForce { name, value, origin: origin(&given) })
}

/// Returns the value of a flag or variable without its secrets: headers, and the user, the password and the query of a URL.
fn shown(name: &str, value: &OsStr) -> String {
    let value = value.to_string_lossy();
    if name.to_ascii_lowercase().ends_with("headers") {
        return REDACTED.to_owned();
    }
    without_password(&value)
}

/// Any value may be an address, also without a scheme. What is before the last `@` may be a password, whatever it has in it.
fn without_password(value: &str) -> String {
    let is_scheme = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.chars().all(|each| each.is_ascii_alphanumeric() || "+-.".contains(each))
    };
    let scheme = value.split_once("://").filter(|(scheme, _)| is_scheme(scheme));
    let start = scheme.map_or(0, |(scheme, _)| scheme.len() + "://".len());
    let (scheme, rest) = value.split_at(start);
    let (has_user, rest) = match rest.rsplit_once('@') {
        // An `@` of the query: what is after it may be a part of a token.
        Some((before, _)) if before.contains(['?', '#']) => return format!("{scheme}{REDACTED}"),
        Some((_, host)) => (true, host),
        None => (false, rest),
    };
    let user = if has_user { format!("{REDACTED}@") } else { String::new() };
    match rest.find(['?', '#']) {
        Some(query) => format!("{scheme}{user}{}{REDACTED}", &rest[..=query]),
        None => format!("{scheme}{user}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Invocation, parse};

    fn settings(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<SettingInForce> {
        let arguments = std::iter::once("bpf-metrics-exporter").chain(arguments.iter().copied());
        let variables = variables.iter().map(|&(name, value)| (name.into(), value.into()));
        match parse(arguments.map(OsString::from).collect(), variables) {
            Ok(Invocation::Run { settings, .. }) => settings,
            other => panic!("no exporter: {other:?}"),
        }
    }

    fn setting(settings: &[SettingInForce], name: &str) -> Option<(String, SettingOrigin)> {
        let mut found = settings.iter().filter(|setting| setting.name == name);
        let first = found.next().map(|setting| (setting.value.clone(), setting.origin));
        assert!(found.next().is_none(), "{name} is there once");
        first
    }

    #[test]
    fn each_setting_has_its_value_and_its_origin() {
        let arguments = [
            "--web.listen-address=:1",
            "--web.listen-address=:2",
            "--no-seccomp",
            "--run-stats",
            "sample=1s/10s",
        ];
        let variables = [
            ("BPF_METRICS_EXPORTER_INTERVAL", "30s"),
            ("BPF_METRICS_EXPORTER_LANDLOCK", "false"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "5000"),
            ("UNRELATED", "x"),
        ];
        let settings = settings(&arguments, &variables);
        let of = |name| setting(&settings, name);
        assert_eq!(of("--web.listen-address"), Some((":1, :2".to_owned(), SettingOrigin::Flag)));
        assert_eq!(of("--seccomp"), Some(("false".to_owned(), SettingOrigin::Flag)));
        assert_eq!(of("--run-stats"), Some(("sample=1s/10s".to_owned(), SettingOrigin::Flag)));
        assert_eq!(of("--interval"), Some(("30s".to_owned(), SettingOrigin::Environment)));
        assert_eq!(of("--landlock"), Some(("false".to_owned(), SettingOrigin::Environment)));
        assert_eq!(of("--harden-process"), Some(("true".to_owned(), SettingOrigin::Default)));
        assert_eq!(of("--web.page"), Some(("true".to_owned(), SettingOrigin::Default)));
        assert_eq!(of("OTEL_EXPORTER_OTLP_TIMEOUT"), Some(("5000".to_owned(), SettingOrigin::Environment)));
        assert_eq!((of("--web.config.file"), of("--help"), of("UNRELATED")), (None, None, None));
    }

    #[test]
    fn secrets_are_not_among_them() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:hunter2@collector:1/v1?token=hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hunter2"),
            ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "authorization=hunter2"),
            ("HTTPS_PROXY", "http://user:hunter2@proxy"),
        ];
        let environment = Environment::new(variables.map(|(name, value)| (name.into(), value.into())));
        let settings = in_force(&flags::command(), &[], &environment);
        assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
        let endpoint = setting(&settings, "OTEL_EXPORTER_OTLP_ENDPOINT").expect("it is set");
        assert_eq!(endpoint.0, "https://<redacted>@collector:1/v1?<redacted>");
        for headers in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_LOGS_HEADERS"] {
            assert_eq!(setting(&settings, headers).map(|it| it.0), Some(REDACTED.to_owned()), "{headers}");
        }
    }

    #[test]
    fn no_part_of_a_password_or_a_query_is_shown() {
        for (value, expected) in [
            ("https://user:hun@ter2@host:1/v1", "https://<redacted>@host:1/v1"),
            ("https://user:hun?ter2@host", "https://<redacted>"),
            ("https://host/v1?token=hun@ter2", "https://<redacted>"),
            ("https://host/v1#hunter2", "https://host/v1#<redacted>"),
            ("user:hunter2@collector:4317", "<redacted>@collector:4317"),
            ("user:hun://ter2@collector:4317", "<redacted>@collector:4317"),
            ("collector:4317?token=hunter2", "collector:4317?<redacted>"),
            ("unix:/run/collector.sock", "unix:/run/collector.sock"),
            ("http://[::1]:4318", "http://[::1]:4318"),
        ] {
            assert_eq!(without_password(value), expected, "{value}");
        }
    }

    #[test]
    fn a_value_may_begin_with_the_sign_that_is_before_it() {
        let settings = settings(&["--node-name==a"], &[]);
        assert_eq!(setting(&settings, "--node-name"), Some(("=a".to_owned(), SettingOrigin::Flag)));
    }
}
