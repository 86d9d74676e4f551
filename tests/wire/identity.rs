//! Hosts that were made from one image, whose machine id was never initialized.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::exporter::Exporter;
use crate::processes::Scratch;
use crate::series::Labels;
use test_support::http::free_address;

const MACHINE_ID: &str = "/etc/machine-id";

/// Starts the exporter on a host of this name and machine id, and returns the attributes of its resource. The receiver distinguishes
/// exporters of one host; the port that it serves on is any.
fn resource(folder: &Path, host: &str, machine_id: &str, receiver: SocketAddr) -> Labels {
    let start = || {
        let file = folder.join("machine-id");
        fs::write(&file, machine_id).expect("the folder is writable");
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS).expect("root may");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("root may");
        mount(Some(&file), MACHINE_ID, none, MsFlags::MS_BIND, none).expect("the host has one");
        fs::write("/proc/sys/kernel/hostname", host).expect("root may");
        let exporter = Exporter::start(folder, receiver, "1h", &["--node-name=n1"]);
        let target = exporter.scrape().into_keys().find(|series| series.name == "target_info");
        target.expect("each scrape has it").labels
    };
    thread::scope(|scope| scope.spawn(start).join().expect("it starts"))
}

pub(crate) fn test() {
    const ID: &str = "0123456789abcdef0123456789abcdef";
    let (scratch, receiver) = (Scratch::new(), free_address());
    let one = resource(&scratch.folder("one"), "host-one", "uninitialized", receiver);
    let two = resource(&scratch.folder("two"), "host-two", "uninitialized", receiver);
    assert_eq!((one["host_name"].as_str(), two["host_name"].as_str()), ("host-one", "host-two"));
    assert_eq!(one["k8s_node_name"], "n1");
    assert!([&one, &two].iter().all(|labels| !labels.contains_key("host_id")), "{one:?} {two:?}");
    let instance = |labels: &Labels| labels["service_instance_id"].clone();
    assert_ne!(instance(&one), instance(&two));
    assert_eq!(
        resource(&scratch.folder("again"), "host-one", "uninitialized", receiver),
        one,
        "a restart keeps it"
    );

    let initialized = resource(&scratch.folder("initialized"), "host-one", ID, receiver);
    assert_eq!(initialized["host_id"], ID);
    let other_exporter = resource(&scratch.folder("other"), "host-one", ID, free_address());
    assert_ne!(instance(&initialized), instance(&other_exporter));
}
