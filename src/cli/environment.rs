//! The environment: values of variables, and warnings of names that look like ours and are not. Entry point: [`Environment`].

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::flags::PREFIX;
use super::otel::{self, Variable};
use super::{ConfigErrors, values};
use crate::export::otlp::encode::Signal;

/// The environment. An empty variable counts as unset, as the OpenTelemetry specification has it.
#[derive(Debug)]
pub(super) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    pub(super) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(variables.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// The value of a variable that is no part of the OpenTelemetry specification.
    pub(super) fn text(&self, name: &'static str, errors: &mut ConfigErrors) -> Option<&str> {
        let text = self.get(name)?.to_str().ok_or_else(|| "the value is not UTF-8".to_owned());
        errors.keep(name, text)
    }

    /// The first of several variables that is set to text, and its name.
    pub(super) fn first(&self, names: &[&'static str]) -> Option<(&'static str, &str)> {
        names.iter().find_map(|&name| Some((name, self.get(name)?.to_str()?)))
    }

    /// The value of a variable of the specification, and the name under which it is set: that for metrics wins. A value that cannot
    /// be used is a warning and counts as unset, as the specification has it.
    pub(super) fn read<'e, T>(
        &'e self,
        variable: &Variable,
        warnings: &mut Vec<String>,
        parse: impl Fn(&'e str) -> Result<T, String>,
    ) -> Option<(&'static str, T)> {
        self.read_for(Signal::Metrics, variable, warnings, parse)
    }

    /// The same for a signal, whose variant wins.
    pub(super) fn read_for<'e, T>(
        &'e self,
        signal: Signal,
        variable: &Variable,
        warnings: &mut Vec<String>,
        parse: impl Fn(&'e str) -> Result<T, String>,
    ) -> Option<(&'static str, T)> {
        for name in variable.names_for(signal) {
            let Some(value) = self.get(name) else { continue };
            let text = value.to_str().ok_or_else(|| "the value is not UTF-8".to_owned());
            match text.and_then(&parse) {
                Ok(value) => return Some((name, value)),
                Err(problem) => warnings.push(format!("{name} is ignored: {problem}")),
            }
        }
        None
    }

    /// Whether a Boolean variable of the specification is set to a Boolean, and to which. Any other value counts as false, with a
    /// warning.
    pub(super) fn read_bool(
        &self,
        signal: Signal,
        variable: &Variable,
        warnings: &mut Vec<String>,
    ) -> Option<bool> {
        let (name, value) = variable.names_for(signal).find_map(|name| Some((name, self.get(name)?)))?;
        if value.eq_ignore_ascii_case("true") {
            return Some(true);
        }
        if !value.eq_ignore_ascii_case("false") {
            warnings.push(format!(
                "{name}={:?} is neither true nor false: it counts as false",
                value.display().to_string()
            ));
        }
        Some(false)
    }

    /// Warns of variables that look like those of flags and are none.
    pub(super) fn warn_of_unknown(&self, known: &[String], warnings: &mut Vec<String>) {
        for name in self.names() {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            if !known.iter().any(|known| known == name) && !is_service_link(rest) {
                warnings.push(unknown(name, known.iter().map(String::as_str)));
            }
        }
    }

    /// Warns of variables that look like those of the specification for metrics or logs and are none.
    pub(super) fn warn_of_unknown_otel(&self, warnings: &mut Vec<String>) {
        let unknown_names = self.names().filter(|name| otel::is_unknown(name));
        warnings.extend(unknown_names.map(|name| unknown(name, otel::known_names())));
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(|name| name.to_str())
    }
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = values::nearest(name, known);
    let advice = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
    format!("unknown environment variable {name} is ignored{advice}")
}

/// Whether Kubernetes sets such a variable for a Service that is called like this program: `…_SERVICE_HOST`, `…_PORT_10048_TCP`.
fn is_service_link(rest: &str) -> bool {
    rest == "PORT"
        || rest == "SERVICE_HOST"
        || rest.starts_with("SERVICE_PORT")
        || rest
            .strip_prefix("PORT_")
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}
