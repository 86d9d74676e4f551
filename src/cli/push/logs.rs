//! Where events are pushed as logs: to the receivers of metrics, or to one of their own. Entry point: [`resolve`].

use super::{Shared, from_variables, word};
use crate::cli::environment::Environment;
use crate::cli::{ConfigErrors, otel, proxy};
use crate::export::otlp::encode::Signal;
use crate::export::otlp::settings::{Compression, Destination, Endpoint, Protocol};

/// Where metrics are pushed.
pub(super) struct OfMetrics<'a> {
    /// What flags give; `None` without such a flag, empty for `none`.
    pub(super) given: Option<Vec<(Protocol, Endpoint)>>,
    pub(super) destinations: &'a [Destination],
}

/// The destinations of logs. A variable for logs wins over flags, which are about metrics first; receivers that flags give take logs
/// beside metrics.
pub(super) fn resolve(
    of_metrics: OfMetrics<'_>,
    compression: Option<Compression>,
    environment: &Environment,
    errors: &mut ConfigErrors,
    warnings: &mut Vec<String>,
) -> Vec<Destination> {
    // What is wrong with a variable for all signals is said already.
    let (mut own_errors, mut own_warnings) = (ConfigErrors::default(), Vec::new());
    let destinations = destinations(of_metrics, compression, environment, &mut own_errors, &mut own_warnings);
    own_errors.lines.retain(|line| !errors.lines.contains(line));
    errors.lines.extend(own_errors.lines);
    own_warnings.retain(|line| !warnings.contains(line));
    warnings.extend(own_warnings);
    destinations
}

fn destinations(
    OfMetrics { given, destinations: of_metrics }: OfMetrics<'_>,
    compression: Option<Compression>,
    environment: &Environment,
    errors: &mut ConfigErrors,
    warnings: &mut Vec<String>,
) -> Vec<Destination> {
    let exporter = exporter(environment, warnings);
    if exporter == Some(false) {
        return Vec::new();
    }
    let own = otel::ENDPOINT.names_for(Signal::Logs).find(|&name| name != otel::ENDPOINT.name);
    let has_own = own.is_some_and(|name| environment.get(name).is_some());
    let insecure = environment.read_bool(Signal::Logs, &otel::INSECURE, warnings);
    let (receivers, configured) = match given {
        Some(given) if given.is_empty() => {
            if let Some(name) = own.filter(|_| has_own) {
                warnings.push(format!("{name} is ignored: --otlp-grpc or --otlp-http disables the push"));
            }
            (Vec::new(), false)
        }
        Some(given) if !has_own => {
            // One at a path of the user's own takes metrics only.
            let beside =
                given.into_iter().filter_map(|(protocol, endpoint)| Some((protocol, endpoint.of_logs()?)));
            (beside.collect(), true)
        }
        _ => {
            let (receiver, name) = from_variables(Signal::Logs, insecure, environment, errors, warnings);
            // The default receiver of logs is that of metrics.
            let metrics_by_default = of_metrics.iter().any(|destination| !destination.configured);
            let is_meant = name.is_some() || exporter == Some(true) || metrics_by_default;
            (receiver.filter(|_| is_meant).into_iter().collect(), name.is_some())
        }
    };
    if receivers.is_empty() {
        return Vec::new();
    }
    let shared = Shared::read(Signal::Logs, insecure, compression, environment, warnings);
    // Its warnings are known.
    let mut known = Vec::new();
    let insecure = environment.read_bool(Signal::Metrics, &otel::INSECURE, &mut known);
    let for_metrics = Shared::read(Signal::Metrics, insecure, compression, environment, &mut known);
    let destination = |(protocol, endpoint): (Protocol, Endpoint)| {
        let is_beside = |of_metrics: &Destination| of_metrics.endpoint.of_logs().as_ref() == Some(&endpoint);
        let is_checked = shared.has_credentials_of(&for_metrics) && of_metrics.iter().any(is_beside);
        if !is_checked {
            shared.check(&endpoint, errors, warnings);
        }
        let proxy = proxy::of(&endpoint, environment, warnings);
        shared.destination(protocol, endpoint, configured, proxy)
    };
    receivers.into_iter().map(destination).collect()
}

/// What `OTEL_LOGS_EXPORTER` selects: whether logs are pushed; `None` if it is not set to anything known.
fn exporter(environment: &Environment, warnings: &mut Vec<String>) -> Option<bool> {
    let (name, list) = environment.read_for(Signal::Logs, &otel::LOGS_EXPORTER, warnings, |text| {
        Ok(text.split(',').map(word).filter(|word| !word.is_empty()).collect::<Vec<_>>())
    })?;
    let (known, unknown): (Vec<_>, Vec<_>) =
        list.into_iter().partition(|word| ["otlp", "none"].contains(&word.as_str()));
    for word in unknown {
        warnings.push(format!("{name}: {word:?} is ignored; there are otlp, none"));
    }
    (!known.is_empty()).then(|| known.iter().any(|word| word == "otlp"))
}
