//! Lookups of pod and container names, from sources that respond and from those that fail.

mod cri;
mod docker;
mod fake;
mod logs;
mod retries;
mod sockets;

use std::path::Path;

use bpf_metrics_exporter::lookup::{Settings, Sockets};

/// Ids and UIDs of the pods and containers in these tests.
const WEB: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const SIDECAR: &str = "1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const SANDBOX: &str = "2123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const ETCD: &str = "3123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const ENDED: &str = "4123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const CART: &str = "2fc932ce-fdcc-454b-97bd-aadfdeb4c340";
const STATIC: &str = "36b6d6be73b1065af369b3985edafa09";

/// Ids without a pod or container.
fn unknown(number: u32) -> String {
    format!("{number:064x}")
}

/// Settings without a runtime.
fn no_runtime(root: &Path) -> Settings {
    Settings { root: root.to_owned(), cri: Sockets::Given(Vec::new()), docker: Sockets::Given(Vec::new()) }
}

/// Settings with one CRI socket.
fn only_cri(root: &Path, socket: &Path) -> Settings {
    Settings { cri: Sockets::Given(vec![socket.to_owned()]), ..no_runtime(root) }
}

/// Settings with one Docker socket.
fn only_docker(root: &Path, socket: &Path) -> Settings {
    Settings { docker: Sockets::Given(vec![socket.to_owned()]), ..no_runtime(root) }
}
