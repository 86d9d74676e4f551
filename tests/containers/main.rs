//! Real containers that load BPF themselves, of podman and of containerd as the kubelet speaks with it: what the paths of their
//! cgroups say of them, and what names are told for them. `tests/containers/install` installs what is needed.

use std::process::ExitCode;
use test_support::{root, trials};

mod holder;
mod host;
mod owned;
mod pod;
mod podman;

const TESTS: &[trials::Test] = &[
    ("a_container_of_podman_is_told_and_named", podman::told_and_named),
    ("a_pod_of_a_container_runtime_is_told_and_named", pod::told_and_named),
];

fn main() -> ExitCode {
    if let Some(name) = holder::wanted() {
        return holder::hold(&name);
    }
    trials::run(TESTS, |_| root::missing().or_else(host::missing))
}
