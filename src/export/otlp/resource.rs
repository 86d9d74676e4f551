//! Resource attributes of the exporter, following OpenTelemetry's semantic conventions.
//! Entry point: [`attributes`].

use std::fs;
use std::path::Path;

use uuid::Uuid;

/// Namespace of the exporter's instance ids.
const INSTANCES: Uuid = Uuid::from_u128(0x6f2b_8a4e_31c7_4d0d_9a53_7e0c_21b4_f6d8);

/// Resource attributes set by the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserAttributes {
    /// `OTEL_SERVICE_NAME`.
    pub service_name: Option<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES`. They override detected attributes.
    pub attributes: Vec<(String, String)>,
}

/// Returns the attributes of the resource: those detected below `root`, normally `/`, overridden by the user's.
#[must_use]
pub fn attributes(root: &Path, user: &UserAttributes) -> Vec<(String, String)> {
    let read = |path: &str| {
        let text = fs::read_to_string(root.join(path)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let host_name = read("proc/sys/kernel/hostname");
    let machine_id = read("etc/machine-id").or_else(|| read("var/lib/dbus/machine-id"));
    // Without a machine id, the instance id is stable until the next boot.
    let instance = machine_id.clone().or_else(|| read("proc/sys/kernel/random/boot_id"));
    let os = read("etc/os-release").and_then(|release| os_name(&release));

    let mut attributes = vec![
        ("service.name", Some(env!("CARGO_PKG_NAME").to_owned())),
        ("service.version", Some(env!("CARGO_PKG_VERSION").to_owned())),
        ("service.instance.id", instance.map(|id| Uuid::new_v5(&INSTANCES, id.as_bytes()).to_string())),
        ("host.name", host_name),
        ("host.id", machine_id),
        ("host.arch", Some(host_arch().to_owned())),
        ("os.type", Some("linux".to_owned())),
        ("os.description", os),
        ("os.version", read("proc/sys/kernel/osrelease")),
    ];
    let service_name = user.service_name.iter().map(|name| ("service.name", name));
    let overrides = user.attributes.iter().map(|(key, value)| (key.as_str(), value)).chain(service_name);
    for (key, value) in overrides {
        match attributes.iter_mut().find(|(detected, _)| *detected == key) {
            Some((_, detected)) => *detected = Some(value.clone()),
            None => attributes.push((key, Some(value.clone()))),
        }
    }
    attributes.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// Returns the value of `PRETTY_NAME` in `/etc/os-release`.
fn os_name(release: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

/// Returns the architecture as the semantic conventions spell it.
fn host_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(attributes: &'a [(String, String)], key: &str) -> Option<&'a str> {
        let mut values = attributes.iter().filter(|(name, _)| name == key);
        let value = values.next().map(|(_, value)| value.as_str());
        assert_eq!(values.next(), None, "{key} occurs once");
        value
    }

    #[test]
    fn user_attributes_override_detected_ones() {
        let user = UserAttributes {
            service_name: Some("from-service-name".into()),
            attributes: vec![
                ("service.name".into(), "from-attributes".into()),
                ("host.name".into(), "user".into()),
                ("k8s.node.name".into(), "node-1".into()),
            ],
        };
        let attributes = attributes(Path::new("/"), &user);
        assert_eq!(value(&attributes, "service.name"), Some("from-service-name"));
        assert_eq!(value(&attributes, "host.name"), Some("user"));
        assert_eq!(value(&attributes, "k8s.node.name"), Some("node-1"));
        assert_eq!(value(&attributes, "os.type"), Some("linux"));
    }

    #[test]
    fn attributes_that_cannot_be_detected_are_omitted() {
        let attributes = attributes(Path::new("/nowhere"), &UserAttributes::default());
        assert_eq!(value(&attributes, "service.name"), Some("bpf-metrics-exporter"));
        assert_eq!(value(&attributes, "service.instance.id"), None);
        assert_eq!(value(&attributes, "host.id"), None);
    }

    #[test]
    fn the_instance_id_survives_a_restart() {
        let id = || {
            value(&attributes(Path::new("/"), &UserAttributes::default()), "service.instance.id")
                .map(str::to_owned)
        };
        assert!(id().is_some(), "this machine has a boot id at least");
        assert_eq!(id(), id());
    }

    #[test]
    fn the_os_name_is_unquoted() {
        assert_eq!(os_name("ID=debian\nPRETTY_NAME=\"Debian 12\"\n").as_deref(), Some("Debian 12"));
        assert_eq!(os_name("ID=debian\n"), None);
    }
}
