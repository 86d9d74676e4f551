//! Resource attributes of the exporter, following OpenTelemetry's semantic conventions.
//! Entry point: [`attributes`].

use uuid::Uuid;

use crate::model::HostIdentity;

/// Namespace of the exporter's instance ids.
const INSTANCES: Uuid = Uuid::from_u128(0x6f2b_8a4e_31c7_4d0d_9a53_7e0c_21b4_f6d8);

/// The attribute with the name of the Kubernetes node.
const NODE_NAME: &str = "k8s.node.name";

/// Resource attributes set by the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserAttributes {
    /// `OTEL_SERVICE_NAME`.
    pub service_name: Option<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES`. They override detected attributes.
    pub attributes: Vec<(String, String)>,
    /// `--node-name`, the name of the Kubernetes node. It overrides `attributes`.
    pub node_name: Option<String>,
    /// `NODE_NAME`, the same where nothing else has it.
    pub default_node_name: Option<String>,
}

impl UserAttributes {
    /// Returns the name of the Kubernetes node.
    fn node_name(&self) -> Option<&String> {
        let given = || self.attributes.iter().rev().find(|(key, _)| key == NODE_NAME).map(|(_, value)| value);
        self.node_name.as_ref().or_else(given).or(self.default_node_name.as_ref())
    }
}

/// Returns the attributes of the resource: those of the host, overridden by the user's. `deployment` is what distinguishes this
/// exporter from others on the host, and stays when it is restarted.
#[must_use]
pub fn attributes(
    host: &HostIdentity,
    user: &UserAttributes,
    deployment: &[String],
) -> Vec<(String, String)> {
    let mut attributes = vec![
        ("service.name", Some(env!("CARGO_PKG_NAME").to_owned())),
        ("service.version", Some(env!("CARGO_PKG_VERSION").to_owned())),
        ("service.instance.id", instance_id(host, user, deployment)),
        ("host.name", host.name.clone()),
        ("host.id", host.machine_id.clone()),
        ("host.arch", Some(host_arch().to_owned())),
        ("os.type", Some("linux".to_owned())),
        ("os.description", host.os_description.clone()),
        ("os.version", host.os_version.clone()),
        ("os.build_id", host.kernel_release.clone()),
    ];
    let service_name = user.service_name.iter().map(|name| ("service.name", name));
    let node_name = user.node_name().map(|name| (NODE_NAME, name));
    let given = user.attributes.iter().map(|(key, value)| (key.as_str(), value));
    let overrides = given.chain(service_name).chain(node_name);
    for (key, value) in overrides {
        match attributes.iter_mut().find(|(detected, _)| *detected == key) {
            Some((_, detected)) => *detected = Some(value.clone()),
            None => attributes.push((key, Some(value.clone()))),
        }
    }
    attributes.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// Returns an id that no other exporter has, and that this one keeps. `None` if nothing of the host is known.
///
/// Machines can be copies of one another with the same machine id, so the name of the host is part of it. Without a machine id the
/// id of the firmware or boot and the name of the node take its place.
fn instance_id(host: &HostIdentity, user: &UserAttributes, deployment: &[String]) -> Option<String> {
    let known = match &host.machine_id {
        Some(id) => vec![Some(id), host.name.as_ref()],
        None => vec![host.name.as_ref(), host.fallback_id.as_ref(), user.node_name()],
    };
    let known: Vec<&str> = known.into_iter().map(|part| part.map_or("", String::as_str)).collect();
    if known.iter().all(|part| part.is_empty()) {
        return None;
    }
    // No part contains a zero byte.
    let parts: Vec<&str> = known.into_iter().chain(deployment.iter().map(String::as_str)).collect();
    Some(Uuid::new_v5(&INSTANCES, parts.join("\0").as_bytes()).to_string())
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
    use std::collections::BTreeSet;

    use super::*;

    fn value<'a>(attributes: &'a [(String, String)], key: &str) -> Option<&'a str> {
        let mut values = attributes.iter().filter(|(name, _)| name == key);
        let value = values.next().map(|(_, value)| value.as_str());
        assert_eq!(values.next(), None, "{key} occurs once");
        value
    }

    fn host() -> HostIdentity {
        HostIdentity {
            name: Some("node-1".into()),
            machine_id: Some("0123456789abcdef0123456789abcdef".into()),
            fallback_id: Some("boot".into()),
            kernel_release: Some("6.1.0".into()),
            ..HostIdentity::default()
        }
    }

    #[test]
    fn user_attributes_override_detected_ones() {
        let user = UserAttributes {
            service_name: Some("from-service-name".into()),
            attributes: vec![
                ("service.name".into(), "from-attributes".into()),
                ("host.name".into(), "user".into()),
                ("k8s.cluster.name".into(), "east".into()),
            ],
            node_name: Some("n1".into()),
            default_node_name: None,
        };
        let attributes = attributes(&host(), &user, &[]);
        assert_eq!(value(&attributes, "service.name"), Some("from-service-name"));
        assert_eq!(value(&attributes, "host.name"), Some("user"));
        assert_eq!(value(&attributes, "k8s.node.name"), Some("n1"));
        assert_eq!(value(&attributes, "k8s.cluster.name"), Some("east"));
        assert_eq!(value(&attributes, "os.type"), Some("linux"));
        assert_eq!(value(&attributes, "os.build_id"), Some("6.1.0"));
    }

    #[test]
    fn the_flag_of_the_node_wins_over_attributes_and_these_over_the_variable_of_a_pod() {
        let node = |flag: Option<&str>, given: Option<&str>, variable: Option<&str>| {
            let user = UserAttributes {
                node_name: flag.map(str::to_owned),
                attributes: given.map(|name| (NODE_NAME.to_owned(), name.to_owned())).into_iter().collect(),
                default_node_name: variable.map(str::to_owned),
                ..UserAttributes::default()
            };
            value(&attributes(&host(), &user, &[]), NODE_NAME).map(str::to_owned)
        };
        assert_eq!(node(Some("flag"), Some("given"), Some("pod")).as_deref(), Some("flag"));
        assert_eq!(node(None, Some("given"), Some("pod")).as_deref(), Some("given"));
        assert_eq!(node(None, None, Some("pod")).as_deref(), Some("pod"));
        assert_eq!(node(None, None, None), None);
    }

    #[test]
    fn unknown_attributes_are_omitted() {
        let attributes =
            attributes(&HostIdentity::default(), &UserAttributes::default(), &["unit".to_owned()]);
        assert_eq!(value(&attributes, "service.name"), Some("bpf-metrics-exporter"));
        for key in ["service.instance.id", "host.id", "host.name", "os.version"] {
            assert_eq!(value(&attributes, key), None);
        }
    }

    #[test]
    fn no_two_hosts_or_exporters_have_the_same_instance_id_and_a_restart_keeps_it() {
        let id = |host: &HostIdentity, node: Option<&str>, deployment: &[&str]| {
            let user = UserAttributes { node_name: node.map(str::to_owned), ..UserAttributes::default() };
            let deployment: Vec<_> = deployment.iter().map(|&part| part.to_owned()).collect();
            let attributes = attributes(host, &user, &deployment);
            value(&attributes, "service.instance.id").map(str::to_owned).expect("the host is known")
        };
        let other = HostIdentity { machine_id: Some("f".repeat(32)), ..host() };
        let without = HostIdentity { machine_id: None, ..host() };
        let twin = HostIdentity { name: Some("node-2".into()), ..without.clone() };
        let copy = HostIdentity { name: Some("node-3".into()), ..host() };
        let rebooted = HostIdentity { fallback_id: Some("next boot".into()), ..host() };
        let ids = [
            id(&host(), None, &["127.0.0.1:10048"]),
            id(&host(), None, &["127.0.0.1:10049"]),
            id(&other, None, &["127.0.0.1:10048"]),
            id(&without, None, &[]),
            id(&without, Some("n1"), &[]),
            id(&twin, None, &[]),
            id(&copy, None, &["127.0.0.1:10048"]),
        ];
        let different: BTreeSet<_> = ids.iter().collect();
        assert_eq!(different.len(), ids.len(), "{ids:?}");
        assert_eq!(id(&host(), None, &["127.0.0.1:10048"]), ids[0]);
        assert_eq!(
            id(&rebooted, Some("named later"), &["127.0.0.1:10048"]),
            ids[0],
            "a machine id is enough"
        );
    }
}
