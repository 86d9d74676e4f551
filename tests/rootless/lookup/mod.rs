//! Names of pods and containers, from those who tell them and from those who fail to.

mod cri;
mod docker;
mod fake;
mod logs;
mod pace;
mod places;

use std::path::Path;

use bpf_metrics_exporter::lookup::{Settings, Sockets};

/// Ids and uids of what exists in these tests.
const WEB: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const SIDECAR: &str = "1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const SANDBOX: &str = "2123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const ETCD: &str = "3123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const CART: &str = "2fc932ce-fdcc-454b-97bd-aadfdeb4c340";
const STATIC: &str = "36b6d6be73b1065af369b3985edafa09";

/// Ids of what does not.
fn unknown(number: u32) -> String {
    format!("{number:064x}")
}

/// Settings that ask nobody.
fn nobody(root: &Path) -> Settings {
    Settings { root: root.to_owned(), cri: Sockets::Given(Vec::new()), docker: Sockets::Given(Vec::new()) }
}

/// Settings that ask one who speaks CRI.
fn only_cri(root: &Path, socket: &Path) -> Settings {
    Settings { cri: Sockets::Given(vec![socket.to_owned()]), ..nobody(root) }
}

/// Settings that ask one who speaks as Docker does.
fn only_docker(root: &Path, socket: &Path) -> Settings {
    Settings { docker: Sockets::Given(vec![socket.to_owned()]), ..nobody(root) }
}
