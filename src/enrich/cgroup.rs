//! Container, pod and systemd unit from the path of a cgroup.
//! Entry point: [`CgroupIdentity::of`]. Independent of names that are not in the path.

use std::borrow::Cow;

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
const PARENTS: [(&str, &str); 5] = [
    ("docker", "docker"),
    // Namespaces of containerd: what nerdctl and ctr use, and what the CRI plugin uses.
    ("default", "containerd"),
    ("k8s.io", "containerd"),
    ("moby", "docker"),
    ("libpod_parent", "podman"),
];

/// What the path of a cgroup identifies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupIdentity {
    /// The pod: its uid with dashes, or the hash of a static pod's configuration.
    pub pod: Option<String>,
    /// The container by its id; by its name where the runtime has no ids (LXC, systemd-nspawn).
    pub container: Option<String>,
    /// The container's runtime, if the path contains it.
    pub runtime: Option<Cow<'static, str>>,
    /// The systemd unit, outside of containers; with its manager unless that is the system's.
    pub unit: Option<String>,
}

impl CgroupIdentity {
    /// Parses the path of a cgroup.
    ///
    /// The innermost container and the innermost pod win: a process in a node of kind is in its pod, not in the container that
    /// is the node; a process in Docker in Docker is in the inner container. A container around a pod is not reported. The
    /// monitor of a container (conmon, the processes of lxc and nspawn) is not in it: it belongs to the pod if it is in the
    /// cgroup of the pod, and else to its unit.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let parts = parts(path);
        let mut identity = Self::default();
        for (at, part) in parts.iter().enumerate().rev() {
            let (outer, inner) = (&parts[..at], parts.get(at + 1).copied());
            if identity.container.is_none()
                && let Some((id, runtime)) = container(part, outer, inner)
            {
                identity.container = Some(bounded(&id).into_owned());
                identity.runtime = runtime.map(Cow::Borrowed);
            }
            if let Some(key) = pod(part, outer) {
                identity.pod = Some(key);
                break;
            }
        }
        if identity.pod.is_none() && identity.container.is_none() {
            identity.unit = unit(&parts).map(|unit| bounded(&unit).into_owned());
        }
        identity
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
    if is_container_id(name) {
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
        // Older versions of podman used this name for the monitor.
        return (is_container && inner != Some("conmon")).then_some((id.into(), runtime));
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

/// Returns the unit of a path: the innermost that can have processes; a slice only if there is none.
fn unit(parts: &[&str]) -> Option<String> {
    let has = |suffixes: &[&str], part: &str| {
        suffixes.iter().any(|suffix| part.strip_suffix(suffix).is_some_and(|name| !name.is_empty()))
    };
    let runs = |part: &&&str| has(&[".service", ".scope", ".socket", ".mount", ".swap"], part);
    let is_manager = |part: &&&str| part.starts_with("user@") && part.ends_with(".service");
    let innermost = parts.iter().rfind(runs).or_else(|| parts.iter().rfind(|part| has(&[".slice"], part)))?;
    let manager = parts.iter().rfind(is_manager).filter(|manager| *manager != innermost);
    Some(match manager {
        Some(manager) => format!("{manager}/{innermost}"),
        None => (*innermost).to_owned(),
    })
}

#[cfg(test)]
mod tests;
