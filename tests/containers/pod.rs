//! A pod in containerd, made the way the kubelet does.

use std::fs;

use bpf_metrics_exporter::enrich::cgroup::CgroupIdentity;
use bpf_metrics_exporter::enrich::names::{ContainerName, PodName};
use bpf_metrics_exporter::lookup::{Settings, Sockets};
use bpf_metrics_exporter::model::IdentifiedBy;

use super::containerd::Containerd;
use super::holder::{self, Role};
use super::host::{Cgroups, Directory, SOON, assert_holds, places, process_in};
use super::kubelet::{KubeletPod, NAME, NAMESPACE, UID};
use super::owned::Watched;
use test_support::background_lookup::BackgroundLookup;
use test_support::objects::wait_until;

pub(crate) fn identified_and_named() {
    let directory = Directory::new("containerd-");
    let images = Directory::new("images-");
    let _cgroups = Cgroups::new("kubepods");
    let containerd = Containerd::start(directory.path(), images.path());
    let root = directory.path().join("host");
    let name = format!("pod{}", std::process::id());
    let running = KubeletPod::run(&containerd, &root);
    let sandbox = running.sandbox.clone();
    let container = running.start("web", holder::command(Role::Hold, &name));

    let pid = process_in(&container);
    assert_holds(pid, &name);
    for (container, pid) in [(&container, pid), (&sandbox, process_in(&sandbox))] {
        // Paths of the cgroupfs driver do not contain the runtime.
        let expected = CgroupIdentity {
            pod: Some(UID.to_owned()),
            container: Some(container.clone()),
            identified_by: Some(IdentifiedBy::Path),
            ..CgroupIdentity::default()
        };
        let places = places(pid);
        assert!(!places.is_empty() && places.iter().all(|place| *place == expected), "{places:#?}");
    }

    let pod = PodName { namespace: NAMESPACE.to_owned(), name: NAME.to_owned() };
    let web = ContainerName { name: Some("web".to_owned()), pod: Some(UID.to_owned()) };
    let no_sockets = Sockets::Given(Vec::new());
    let by_socket = BackgroundLookup::start(Settings {
        root: images.path().to_owned(),
        cri: Sockets::Given(vec![containerd.socket.clone()]),
        docker: no_sockets.clone(),
    });
    let mut watched = Watched::new(&name, &by_socket);
    watched.assert_owned("pod shop/cart-7c5d", &container, pid);
    assert_eq!(by_socket.pod(UID), pod);
    assert_eq!(by_socket.container(&container), web);
    assert_eq!(by_socket.container(&sandbox), ContainerName { name: None, pod: Some(UID.to_owned()) });
    assert_eq!(by_socket.log(), "");

    let logs = root.join(format!("var/log/pods/{NAMESPACE}_{NAME}_{UID}/web/0.log"));
    wait_until("containerd writes a log", SOON, || Ok(fs::read_to_string(&logs)?.contains("holding")))
        .expect("the container prints a line");
    let by_logs =
        BackgroundLookup::start(Settings { root: root.clone(), cri: no_sockets.clone(), docker: no_sockets });
    assert_eq!(by_logs.pod(UID), pod);
    assert_eq!(by_logs.container(&container), web);
    assert_eq!(by_logs.names.container(&sandbox), None, "a sandbox has no log");
    assert_eq!(by_logs.log(), "");

    running.remove();
    watched.assert_gone("pod shop/cart-7c5d");
}
