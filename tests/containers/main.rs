//! Real containers that load BPF themselves, of podman and of containerd as the kubelet speaks with it: what the paths of their
//! cgroups say of them, and what names are told for them. `tests/containers/install` installs what is needed.

use std::process::ExitCode;
use test_support::{root, trials};

mod holder;
mod host;
mod owned;
mod pod;
mod podman;

fn main() -> ExitCode {
    if let Some(name) = holder::wanted() {
        return holder::hold(&name);
    }
    let missing = root::missing().or_else(host::missing);
    trials::run(vec![
        trials::trial(
            "podman_containers_are_identified_and_named".to_owned(),
            missing.clone(),
            podman::identified_and_named,
        ),
        trials::trial(
            "pods_of_containerd_are_identified_and_named".to_owned(),
            missing,
            pod::identified_and_named,
        ),
    ])
}
