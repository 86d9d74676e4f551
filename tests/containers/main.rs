//! Real containers that load BPF, of podman and of containerd as the kubelet runs them: their identity, from the paths of their cgroups,
//! and their names. `tests/containers/install` installs the runtimes. They are a binary apart, since it runs inside the containers.

use std::process::ExitCode;
use test_support::{root, trials};

mod actors;
mod chart;
mod containerd;
mod cri;
mod holder;
mod host;
mod image;
mod kubelet;
mod manifest;
mod owned;
mod pod;
mod podman;
mod stack;
mod view;

fn main() -> ExitCode {
    if let Some(code) = holder::run() {
        return code;
    }
    let missing = root::missing().or_else(host::missing);
    trials::run(vec![
        trials::trial(
            "podman_containers_are_identified_and_named".to_owned(),
            missing.clone(),
            podman::identified_and_named,
        ),
        trials::trial(
            "in_a_container_the_exporter_reports_what_the_host_does_or_says_why_not".to_owned(),
            missing.clone(),
            view::agrees_with_the_host,
        ),
        trials::trial(
            "pods_of_containerd_are_identified_and_named".to_owned(),
            missing.clone(),
            pod::identified_and_named,
        ),
        trials::trial(
            "events_of_podman_containers_have_their_actors".to_owned(),
            missing.clone(),
            actors::in_podman,
        ),
        trials::trial(
            "events_of_pods_of_containerd_have_their_actors".to_owned(),
            missing.clone(),
            actors::in_a_pod,
        ),
        trials::trial(
            "the_image_runs_with_what_its_page_names_and_sees_the_host".to_owned(),
            missing.clone().or_else(image::missing),
            image::runs_as_the_page_says,
        ),
        trials::trial(
            "the_stack_shows_what_the_exporter_pushes_and_leaves_nothing".to_owned(),
            missing.clone().or_else(stack::missing),
            stack::plays,
        ),
        trials::trial(
            "the_program_accepts_the_settings_of_every_case_of_the_chart".to_owned(),
            chart::missing(),
            chart::settings_are_accepted,
        ),
        trials::trial(
            "the_manifest_runs_unchanged_in_containerd".to_owned(),
            missing.clone(),
            chart::manifest_runs,
        ),
        trials::trial(
            "the_chart_with_less_and_with_more_runs_in_containerd_and_says_what_is_lost".to_owned(),
            missing.or_else(chart::missing),
            chart::with_less_and_with_more,
        ),
    ])
}
