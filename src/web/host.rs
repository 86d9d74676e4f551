//! Which `Host` a request may name. A web page whose name is made to resolve to this host (DNS rebinding) could read the metrics
//! with the rights of the reader's network. Entry point: [`Hosts::serve`].

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The host names that are served, besides IP addresses and `localhost`.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    any: bool,
    /// In lower case.
    names: BTreeSet<String>,
    /// What names may end in: `.example.com`.
    suffixes: Vec<String>,
}

impl Hosts {
    /// Returns the hosts of this list, where `*` stands for every name, and `*.example.com` for every name below that.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hosts = Self::default();
        for name in names {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            match name.strip_prefix('*') {
                Some("") => hosts.any = true,
                Some(suffix) if suffix.starts_with('.') => hosts.suffixes.push(suffix.to_owned()),
                _ => {
                    hosts.names.insert(name);
                }
            }
        }
        hosts
    }

    /// Returns whether a host with or without a port is served.
    #[must_use]
    pub fn serve(&self, host: &str) -> bool {
        if self.any {
            return true;
        }
        let name = without_port(host);
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let is_address = name.parse::<Ipv4Addr>().is_ok()
            || name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).is_some_and(|name| {
                name.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
            });
        is_address
            || name == "localhost"
            || self.names.contains(&name)
            || self.suffixes.iter().any(|suffix| name.len() > suffix.len() && name.ends_with(&**suffix))
    }
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon)
            if host[colon + 1..].bytes().all(|byte| byte.is_ascii_digit())
                && !host[colon..].contains(']') =>
        {
            &host[..colon]
        }
        _ => host,
    }
}

/// Returns the names of this host: the one the kernel keeps, in full, its first label, and that within each search domain.
#[must_use]
pub fn own_names() -> Vec<String> {
    let name = nix::sys::utsname::uname().ok();
    let name = name.as_ref().and_then(|name| name.nodename().to_str()).unwrap_or_default();
    // Absent in many containers.
    let resolver = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    names(name, &resolver)
}

fn names(name: &str, resolver: &str) -> Vec<String> {
    let short = name.split('.').next().unwrap_or_default();
    if short.is_empty() {
        return Vec::new();
    }
    let domains = resolver.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("search" | "domain")).then_some(words)
    });
    let full = domains.flatten().filter(|domain| *domain != ".").map(|domain| format!("{short}.{domain}"));
    [name.to_owned(), short.to_owned()].into_iter().chain(full).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_the_names_given_are_served() {
        let hosts = Hosts::new(["Node-1", "metrics.example.com", "*.internal"]);
        for host in [
            "127.0.0.1",
            "127.0.0.1:10048",
            "[::1]:10048",
            "[fe80::1%eth0]:1",
            "10.0.0.7",
            "localhost",
            "LOCALHOST:10048",
            "localhost.",
            "node-1:10048",
            "metrics.example.com.",
            "a.b.internal",
        ] {
            assert!(hosts.serve(host), "{host}");
        }
        for host in [
            "",
            ":10048",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "node-1.evil.example",
            "metrics.example.com.evil",
            ".internal",
            "internal",
            "[::1",
            "::1]",
            "[evil]",
            "0x7f.1",
            "localhost:x",
        ] {
            assert!(!hosts.serve(host), "{host}");
        }
        assert!(Hosts::new(["*"]).serve("anything"));
    }

    #[test]
    fn the_host_has_short_and_full_names() {
        assert_eq!(
            names("node-1", "nameserver 1.1.1.1\nsearch a.example b.example\n"),
            ["node-1", "node-1", "node-1.a.example", "node-1.b.example"]
        );
        assert_eq!(names("node-1.a.example", "search .\n"), ["node-1.a.example", "node-1"]);
        assert_eq!(names("", "search a\n"), [""; 0]);
    }
}
