use proptest::prelude::*;

use super::*;

/// Placeholders for ids and uids in the tables.
const C: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const D: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const UID: &str = "2fc932ce-fdcc-454b-97bd-aadfdeb4c340";
const HASH: &str = "36b6d6be73b1065af369b3985edafa09";
const TASK: &str = "34dc0b5e626f2c5c4c5170e34b10e765";
const GARDEN: &str = "6f265890-5165-7fab-6b52-18d1";

fn written_out(text: &str) -> String {
    let uid_in_a_unit = UID.replace('-', "_");
    let words = [
        ("{C}", C),
        ("{D}", D),
        ("{UID}", UID),
        ("{U_I_D}", &uid_in_a_unit),
        ("{HASH}", HASH),
        ("{TASK}", TASK),
        ("{GARDEN}", GARDEN),
    ];
    words.iter().fold(text.to_owned(), |text, (word, meaning)| text.replace(word, meaning))
}

/// Asserts the pod, container and runtime of each path, with a dash for what it does not contain.
fn assert_containers(table: &[(&str, &str, &str, &str)]) {
    for (path, pod, container, runtime) in table {
        let given = |text: &str| (text != "-").then(|| written_out(text));
        let expected = CgroupIdentity {
            pod: given(pod),
            container: given(container),
            runtime: given(runtime).map(Cow::Owned),
            unit: None,
        };
        assert_eq!(CgroupIdentity::of(&written_out(path)), expected, "{path}");
    }
}

#[test]
fn pods() {
    assert_containers(&[
        // The systemd driver, in each class of service.
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{U_I_D}.slice/cri-containerd-{C}.scope",
            "{UID}",
            "{C}",
            "containerd",
        ),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{U_I_D}.slice/crio-{C}.scope",
            "{UID}",
            "{C}",
            "cri-o",
        ),
        ("/kubepods.slice/kubepods-pod{U_I_D}.slice/docker-{C}.scope", "{UID}", "{C}", "docker"),
        (
            "/kubepods.slice/kubepods-pod{U_I_D}.slice/cri-containerd-{C}.scope (deleted)",
            "{UID}",
            "{C}",
            "containerd",
        ),
        ("/kubepods.slice/kubepods-pod{U_I_D}.slice/crio-{C}.scope/container", "{UID}", "{C}", "cri-o"),
        (
            "/kubepods.slice/kubepods-pod{U_I_D}.slice/crio-{C}.scope/system.slice/sshd.service",
            "{UID}",
            "{C}",
            "cri-o",
        ),
        ("/kubepods.slice/kubepods-pod{U_I_D}.slice/youki-{C}.scope", "{UID}", "{C}", "-"),
        // The pod itself, and monitors of its containers: in the pod, in no container.
        ("/kubepods.slice/kubepods-pod{U_I_D}.slice", "{UID}", "-", "-"),
        ("/kubepods.slice/kubepods-pod{U_I_D}.slice/crio-conmon-{C}.scope", "{UID}", "-", "-"),
        ("/kubepods/burstable/pod{UID}/crio-conmon-{C}", "{UID}", "-", "-"),
        ("/kubepods/burstable/pod{UID}", "{UID}", "-", "-"),
        // The cgroupfs driver, where only CRI-O has a name of its own.
        ("/kubepods/besteffort/pod{UID}/{C}", "{UID}", "{C}", "-"),
        ("/kubepods/burstable/pod{UID}/{C}/init.scope", "{UID}", "{C}", "-"),
        ("/kubepods/pod{UID}/{C}", "{UID}", "{C}", "-"),
        ("/kubepods/burstable/pod{UID}/crio-{C}", "{UID}", "{C}", "cri-o"),
        // Static pods.
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{HASH}.slice/cri-containerd-{C}.scope",
            "{HASH}",
            "{C}",
            "containerd",
        ),
        ("/kubepods/burstable/pod{HASH}/{C}", "{HASH}", "{C}", "-"),
        // kubelets with their own root: kind, Docker Desktop, LinuxKit, k3s.
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
             kubelet-kubepods-besteffort-pod{U_I_D}.slice/cri-containerd-{C}.scope",
            "{UID}",
            "{C}",
            "containerd",
        ),
        ("/kubelet/kubepods/besteffort/pod{UID}/{C}", "{UID}", "{C}", "-"),
        ("/kubepods/kubepods/besteffort/pod{UID}/{C}", "{UID}", "{C}", "-"),
        ("/podruntime/docker/kubepods/besteffort/pod{UID}/{C}", "{UID}", "{C}", "-"),
        ("/k3s/kubepods/burstable/pod{UID}/{C}", "{UID}", "{C}", "-"),
        // containerd that is not configured for systemd.
        (
            "/system.slice/containerd.service/kubepods-burstable-pod{U_I_D}.slice:cri-containerd:{C}",
            "{UID}",
            "{C}",
            "containerd",
        ),
        ("/kubepods-besteffort-pod{HASH}.slice:cri-containerd:{C}", "{HASH}", "{C}", "containerd"),
        (
            "/system.slice/k3s.service/kubepods-pod{U_I_D}.slice:cri-containerd:{C}",
            "{UID}",
            "{C}",
            "containerd",
        ),
        // Nodes that are containers: kind with each driver, a node in a pod, containers in a pod's container.
        (
            "/docker/{D}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{U_I_D}.slice/cri-containerd-{C}.scope",
            "{UID}",
            "{C}",
            "containerd",
        ),
        ("/docker/{D}/kubelet/kubepods/burstable/pod{UID}/{C}", "{UID}", "{C}", "-"),
        ("/docker/{D}/kubelet/kubepods/burstable/pod{UID}", "{UID}", "-", "-"),
        (
            "/system.slice/docker-{D}.scope/kubepods.slice/kubepods-pod{U_I_D}.slice/crio-{C}.scope",
            "{UID}",
            "{C}",
            "cri-o",
        ),
        ("/kubepods/pod{HASH}/{D}/docker/{D}/kubelet/kubepods/pod{UID}/{C}", "{UID}", "{C}", "-"),
        ("/kubepods/burstable/pod{UID}/{D}/docker/{C}", "{UID}", "{C}", "docker"),
        // A root that a cgroup namespace hides.
        (
            "/../../kubepods-besteffort.slice/kubepods-besteffort-pod{U_I_D}.slice/cri-containerd-{C}.scope",
            "{UID}",
            "{C}",
            "containerd",
        ),
        ("/../../burstable/pod{UID}/{C}", "{UID}", "{C}", "-"),
        ("/../../pod{HASH}/{C}", "{HASH}", "{C}", "-"),
        ("/../cri-containerd-{C}.scope", "-", "{C}", "containerd"),
        ("/../{C}", "-", "{C}", "-"),
    ]);
}

#[test]
fn containers() {
    assert_containers(&[
        // Docker.
        ("/docker/{C}", "-", "{C}", "docker"),
        ("/docker/{C}/system.slice/cron.service", "-", "{C}", "docker"),
        ("/docker/{D}/docker/{C}", "-", "{C}", "docker"),
        ("/docker-ce/docker/{C}", "-", "{C}", "docker"),
        ("/system.slice/docker-{C}.scope", "-", "{C}", "docker"),
        ("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{C}.scope", "-", "{C}", "docker"),
        ("/{C}", "-", "{C}", "-"),
        ("/actions_job/{C}", "-", "{C}", "-"),
        ("/system.slice/docker-{D}.scope/docker/{C}/init", "-", "{C}", "docker"),
        // containerd by nerdctl and ctr.
        ("/default/{C}", "-", "{C}", "containerd"),
        ("/system.slice/nerdctl-{C}.scope", "-", "{C}", "containerd"),
        ("/k8s.io/{C}", "-", "{C}", "containerd"),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/nerdctl-{C}.scope",
            "-",
            "{C}",
            "containerd",
        ),
        // podman: with and without systemd, split, rootless, in a pod of its own.
        ("/machine.slice/libpod-{C}.scope", "-", "{C}", "podman"),
        ("/machine.slice/libpod-{C}.scope/container", "-", "{C}", "podman"),
        ("/libpod_parent/libpod-{C}", "-", "{C}", "podman"),
        ("/machine.slice/machine-libpod_pod_{D}.slice/libpod-{C}.scope", "-", "{C}", "podman"),
        ("/libpod_parent/{D}/libpod-{C}", "-", "{C}", "podman"),
        ("/system.slice/nginx.service/libpod-payload-{C}", "-", "{C}", "podman"),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-{C}",
            "-",
            "{C}",
            "podman",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{C}.scope/container",
            "-",
            "{C}",
            "podman",
        ),
        // ECS on self-managed hosts, and on Fargate.
        ("/ecs/{TASK}/{C}", "-", "{C}", "docker"),
        ("/ecs/shop/{TASK}/{C}", "-", "{C}", "docker"),
        ("/ecs/{TASK}/{TASK}-1234567890", "-", "{TASK}-1234567890", "-"),
        ("/ecstasks.slice/ecstasks-{TASK}.slice/docker-{C}.scope", "-", "{C}", "docker"),
        // Cloud Foundry.
        ("/garden/{GARDEN}", "-", "{GARDEN}", "garden"),
        ("/system.slice/garden.service/garden/good/{GARDEN}", "-", "{GARDEN}", "garden"),
        // LXC, LXD and Incus, Proxmox.
        ("/lxc.payload.web", "-", "web", "lxc"),
        ("/lxc.payload.web/system.slice/cron.service", "-", "web", "lxc"),
        ("/lxc.payload/web", "-", "web", "lxc"),
        ("/lxc.payload-web", "-", "web", "lxc"),
        ("/lxc/101/ns/init.scope", "-", "101", "lxc"),
        ("/lxc/outer/lxc/inner", "-", "inner", "lxc"),
        ("/lxc.payload.web/system.slice/docker-{C}.scope", "-", "{C}", "docker"),
        // systemd-nspawn, and LXC by libvirt.
        (
            "/machine.slice/systemd-nspawn@web.service/payload/system.slice/cron.service",
            "-",
            "web",
            "systemd-nspawn",
        ),
        ("/machine.slice/systemd-nspawn@web.service/payload", "-", "web", "systemd-nspawn"),
        ("/machine.slice/machine-my\\x2dbox.scope/payload/init.scope", "-", "my-box", "systemd-nspawn"),
        ("/machine.slice/machine-web.scope", "-", "web", "systemd-nspawn"),
        ("/machine.slice/machine-lxc\\x2d4711\\x2dweb.scope", "-", "lxc-4711-web", "lxc"),
        // A monitor in a container is in that one.
        ("/docker/{C}/libpod_parent/libpod-{D}/conmon", "-", "{C}", "docker"),
    ]);
}

#[test]
fn units() {
    let table = [
        ("/system.slice/sshd.service", "sshd.service"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
        ("/system.slice/dbus.socket", "dbus.socket"),
        ("/system.slice/var-lib-docker.mount", "var-lib-docker.mount"),
        ("/system.slice/dev-sda2.swap", "dev-sda2.swap"),
        (
            "/system.slice/systemd-fsck@dev-disk-by\\x2duuid-AB\\x2dCD.service",
            "systemd-fsck@dev-disk-by\\x2duuid-AB\\x2dCD.service",
        ),
        ("/system.slice/foo.service/supervised", "foo.service"),
        ("/system.slice/foo.service/one/two (deleted)", "foo.service"),
        ("/init.scope", "init.scope"),
        ("/system.slice", "system.slice"),
        ("/user.slice/user-1000.slice", "user-1000.slice"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
        ("/user.slice/user-1000.slice/user@1000.service", "user@1000.service"),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", "user@1000.service/init.scope"),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app.service",
            "user@1000.service/app.service",
        ),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice", "user@1000.service"),
        ("/system.slice/containerd.service", "containerd.service"),
        ("/system.slice/docker.service/buildkit/abcdefghijklmnopqrstuvwxy", "docker.service"),
        // podman checks the health of a container in a unit of this name.
        ("/system.slice/{C}.service", "{C}.service"),
        // Monitors of containers.
        ("/machine.slice/libpod-conmon-{C}.scope", "libpod-conmon-{C}.scope"),
        ("/system.slice/nginx.service/runtime", "nginx.service"),
        ("/system.slice/lxc@web.service/lxc.monitor.web", "lxc@web.service"),
        ("/machine.slice/systemd-nspawn@web.service/supervisor", "systemd-nspawn@web.service"),
        // A virtual machine is not a container.
        (
            "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/libvirt/emulator",
            "machine-qemu\\x2d1\\x2dweb.scope",
        ),
        ("/kubepods.slice", "kubepods.slice"),
        ("/kubepods.slice/kubepods-burstable.slice", "kubepods-burstable.slice"),
        // Not pods despite their names.
        ("/system.slice/kubepods-proxy.service", "kubepods-proxy.service"),
        ("/system.slice/my-pod1.slice", "my-pod1.slice"),
    ];
    for (path, unit) in table {
        let expected = CgroupIdentity { unit: Some(written_out(unit)), ..CgroupIdentity::default() };
        assert_eq!(CgroupIdentity::of(&written_out(path)), expected, "{path}");
    }
}

#[test]
fn paths_without_container_pod_or_unit() {
    for path in [
        "",
        "/",
        "/..",
        "/../..",
        "/process_api/{HASH}",
        "/kubepods",
        "/kubepods/burstable",
        "/docker",
        "/docker/buildkit",
        "/lxc",
        "/lxc.payload.",
        "/lxc.monitor.web",
        "/lxc.monitor/web",
        "/lxc.pivot",
        "/libpod_parent/conmon",
        "/libpod_parent/libpod-{C}/conmon",
        "/podcast",
        "/ecs/{TASK}",
        "/garden",
        "/my.group",
        "/.service",
    ] {
        assert_eq!(CgroupIdentity::of(&written_out(path)), CgroupIdentity::default(), "{path}");
    }
}

/// Any name that may occur in a path of cgroups.
fn name() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        "kubepods",
        "kubepods.slice",
        "docker",
        "lxc",
        "burstable",
        "garden",
        "ecs",
        "supervisor",
        "payload",
        "conmon",
        "..",
        "machine-\\x2.scope",
        "user@1.service",
        "a.slice:b:c",
        "::",
        "kubepods-pod.slice",
        "pod",
    ]);
    prop_oneof![
        odd.prop_map(str::to_owned),
        "[a-z0-9@:._\\\\-]{0,12}",
        "\\PC{0,6}",
        "[0-9a-f]{64}(\\.scope)?"
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_path_panics(path in "\\PC{0,100}") {
        let _place = CgroupIdentity::of(&path);
    }

    #[test]
    fn parsed_identities_are_valid(names in prop::collection::vec(name(), 0..8)) {
        let place = CgroupIdentity::of(&names.join("/"));
        if let Some(container) = &place.container {
            let named = matches!(place.runtime.as_deref(), Some("lxc" | "systemd-nspawn" | "garden"));
            prop_assert!(is_container_id(container) || named && !container.is_empty(), "{place:?}");
        }
        prop_assert!(place.pod.as_ref().is_none_or(|pod| !pod.is_empty()));
        prop_assert!(place.runtime.is_none() || place.container.is_some());
        prop_assert!(place.unit.is_none() || place.pod.is_none() && place.container.is_none());
    }

    #[test]
    fn names_above_a_pod_do_not_matter(
        above in prop::collection::vec(name(), 0..5),
        uid in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}",
        id in "[0-9a-f]{64}",
        systemd in any::<bool>(),
    ) {
        let below = if systemd {
            let uid = uid.replace('-', "_");
            format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/cri-containerd-{id}.scope")
        } else {
            format!("/kubepods/burstable/pod{uid}/{id}")
        };
        let place = CgroupIdentity::of(&format!("/{}{below}", above.join("/")));
        prop_assert_eq!(place.pod.as_ref(), Some(&uid));
        prop_assert_eq!(place.container.as_ref(), Some(&id));
        prop_assert_eq!(place, CgroupIdentity::of(&below));
    }
}
