//! The proxy for a receiver, from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`. Entry point: [`of`].
//!
//! These variables are no standard. As in curl the lower-case name wins, and as in Go a name in `NO_PROXY` covers all names below it.

use std::net::IpAddr;

use http::Uri;

use super::endpoint::is_loopback;
use super::environment::Environment;
use super::values::split_port;
use crate::export::otlp::settings::Endpoint;

/// Returns the proxy for an endpoint. One that cannot be used is a warning, which does not show its password.
pub(super) fn of(endpoint: &Endpoint, environment: &Environment, warnings: &mut Vec<String>) -> Option<Uri> {
    let Endpoint::Tcp { tls, host, port, .. } = endpoint else { return None };
    if is_loopback(host) {
        return None;
    }
    let names = if *tls {
        ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    } else {
        ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
    };
    let (name, proxy) = environment.first(&names)?;
    let exempt = environment.first(&["no_proxy", "NO_PROXY"]);
    if exempt.is_some_and(|(_, list)| is_exempt(list, host, *port)) {
        return None;
    }
    match parse(proxy) {
        Ok(proxy) => Some(proxy),
        Err(problem) => {
            let warning = format!("{name} is ignored: {problem}; give http://HOST:PORT");
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
            None
        }
    }
}

/// The URL of a proxy with its port. The message shows no part of it.
fn parse(text: &str) -> Result<Uri, String> {
    let rest = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some(_) => return Err("only HTTP proxies are supported".to_owned()),
        None => text,
    };
    let authority = rest.find(['/', '?', '#']).map_or(rest, |end| &rest[..end]);
    let (credentials, address) = match authority.rsplit_once('@') {
        Some((credentials, address)) => (format!("{credentials}@"), address),
        None => (String::new(), authority),
    };
    let (host, port) = split_port(address).map_err(|_| "its address is malformed".to_owned())?;
    if host.is_empty() {
        return Err("its host is missing".to_owned());
    }
    let url = format!("http://{credentials}{host}:{}", port.unwrap_or(80));
    url.parse().map_err(|_| "it is not a URL".to_owned())
}

/// Whether a list has a host.
fn is_exempt(list: &str, host: &str, port: u16) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let address: Option<IpAddr> = host.split('%').next().and_then(|address| address.parse().ok());
    let entries = list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
    entries.map(str::to_ascii_lowercase).any(|entry| covers(&entry, &host, address, port))
}

/// Whether one entry of the list covers a host. An entry that cannot be understood covers nothing.
fn covers(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, length)) = entry.split_once('/') {
        let network = network.parse().ok().zip(length.parse().ok());
        return address
            .zip(network)
            .is_some_and(|(address, (network, length))| is_in(address.to_canonical(), network, length));
    }
    if let Ok(entry) = entry.parse::<IpAddr>() {
        return address.is_some_and(|address| address.to_canonical() == entry.to_canonical());
    }
    let Ok((name, only)) = split_port(entry) else { return false };
    if only.is_some_and(|only| only != port) {
        return false;
    }
    let name = name.trim_matches(['[', ']']);
    if let Ok(entry) = name.parse::<IpAddr>() {
        return address.is_some_and(|address| address.to_canonical() == entry.to_canonical());
    }
    match name.strip_prefix('*').unwrap_or(name).strip_prefix('.') {
        Some(suffix) => is_below(host, suffix),
        None => host == name || is_below(host, name),
    }
}

/// Whether a name ends with a dot and another name.
fn is_below(host: &str, suffix: &str) -> bool {
    !suffix.is_empty() && host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
}

/// Whether an address is in a network, whose first `length` bits it has.
fn is_in(address: IpAddr, network: IpAddr, length: u32) -> bool {
    let (address, network, bits) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (u128::from(address.to_bits()), u128::from(network.to_bits()), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    let differs = (address ^ network).checked_shr(bits - length.min(bits)).unwrap_or(0);
    length <= bits && differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_exempt_by_name_suffix_address_network_and_port() {
        for (list, host, port, expected) in [
            ("*", "a.example", 1, true),
            ("a.example", "a.example", 1, true),
            ("a.example", "b.a.example", 1, true),
            ("a.example", "ba.example", 1, false),
            (".a.example", "b.a.example", 1, true),
            (".a.example", "a.example", 1, false),
            ("*.a.example", "b.a.example", 1, true),
            ("A.Example", "a.eXample.", 1, true),
            ("a.example:4317", "a.example", 4317, true),
            ("a.example:4317", "a.example", 4318, false),
            ("x, 10.0.0.0/8", "10.1.2.3", 1, true),
            ("10.0.0.0/8", "11.1.2.3", 1, false),
            ("10.0.0.0/33", "10.0.0.0", 1, false),
            ("0.0.0.0/0", "1.2.3.4", 1, true),
            ("10.1.2.3", "10.1.2.3", 1, true),
            ("10.1.2.3:5", "10.1.2.3", 6, false),
            ("fd00::/8", "fd12::1", 1, true),
            ("fd00::/8", "fe80::1%eth0", 1, false),
            ("[fd12::1]:5", "fd12::1", 5, true),
            ("fd12::1", "fd12:0::1", 1, true),
            ("::/0", "10.0.0.1", 1, false),
            ("", "a", 1, false),
            (", ,", "a", 1, false),
            (".", "a.", 1, false),
            ("10.0.0.0/x", "10.0.0.0", 1, false),
        ] {
            assert_eq!(is_exempt(list, host, port), expected, "{list} {host}:{port}");
        }
    }

    #[test]
    fn a_proxy_is_an_http_url_with_or_without_scheme_port_and_credentials() {
        for (text, expected) in [
            ("proxy", "http://proxy:80/"),
            ("proxy:3128", "http://proxy:3128/"),
            ("HTTP://proxy:3128/path", "http://proxy:3128/"),
            ("http://user:p%40ss@proxy:3128", "http://user:p%40ss@proxy:3128/"),
            ("http://[fd00::1]:3128", "http://[fd00::1]:3128/"),
        ] {
            assert_eq!(parse(text).map(|proxy| proxy.to_string()).as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "socks5://user:hunter2@proxy:1",
            "http://user:hunter2@",
            "user:hunter2@proxy:port",
            "user:hun ter2@proxy",
        ] {
            let problem = parse(text).expect_err(text);
            assert!(!problem.contains("hun"), "{problem}");
        }
    }
}
