//! Container, pod and systemd unit from the path of a cgroup.
//! Entry point: [`CgroupIdentity::of`]. Independent of names that are not in the path.

use std::borrow::Cow;

use crate::model::IdentifiedBy;
use crate::text::{bounded, printable};

/// Prefixes of scopes that container runtimes create, before a dash and the container's id.
const PREFIXES: [(&str, &str); 7] = [
    ("docker", "docker"),
    ("cri-containerd", "containerd"),
    ("containerd", "containerd"),
    ("nerdctl", "containerd"),
    ("crio", "cri-o"),
    ("libpod", "podman"),
    ("libpod-payload", "podman"),
];

/// Cgroups below which a runtime creates those of its containers, named by their ids alone.
const PARENTS: [(&str, &str); 4] = [
    ("docker", "docker"),
    // Namespaces of containerd: what nerdctl and ctr use, and what the CRI plugin uses.
    ("default", "containerd"),
    ("k8s.io", "containerd"),
    ("moby", "docker"),
];

/// Units of the system's manager that create the cgroups of containers and pods below their own, as root.
const RUNTIME_UNITS: [&str; 16] = [
    "containerd.service",
    "cri-docker.service",
    "crio.service",
    "docker.service",
    "garden.service",
    "k0scontroller.service",
    "k0sworker.service",
    "k3s-agent.service",
    "k3s.service",
    "kubelet.service",
    "rke2-agent.service",
    "rke2-server.service",
    "snap.docker.dockerd.service",
    "snap.microk8s.daemon-containerd.service",
    "snap.microk8s.daemon-kubelite.service",
    "snap.microk8s.daemon-kubelet.service",
];

/// Nested containers that are looked at: a node of kind in a pod needs two. Each may cost a lookup of its name.
const MAX_NESTED: u32 = 4;

/// What the path of a cgroup identifies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupIdentity {
    /// The pod: its uid with dashes, or the hash of a static pod's configuration.
    pub pod: Option<String>,
    /// The container by its id; by its name where the runtime has no ids (LXC, systemd-nspawn).
    pub container: Option<String>,
    /// The container's runtime, if the path contains it.
    pub runtime: Option<Cow<'static, str>>,
    /// The systemd unit; with its manager unless that is the system's. With a container only if that is
    /// [`IdentifiedBy::Delegated`]: the unit below which it is.
    pub unit: Option<String>,
    /// [`IdentifiedBy::Path`] or [`IdentifiedBy::Delegated`]; `None` without pod and container.
    pub identified_by: Option<IdentifiedBy>,
    /// What the rest of the path, inside of the container, claims to identify: a pod or container that a runtime in the container
    /// created, or anything that a process in it made up.
    pub nested: Option<Box<CgroupIdentity>>,
}

impl CgroupIdentity {
    /// Parses the path of a cgroup, from the root on.
    ///
    /// Every process may create cgroups with any name below one that was delegated to it, as that of a container is to the
    /// container and that of `user@1000.service` to the user. So the outermost container or pod counts, which only the host can
    /// create, and what is inside of it is only [`nested`](Self::nested). Below a unit, a container is the word of that unit, and a
    /// pod is not believed, except below the unit of a runtime. The outermost unit counts in the same way.
    ///
    /// The monitor of a container (conmon, the processes of lxc and nspawn) is not in it: it belongs to the pod if it is in the
    /// cgroup of the pod, and else to its unit.
    ///
    /// In a cgroup namespace, `..` stands for each level between the cgroup of the exporter and an ancestor of it: what comes next
    /// was created by whoever created the exporter's own container. The names above are hidden.
    #[must_use]
    pub fn of(path: &str) -> Self {
        Self::outermost(&parts(path), MAX_NESTED)
    }

    fn outermost(parts: &[&str], nested: u32) -> Self {
        let (mut slice, mut runtime_unit) = (None, None);
        for (at, part) in parts.iter().enumerate() {
            let (outer, inside) = (&parts[..at], &parts[at + 1..]);
            if let Some(key) = pod(part, outer) {
                let in_pod =
                    Self { pod: Some(key), identified_by: Some(IdentifiedBy::Path), ..Self::default() };
                // The runtime creates its containers directly in the pod.
                let Some((name, inside)) = inside.split_first() else { return in_pod };
                let found = container(name, &parts[..=at], inside.first().copied());
                return found.map_or(in_pod.clone(), |found| in_pod.with(found, inside, nested));
            }
            if let Some(found) = container(part, outer, inside.first().copied()) {
                let identity = Self { identified_by: Some(IdentifiedBy::Path), ..Self::default() };
                return identity.with(found, inside, nested);
            }
            if RUNTIME_UNITS.contains(part) {
                runtime_unit = runtime_unit.or(Some(*part));
            } else if is_unit(part) && runtime_unit.is_none() {
                return Self::delegated(parts, at);
            } else if has_suffix(part, &[".slice"]) {
                slice = Some(*part);
            }
        }
        let unit = runtime_unit.or(slice).map(|unit| bounded(unit).into_owned());
        Self { unit, ..Self::default() }
    }

    /// Adds a container and what is inside of it.
    fn with(self, (id, runtime): (Cow<'_, str>, Option<&'static str>), inside: &[&str], nested: u32) -> Self {
        let inner = nested.checked_sub(1).map(|nested| Self::outermost(inside, nested));
        let inner = inner.filter(|inner| inner.identified_by == Some(IdentifiedBy::Path));
        Self {
            container: Some(bounded(&id).into_owned()),
            runtime: runtime.map(Cow::Borrowed),
            nested: inner.map(Box::new),
            ..self
        }
    }

    /// Returns the container below the unit at this place, or else the unit.
    fn delegated(parts: &[&str], at: usize) -> Self {
        let unit = &*bounded(parts[at]);
        let below = at + 1..parts.len();
        let container_at = |at: usize| container(parts[at], &parts[..at], parts.get(at + 1).copied());
        if let Some((id, runtime)) = below.clone().find_map(container_at) {
            return Self {
                container: Some(bounded(&id).into_owned()),
                runtime: runtime.map(Cow::Borrowed),
                unit: Some(unit.to_owned()),
                identified_by: Some(IdentifiedBy::Delegated),
                ..Self::default()
            };
        }
        let is_manager = unit.starts_with("user@") && unit.ends_with(".service");
        let of_user = parts[below].iter().find(|part| is_manager && is_unit(part));
        let unit = of_user.map_or_else(|| unit.to_owned(), |of_user| format!("{unit}/{}", bounded(of_user)));
        Self { unit: Some(unit), ..Self::default() }
    }
}

/// Returns true for a UID as the API server assigns them; false for the hash of a static pod's configuration (32 digits without
/// dashes) and for any other value that a manifest sets as `metadata.uid`.
#[must_use]
pub fn is_uid(key: &str) -> bool {
    has_groups(key, &[8, 4, 4, 4, 12])
}

/// Returns whether this is an id of a container, as most runtimes create them.
#[must_use]
pub fn is_container_id(id: &str) -> bool {
    id.len() == 64 && is_hex(id)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns whether this is groups of hexadecimal digits of these lengths, separated by dashes.
fn has_groups(text: &str, lengths: &[usize]) -> bool {
    let groups = || text.split('-');
    groups().map(str::len).eq(lengths.iter().copied()) && groups().all(is_hex)
}

/// Returns the names on the path, from the root on.
fn parts(path: &str) -> Vec<&str> {
    // The kernel marks a cgroup that was removed while it had processes. Source: kernel/cgroup/cgroup.c, proc_cgroup_show.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let mut parts = Vec::new();
    // In a cgroup namespace, `..` stands for each level outside of its root.
    for name in path.split('/').filter(|name| !matches!(*name, "" | "." | "..")) {
        // A runtime that is configured for systemd's driver but uses the other one takes `SLICE:PREFIX:ID` as a name.
        match name.split_once(':') {
            Some((slice, scope)) if scope.rsplit(':').next().is_some_and(is_container_id) => {
                parts.extend([slice, scope]);
            }
            _ => parts.push(name),
        }
    }
    parts
}

/// Returns the container of one name on a path, and its runtime, given the names outside of it and the next one inside.
fn container<'a>(
    part: &'a str,
    outer: &[&str],
    inner: Option<&str>,
) -> Option<(Cow<'a, str>, Option<&'static str>)> {
    let parent = outer.last().copied();
    let (name, is_scope) = match part.strip_suffix(".scope") {
        Some(name) => (name, true),
        None => (part, part.contains(':')),
    };
    // Podman's pods have ids as well, and its containers a prefix.
    if is_container_id(name) && parent != Some("libpod_parent") {
        let by_parent = |parent: &str| PARENTS.iter().find(|(known, _)| *known == parent);
        let runtime = parent.and_then(by_parent).map(|(_, runtime)| *runtime);
        // The ECS agent on a self-managed host runs them with Docker.
        let runtime = runtime.or_else(|| is_in_ecs(outer).then_some("docker"));
        return Some((name.into(), runtime));
    }
    if let Some((prefix, id)) = name.rsplit_once(['-', ':'])
        && is_container_id(id)
    {
        let runtime = PREFIXES.iter().find(|(known, _)| *known == prefix).map(|(_, runtime)| *runtime);
        // Any runtime may create a scope. The one named conmon is that of a monitor.
        let is_container = runtime.is_some() || (is_scope && !prefix.ends_with("conmon"));
        return is_container.then_some((id.into(), runtime));
    }
    if let Some(name) = lxc(part, parent) {
        return Some((name.into(), Some("lxc")));
    }
    if let Some((name, runtime)) = machine(part) {
        // This is nspawn itself; its payload is in a sibling.
        return (inner != Some("supervisor")).then_some((name, runtime));
    }
    // Cloud Foundry: `garden/ID`, and `garden/good/ID` or `garden/bad/ID` by CPU usage.
    if outer.contains(&"garden") && has_groups(part, &[8, 4, 4, 4, 4]) {
        return Some((part.into(), Some("garden")));
    }
    // ECS on Fargate: the task's id, and a number.
    if is_in_ecs(outer)
        && let Some((task, number)) = part.split_once('-')
        && task.len() == 32
        && is_hex(task)
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Some((part.into(), None));
    }
    None
}

/// Returns whether these are the cgroups of an ECS task: `ecs/TASK`, or `ecs/CLUSTER/TASK`.
fn is_in_ecs(outer: &[&str]) -> bool {
    matches!(outer, [.., "ecs", _] | [.., "ecs", _, _])
}

/// Returns the name of an LXC container. Its monitor has another cgroup, `lxc.monitor.NAME`.
/// Source: lxc, `src/lxc/cgroups/cgroup.h`, `DEFAULT_PAYLOAD_CGROUP_PREFIX`.
fn lxc<'a>(part: &'a str, parent: Option<&str>) -> Option<&'a str> {
    let name = match parent {
        Some("lxc" | "lxc.payload") => Some(part),
        _ => part.strip_prefix("lxc.payload.").or_else(|| part.strip_prefix("lxc.payload-")),
    };
    name.filter(|name| !name.is_empty())
}

/// Returns the name of a machine registered with systemd, if that is a container: `systemd-nspawn@NAME.service` for a template's,
/// `machine-NAME.scope` for one started manually. libvirt registers virtual machines in the same way.
fn machine(part: &str) -> Option<(Cow<'_, str>, Option<&'static str>)> {
    if let Some(name) = part.strip_prefix("systemd-nspawn@").and_then(|name| name.strip_suffix(".service")) {
        return (!name.is_empty()).then_some((name.into(), Some("systemd-nspawn")));
    }
    let name = unescape(part.strip_prefix("machine-")?.strip_suffix(".scope")?);
    match &*name {
        "" => None,
        machine if machine.starts_with("qemu-") => None,
        machine if machine.starts_with("lxc-") => Some((name, Some("lxc"))),
        _ => Some((name, Some("systemd-nspawn"))),
    }
}

/// Returns a part of a unit's name without systemd's escapes (`\x2d` for a dash). Source: systemd.unit(5), "String Escaping for Inclusion
/// in Unit Names".
fn unescape(name: &str) -> Cow<'_, str> {
    let Some((before, escaped)) = name.split_once("\\x") else { return name.into() };
    let mut bytes = before.as_bytes().to_vec();
    for piece in escaped.split("\\x") {
        let byte = piece.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = byte {
            bytes.push(byte);
            bytes.extend(&piece.as_bytes()[2..]);
        } else {
            bytes.extend(b"\\x");
            bytes.extend(piece.as_bytes());
        }
    }
    printable(&bytes).into()
}

/// Returns the pod of one name on a path, given the names outside of it.
/// Source: Kubernetes, `pkg/kubelet/cm/pod_container_manager_linux.go`, `GetPodContainerName`, and `cgroup_manager_linux.go`,
/// `ToSystemd` and `ToCgroupfs`.
fn pod(part: &str, outer: &[&str]) -> Option<String> {
    let key = if let Some(slice) = part.strip_suffix(".slice") {
        let (above, key) = slice.rsplit_once("-pod")?;
        let above =
            above.strip_suffix("-burstable").or_else(|| above.strip_suffix("-besteffort")).unwrap_or(above);
        let of_kubelet = above == "kubepods" || above.ends_with("-kubepods");
        of_kubelet.then(|| key.replace('_', "-"))
    } else {
        let key = part.strip_prefix("pod")?;
        let below_kubelet = matches!(outer, [.., "kubepods"] | [.., "kubepods", "burstable" | "besteffort"]);
        // A cgroup namespace may hide the names above: the shape of the name must suffice.
        (below_kubelet || is_uid(key) || key.len() == 32 && is_hex(key)).then(|| key.to_owned())
    };
    let is_valid = |key: &String| {
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
    };
    key.filter(is_valid)
}

/// Returns whether this is the name of a unit that can have processes.
fn is_unit(part: &str) -> bool {
    has_suffix(part, &[".service", ".scope", ".socket", ".mount", ".swap"])
}

/// Returns whether a name has one of these suffixes, and more.
fn has_suffix(part: &str, suffixes: &[&str]) -> bool {
    suffixes.iter().any(|suffix| part.strip_suffix(suffix).is_some_and(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests;
