//! Names that Kubernetes and container runtimes allow: others are not used, since whatever answered is not what it seems to be.
//!
//! Entry points: [`pod`] and [`container`].

use crate::enrich::names::{ContainerName, PodName};

/// Longest label of a domain name. Source: RFC 1123, and Kubernetes, `staging/src/k8s.io/apimachinery/pkg/util/validation/validation.go`,
/// `DNS1123LabelMaxLength`.
const LONGEST_LABEL: usize = 63;

/// Longest domain name, and of everything for which nobody sets a limit. Source: the same, `DNS1123SubdomainMaxLength`.
const LONGEST_NAME: usize = 253;

/// Returns whether these may be the key and the name of a pod.
pub(super) fn pod(key: &str, PodName { namespace, name }: &PodName) -> bool {
    is_key(key) && is_label(namespace) && is_subdomain(name)
}

/// Returns whether this may be the name of a container, with that of its pod.
pub(super) fn container(ContainerName { name, pod }: &ContainerName) -> bool {
    let is_name = if pod.is_some() { is_label } else { is_own_name };
    name.as_deref().is_none_or(is_name) && pod.as_deref().is_none_or(is_key)
}

/// Returns whether this may be in the path of a pod's cgroup: a UID, a hash, or what a manifest sets as `metadata.uid`.
fn is_key(key: &str) -> bool {
    is_made_of(key, LONGEST_NAME, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

fn is_label(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    is_made_of(name, LONGEST_LABEL, is_inner) && !name.starts_with('-') && !name.ends_with('-')
}

fn is_subdomain(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.split('.').all(|label| {
            // Only the whole name has a limit: a node's name is part of those of its static pods.
            let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            is_made_of(label, LONGEST_NAME, is_inner) && !label.starts_with('-') && !label.ends_with('-')
        })
}

/// Returns whether Docker and Podman accept this as the name of a container.
/// Source: moby, `daemon/names/names.go`, `RestrictedNameChars`; podman, `libpod/define/config.go`, `NameRegex`.
fn is_own_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    is_made_of(name, LONGEST_NAME, is_inner) && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

fn is_made_of(text: &str, longest: usize, is_allowed: impl Fn(u8) -> bool) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_have_names_of_kubernetes() {
        let is_valid = |key: &str, namespace: &str, name: &str| {
            pod(key, &PodName { namespace: namespace.to_owned(), name: name.to_owned() })
        };
        let long = "a".repeat(64);
        for (key, namespace, name) in [
            ("2fc932ce-fdcc-454b-97bd-aadfdeb4c340", "kube-system", "etcd-n1.example.com"),
            ("36b6d6be73b1065af369b3985edafa09", "0", "a"),
            ("an_odd.uid", &long[1..], &long),
        ] {
            assert!(is_valid(key, namespace, name), "{key} {namespace} {name}");
        }
        for (key, namespace, name) in [
            ("", "shop", "cart"),
            ("../x", "shop", "cart"),
            ("1", "", "cart"),
            ("1", "shop.eu", "cart"),
            ("1", "Shop", "cart"),
            ("1", "-shop", "cart"),
            ("1", &long, "cart"),
            ("1", "shop", ""),
            ("1", "shop", "cart_1"),
            ("1", "shop", "cart..x"),
            ("1", "shop", "cart/other"),
            ("1", "shop", "cart\n"),
            ("1", "shop", "\u{202e}cart"),
            ("1", "shop", &"a".repeat(254)),
        ] {
            assert!(!is_valid(key, namespace, name), "{key} {namespace} {name}");
        }
    }

    #[test]
    fn containers_have_names_of_their_runtime() {
        let is_valid = |name: &str, pod: Option<&str>| {
            container(&ContainerName { name: Some(name.to_owned()), pod: pod.map(str::to_owned) })
        };
        for (name, in_pod, on_host) in [
            ("web", true, true),
            ("side-car-2", true, true),
            ("Web_1.x", false, true),
            ("-web", false, false),
            ("_web", false, false),
            ("web-", false, true),
            ("", false, false),
            ("shop/cart", false, false),
            ("user@1000.service", false, false),
            ("a b", false, false),
            ("w\u{f6}b", false, false),
            (&"a".repeat(63), true, true),
            (&"a".repeat(64), false, true),
            (&"a".repeat(254), false, false),
        ] {
            assert_eq!((is_valid(name, Some("1")), is_valid(name, None)), (in_pod, on_host), "{name}");
        }
        assert!(container(&ContainerName { name: None, pod: Some("1".to_owned()) }), "a sandbox");
        assert!(!container(&ContainerName { name: None, pod: Some("a/b".to_owned()) }));
    }
}
