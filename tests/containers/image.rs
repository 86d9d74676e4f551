//! The image of `dist/package/build`, started by the very commands of `docs/install/container.md`: it sees what the host has, with the
//! capabilities, mounts and restrictions that the page names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bpf_metrics_exporter::model::Feature;
use serde_json::Value;
use test_support::http::get;
use test_support::objects::uapi::map_type;
use test_support::objects::{Map, wait_until};

use super::host::{Cgroups, Directory, SOON, command, isolated, output, process_in};
use super::podman::Podman;

/// The page, from the root of the repository.
const PAGE: &str = "docs/install/container.md";

/// Where the image is, after `dist/package/build`.
const RELEASED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/dist");

/// The image, as the page names it.
const IMAGE: &str = concat!("bpf-metrics-exporter-", env!("CARGO_PKG_VERSION"), ".oci.tar");

/// The container, as the page names it.
const CONTAINER: &str = "bpf-metrics-exporter";

/// Returns why the image cannot be run.
pub(crate) fn missing() -> Option<String> {
    let image = Path::new(RELEASED).join(IMAGE);
    (!image.exists()).then(|| format!("needs {}: see dist/package/build", image.display()))
}

/// Returns the commands of a shell that the page has for podman: the first block of them.
fn commands() -> String {
    let page = fs::read_to_string(PAGE).expect("the page is there");
    let blocks = page.split("```sh\n").skip(1).filter_map(|block| block.split_once("```"));
    let block = blocks.map(|(block, _)| block).find(|block| block.contains("podman run"));
    block.expect("the page says how to run it").to_owned()
}

/// Makes a shell run them by a podman whose state is apart.
fn shell(podman: &Podman<'_>, script: &str) -> Command {
    let own = podman.command();
    let words = [own.get_program()].into_iter().chain(own.get_args());
    let words: Vec<_> = words.map(|word| format!("'{}'", word.to_str().expect("UTF-8"))).collect();
    let script = format!("podman() {{ command {} \"$@\"; }}\n{script}", words.join(" "));
    let mut shell = command("bash");
    for (name, value) in own.get_envs() {
        shell.env(name, value.expect("it is set"));
    }
    shell.args(["-euc", &script]).current_dir(RELEASED);
    shell
}

/// Returns what podman knows of the container.
fn inspected(podman: &Podman<'_>) -> Value {
    let text = output(podman.command().args(["inspect", CONTAINER]));
    let containers: Vec<Value> = serde_json::from_str(&text).expect("it is JSON");
    containers.into_iter().next().expect("there is one")
}

/// A line of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(PathBuf::from(format!("/proc/{pid}/status"))).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.expect("the kernel has the line").to_owned()
}

pub(crate) fn runs_as_the_page_says() {
    isolated(|| {
        let directory = Directory::new("image-");
        let _cgroups = Cgroups::new("libpod_parent");
        let podman = Podman::new(directory.path());
        let name = format!("image{}", std::process::id());
        let _map = Map::ready(map_type::ARRAY, &name).expect("it can be made");

        let printed = output(&mut shell(&podman, &commands()));
        let id = printed.lines().last().expect("podman prints the id");
        let pid = process_in(id);
        let mut scraped = Err(String::new());
        let serves = wait_until("it serves", SOON, || {
            scraped = get(([127, 0, 0, 1], 10048).into(), "/metrics");
            Ok(scraped.is_ok())
        });
        let scraped = scraped.unwrap_or_else(|error| panic!("{serves:?}: {error}"));

        // What the host has, and every feature but one: settings of the network are those of the test's namespace.
        assert!(scraped.contains(&format!("name=\"{name}\"")), "the map of the test is missing");
        let unavailable: Vec<&str> = scraped.lines().filter(|line| is_unavailable(line)).collect();
        assert!(
            unavailable.iter().all(|line| line.contains(Feature::HostSettings.as_str())),
            "{unavailable:#?}"
        );

        // No capability is left outside of readings, the root is read-only, and the filter of the runtime is there beside its own.
        assert_eq!(status(pid, "CapEff"), "0000000000000000");
        assert_eq!((&*status(pid, "NoNewPrivs"), &*status(pid, "Seccomp_filters")), ("1", "2"));
        let facts = inspected(&podman);
        assert_eq!(facts["HostConfig"]["ReadonlyRootfs"], Value::Bool(true));
        assert_eq!(facts["HostConfig"]["Privileged"], Value::Bool(false));

        // Its health check, as podman runs it, and the program by itself.
        output(podman.command().args(["healthcheck", "run", CONTAINER]));
        let healthy = podman.command().args(["exec", CONTAINER, "/bpf-metrics-exporter", "healthy"]).output();
        assert_eq!(healthy.expect("podman runs").stdout, b"healthy\n");
        output(podman.command().args(["stop", "--time", "10", CONTAINER]));
        assert_eq!(inspected(&podman)["State"]["ExitCode"], Value::from(0));
    });
}

fn is_unavailable(line: &str) -> bool {
    line.starts_with("bpf_exporter_feature_available{") && line.ends_with(" 0")
}
