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

/// Returns a pod and container of the host, with a dash for what is absent.
fn of_host(pod: &str, container: &str, runtime: &str) -> CgroupIdentity {
    let given = |text: &str| (text != "-").then(|| written_out(text));
    CgroupIdentity {
        pod: given(pod),
        container: given(container),
        runtime: given(runtime).map(Cow::Owned),
        identified_by: Some(IdentifiedBy::Path),
        ..CgroupIdentity::default()
    }
}

/// Asserts the pod, container and runtime of each path, which the host created, and that nothing is nested in it.
fn assert_containers(table: &[(&str, &str, &str, &str)]) {
    for (path, pod, container, runtime) in table {
        assert_eq!(CgroupIdentity::of(&written_out(path)), of_host(pod, container, runtime), "{path}");
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
        ("/docker-ce/docker/{C}", "-", "{C}", "docker"),
        ("/system.slice/docker-{C}.scope", "-", "{C}", "docker"),
        ("/{C}", "-", "{C}", "-"),
        ("/actions_job/{C}", "-", "{C}", "-"),
        // containerd by nerdctl and ctr.
        ("/default/{C}", "-", "{C}", "containerd"),
        ("/system.slice/nerdctl-{C}.scope", "-", "{C}", "containerd"),
        ("/k8s.io/{C}", "-", "{C}", "containerd"),
        // podman: with and without systemd, in a pod of its own.
        ("/machine.slice/libpod-{C}.scope", "-", "{C}", "podman"),
        ("/machine.slice/libpod-{C}.scope/container", "-", "{C}", "podman"),
        ("/libpod_parent/libpod-{C}", "-", "{C}", "podman"),
        ("/machine.slice/machine-libpod_pod_{D}.slice/libpod-{C}.scope", "-", "{C}", "podman"),
        ("/libpod_parent/{D}/libpod-{C}", "-", "{C}", "podman"),
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
    ]);
}

#[test]
fn containers_in_containers_are_only_claimed() {
    let nested = |outer: CgroupIdentity, inner| CgroupIdentity { nested: Some(Box::new(inner)), ..outer };
    let docker = || of_host("-", "{D}", "docker");
    let in_pod = || of_host("{UID}", "{C}", "-");
    let table = [
        // kind with each driver, and a forgery of it: which one it is cannot be seen in the path.
        (
            "/docker/{D}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{U_I_D}.slice/cri-containerd-{C}.scope",
            nested(docker(), of_host("{UID}", "{C}", "containerd")),
        ),
        ("/docker/{D}/kubelet/kubepods/burstable/pod{UID}/{C}", nested(docker(), in_pod())),
        ("/docker/{D}/kubelet/kubepods/burstable/pod{UID}", nested(docker(), of_host("{UID}", "-", "-"))),
        (
            "/system.slice/docker-{D}.scope/kubepods.slice/kubepods-pod{U_I_D}.slice/crio-{C}.scope",
            nested(docker(), of_host("{UID}", "{C}", "cri-o")),
        ),
        ("/docker/{D}/pod{UID}/{C}", nested(docker(), in_pod())),
        ("/docker/{D}/pod{HASH}/{C}", nested(docker(), of_host("{HASH}", "{C}", "-"))),
        // A pod or container that imitates another one inside of its own cgroup.
        (
            "/kubepods/burstable/pod{HASH}/{D}/kubepods/burstable/pod{UID}/{C}",
            nested(of_host("{HASH}", "{D}", "-"), in_pod()),
        ),
        ("/kubepods/burstable/pod{HASH}/{D}/pod{UID}/{C}", nested(of_host("{HASH}", "{D}", "-"), in_pod())),
        (
            "/kubepods.slice/kubepods-pod{HASH}.slice/crio-{D}.scope/kubepods.slice/kubepods-pod{U_I_D}.slice/crio-{C}.scope",
            nested(of_host("{HASH}", "{D}", "cri-o"), of_host("{UID}", "{C}", "cri-o")),
        ),
        ("/../pod{HASH}/{D}/kubepods/pod{UID}/{C}", nested(of_host("{HASH}", "{D}", "-"), in_pod())),
        (
            "/kubepods/burstable/pod{HASH}/{D}/{C}",
            nested(of_host("{HASH}", "{D}", "-"), of_host("-", "{C}", "-")),
        ),
        (
            "/machine.slice/libpod-{D}.scope/container/pod{UID}/{C}",
            nested(of_host("-", "{D}", "podman"), in_pod()),
        ),
        // A node of kind in a pod, which is a container in a container.
        (
            "/kubepods/pod{HASH}/{D}/docker/{D}/kubelet/kubepods/pod{UID}/{C}",
            nested(of_host("{HASH}", "{D}", "-"), nested(docker(), in_pod())),
        ),
        // Docker in Docker, in a pod, and in LXC; podman in podman; LXC in LXC.
        ("/docker/{D}/docker/{C}", nested(docker(), of_host("-", "{C}", "docker"))),
        ("/system.slice/docker-{D}.scope/docker/{C}/init", nested(docker(), of_host("-", "{C}", "docker"))),
        (
            "/kubepods/burstable/pod{UID}/{D}/docker/{C}",
            nested(of_host("{UID}", "{D}", "-"), of_host("-", "{C}", "docker")),
        ),
        (
            "/lxc.payload.web/system.slice/docker-{C}.scope",
            nested(of_host("-", "web", "lxc"), of_host("-", "{C}", "docker")),
        ),
        (
            "/machine.slice/libpod-{D}.scope/container/libpod_parent/libpod-{C}",
            nested(of_host("-", "{D}", "podman"), of_host("-", "{C}", "podman")),
        ),
        ("/lxc/outer/lxc/inner", nested(of_host("-", "outer", "lxc"), of_host("-", "inner", "lxc"))),
        // An ECS task.
        (
            "/ecs/{TASK}/{D}/ecs/{TASK}/{C}",
            nested(of_host("-", "{D}", "docker"), of_host("-", "{C}", "docker")),
        ),
        // Nothing that a runtime creates: services in a container, a monitor of podman, what a unit in it created.
        ("/docker/{D}/libpod_parent/libpod-conmon", docker()),
        ("/docker/{D}/system.slice/web.service/libpod-payload-{C}", docker()),
        ("/docker/{D}/user.slice/user-1000.slice/user@1000.service/kubepods/pod{UID}/{C}", docker()),
        // A process cannot leave its container by a name that runtimes use for their monitors.
        ("/machine.slice/libpod-{D}.scope/conmon", of_host("-", "{D}", "podman")),
        ("/kubepods/pod{UID}/crio-{C}/crio-conmon-{D}", of_host("{UID}", "{C}", "cri-o")),
    ];
    for (path, expected) in table {
        assert_eq!(CgroupIdentity::of(&written_out(path)), expected, "{path}");
    }
}

#[test]
fn containers_below_units_are_the_word_of_the_unit() {
    const USER: &str = "/user.slice/user-1000.slice/user@1000.service";
    let table = [
        // Rootless Docker, nerdctl and podman; podman in a unit.
        ("{USER}/user.slice/docker-{C}.scope", "user@1000.service", "docker"),
        ("{USER}/user.slice/nerdctl-{C}.scope", "user@1000.service", "containerd"),
        ("{USER}/user.slice/libpod-{C}.scope/container", "user@1000.service", "podman"),
        ("{USER}/app.slice/web.service/libpod-payload-{C}", "user@1000.service", "podman"),
        ("/system.slice/nginx.service/libpod-payload-{C}", "nginx.service", "podman"),
        // The same names, made up: a pod is never believed.
        ("{USER}/kubepods/burstable/pod{UID}/{C}", "user@1000.service", "-"),
        (
            "{USER}/kubepods.slice/kubepods-pod{U_I_D}.slice/cri-containerd-{C}.scope",
            "user@1000.service",
            "containerd",
        ),
        ("{USER}/docker/{C}", "user@1000.service", "docker"),
        ("{USER}/system.slice/docker.service/docker/{C}", "user@1000.service", "docker"),
        ("/system.slice/delegated.service/pod{UID}/{C}", "delegated.service", "-"),
        ("/system.slice/delegated.service/kubepods/pod{UID}/{C}/pod{UID}/{D}", "delegated.service", "-"),
        ("/system.slice/delegated.service/containerd.service/k8s.io/{C}", "delegated.service", "containerd"),
        ("/user.slice/user-1000.slice/session-3.scope/docker/{C}", "session-3.scope", "docker"),
        ("/../../user@1000.service/kubepods/pod{UID}/{C}", "user@1000.service", "-"),
    ];
    for (path, unit, runtime) in table {
        let expected = CgroupIdentity {
            unit: Some(unit.to_owned()),
            identified_by: Some(IdentifiedBy::Delegated),
            ..of_host("-", "{C}", runtime)
        };
        assert_eq!(CgroupIdentity::of(&written_out(&path.replace("{USER}", USER))), expected, "{path}");
    }
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
        // Units inside of a unit are made up, but for those of a user's manager.
        ("/system.slice/foo.service/system.slice/sshd.service", "foo.service"),
        ("/system.slice/foo.service/kubepods/pod{UID}", "foo.service"),
        ("/system.slice/foo.service/user@0.service/a.service", "foo.service"),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app.service/user@0.service/sshd.service",
            "user@1000.service/app.service",
        ),
        ("/user.slice/user-1000.slice/user@1000.service/kubepods/pod{UID}", "user@1000.service"),
        ("/system.slice/docker.service/system.slice/sshd.service", "docker.service"),
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
        let mut place = Some(Box::new(CgroupIdentity::of(&names.join("/"))));
        let mut depth = 0;
        while let Some(at) = place {
            let is_contained = at.pod.is_some() || at.container.is_some();
            if let Some(container) = &at.container {
                let named = matches!(at.runtime.as_deref(), Some("lxc" | "systemd-nspawn" | "garden"));
                prop_assert!(is_container_id(container) || named && !container.is_empty(), "{at:?}");
            }
            prop_assert!(at.pod.as_ref().is_none_or(|pod| !pod.is_empty()));
            prop_assert!(at.runtime.is_none() || at.container.is_some());
            prop_assert_eq!(at.identified_by.is_some(), is_contained);
            let is_delegated = at.identified_by == Some(IdentifiedBy::Delegated);
            prop_assert!(is_contained || at.nested.is_none());
            prop_assert!(!is_contained || at.unit.is_some() == is_delegated);
            prop_assert!(at.pod.is_none() || !is_delegated, "a unit made up a pod: {at:?}");
            prop_assert!(depth == 0 || at.identified_by == Some(IdentifiedBy::Path));
            prop_assert!(depth <= MAX_NESTED);
            depth += 1;
            place = at.nested;
        }
    }

    #[test]
    fn names_inside_of_a_container_or_unit_change_nothing_outside(
        outer in prop::sample::select(vec![
            "/kubepods/burstable/pod{UID}/{C}",
            "/kubepods.slice/kubepods-pod{U_I_D}.slice/cri-containerd-{C}.scope",
            "/docker/{C}",
            "/system.slice/docker-{C}.scope",
            "/machine.slice/libpod-{C}.scope",
            "/ecs/{TASK}/{C}",
            "/lxc.payload.web",
            "/../../burstable/pod{UID}/{C}",
            "/system.slice/foo.service",
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app.service",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{C}.scope",
        ]),
        inside in prop::collection::vec(name(), 0..6),
    ) {
        let outer = written_out(outer);
        let claimed = CgroupIdentity::of(&format!("{outer}/{}", inside.join("/")));
        let real = CgroupIdentity::of(&outer);
        if real.identified_by.is_some() {
            prop_assert_eq!(CgroupIdentity { nested: None, ..claimed }, real);
        } else {
            let (unit, real) = (claimed.unit.expect("it is in the unit"), real.unit.expect("it is a unit"));
            prop_assert!(claimed.pod.is_none());
            prop_assert!(unit == real || claimed.container.is_some() && real.starts_with(&unit), "{unit}");
        }
    }
}
