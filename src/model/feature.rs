//! Features: the sources of a reading, what each can see, and why one may see less. One table for the code, the log and
//! `docs/privileges.md`. Entry points: [`Feature`], [`Reason`] and [`markdown`].
//!
//! That nobody was found is only a fact if everybody could be seen: conclusions from absence need the feature to be available.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use super::collection::Part;

/// A capability of a process. Source: `include/uapi/linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// `CAP_DAC_OVERRIDE`.
    DacOverride = 1,
    /// `CAP_DAC_READ_SEARCH`.
    DacReadSearch = 2,
    /// `CAP_NET_ADMIN`.
    NetAdmin = 12,
    /// `CAP_SYS_PTRACE`.
    SysPtrace = 19,
    /// `CAP_SYS_ADMIN`.
    SysAdmin = 21,
    /// `CAP_SYSLOG`.
    Syslog = 34,
    /// `CAP_PERFMON`. Since 5.8.
    Perfmon = 38,
    /// `CAP_BPF`. Since 5.8.
    Bpf = 39,
}

impl Capability {
    /// Returns its name in the kernel.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DacOverride => "CAP_DAC_OVERRIDE",
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Syslog => "CAP_SYSLOG",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

/// Why a feature is not available: why its source sees less than everything. Of several reasons the first in this order is
/// reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// This process is in a user namespace, where its capabilities do not count.
    UserNamespace,
    /// Processes outside of our pid namespace are not visible.
    PidNamespace,
    /// `/proc` hides processes (`hidepid`).
    Hidepid,
    /// This process does not have a capability.
    Missing(Capability),
    /// A bpffs is mounted where it cannot be reached: in another mount namespace.
    MountNamespace,
    /// Cgroups outside of the visible part of the hierarchy are not visible.
    CgroupNamespace,
    /// Sysctls of the initial network namespace are not visible.
    NetworkNamespace,
    /// The kernel hides the addresses of its symbols (`kptr_restrict`).
    KptrRestrict,
    /// This kernel does not have it.
    Kernel,
    /// It is refused although the capabilities are there.
    Refused,
}

impl Reason {
    /// Every reason, with one capability for all.
    pub const ALL: [Self; 10] = [
        Self::UserNamespace,
        Self::PidNamespace,
        Self::Hidepid,
        Self::Missing(Capability::SysAdmin),
        Self::MountNamespace,
        Self::CgroupNamespace,
        Self::NetworkNamespace,
        Self::KptrRestrict,
        Self::Kernel,
        Self::Refused,
    ];

    /// Returns the word used in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing(capability) => capability.as_str(),
            Self::UserNamespace => "user_namespace",
            Self::Kernel => "kernel",
            Self::Refused => "refused",
            Self::PidNamespace => "pid_namespace",
            Self::Hidepid => "hidepid",
            Self::MountNamespace => "mount_namespace",
            Self::CgroupNamespace => "cgroup_namespace",
            Self::NetworkNamespace => "network_namespace",
            Self::KptrRestrict => "kptr_restrict",
        }
    }

    /// Returns what it means and what helps.
    #[must_use]
    pub const fn explanation(self) -> &'static Explanation {
        match self {
            Self::Missing(_) => &MISSING,
            Self::UserNamespace => &Explanation {
                cause: "the exporter runs in a user namespace, where its capabilities do not count",
                host: "run it as root of the host; podman, docker: not rootless, `--userns host`",
                systemd: "`PrivateUsers=no`",
                kubernetes: "`hostUsers: true`",
            },
            Self::Kernel => &Explanation {
                cause: "the kernel does not have it",
                host: "a newer kernel, or one with BTF",
                systemd: "",
                kubernetes: "",
            },
            Self::Refused => &Explanation {
                cause: "a seccomp filter, a security module or kernel lockdown refuses it",
                host: "podman, docker: `--security-opt seccomp=unconfined`; the audit log has denials; `--no-seccomp` shows whether it is \
                       the exporter's own filter",
                systemd: "`SystemCallFilter=bpf`",
                kubernetes: "`seccompProfile.type: Unconfined`",
            },
            Self::PidNamespace => &Explanation {
                cause: "processes outside of the exporter's pid namespace are not visible",
                host: "podman, docker: `--pid host`",
                systemd: "`PrivatePIDs=no`",
                kubernetes: "`hostPID: true`",
            },
            Self::Hidepid => &Explanation {
                cause: "/proc is mounted with hidepid, which hides processes of others",
                host: "grant `CAP_SYS_PTRACE`",
                systemd: "`ProtectProc=default`, or `AmbientCapabilities=CAP_SYS_PTRACE`",
                kubernetes: "`capabilities.add: [SYS_PTRACE]`",
            },
            Self::MountNamespace => &Explanation {
                cause: "a bpffs is mounted in another mount namespace and cannot be reached",
                host: "mount it and name it with `--bpffs`; podman, docker: `-v /sys/fs/bpf:/sys/fs/bpf`",
                systemd: "`PrivateMounts=no`",
                kubernetes: "`hostPath` of `/sys/fs/bpf`, or `hostPID: true`",
            },
            Self::CgroupNamespace => &Explanation {
                cause: "cgroups outside of the exporter's cgroup namespace are not visible",
                host: "podman, docker: `--cgroupns host`, or `-v /sys/fs/cgroup:/sys/fs/cgroup:ro`",
                systemd: "`ProtectControlGroups=yes` rather than `private` or `strict`",
                kubernetes: "`hostPath` of `/sys/fs/cgroup`, or `hostPID: true`",
            },
            Self::NetworkNamespace => &Explanation {
                cause: "sysctls of the host's network namespace are not visible",
                host: "podman, docker: `--network host`",
                systemd: "`PrivateNetwork=no`",
                kubernetes: "`hostNetwork: true`",
            },
            Self::KptrRestrict => &Explanation {
                cause: "/proc/kallsyms shows no addresses (sysctl kernel.kptr_restrict)",
                host: "grant `CAP_SYSLOG`, and set the sysctl to less than 2",
                systemd: "`AmbientCapabilities=CAP_SYSLOG`, `ProtectKernelLogs=no`",
                kubernetes: "`capabilities.add: [SYSLOG]`",
            },
        }
    }

    /// Returns what helps, by where the exporter runs, as plain text.
    #[must_use]
    pub fn remedies(self) -> Vec<(&'static str, String)> {
        let Explanation { host, systemd, kubernetes, .. } = self.explanation();
        let remedies = [("host", host), ("systemd", systemd), ("Kubernetes", kubernetes)];
        let given = remedies.into_iter().filter(|(_, text)| !text.is_empty());
        let plain = |text: &str| match self {
            Self::Missing(capability) => of_capability(text, capability),
            _ => text.to_owned(),
        };
        given.map(|(place, text)| (place, plain(text).replace('`', ""))).collect()
    }

    /// Returns what helps, in one line for the log.
    #[must_use]
    pub fn remedy(self) -> String {
        let remedies = self.remedies().into_iter().map(|(place, text)| match place {
            "host" => text,
            _ => format!("{place}: {text}"),
        });
        remedies.collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(capability) => write!(f, "{} is missing", capability.as_str()),
            _ => f.write_str(self.explanation().cause),
        }
    }
}

/// What a reason means, and what helps.
#[derive(Clone, Copy, Debug)]
pub struct Explanation {
    /// The cause.
    pub cause: &'static str,
    /// What helps on a host, or in a container without an orchestrator.
    pub host: &'static str,
    /// What helps in a unit of systemd.
    pub systemd: &'static str,
    /// What helps in a pod.
    pub kubernetes: &'static str,
}

/// `CAP_X` and `X` stand for the capability.
const MISSING: Explanation = Explanation {
    cause: "the exporter does not have the capability of this name",
    host: "run it as root, or grant `CAP_X`; podman, docker: `--cap-add X`",
    systemd: "`AmbientCapabilities=CAP_X`",
    kubernetes: "`securityContext.capabilities.add: [X]`",
};

/// Replaces the placeholder of [`MISSING`].
fn of_capability(text: &str, capability: Capability) -> String {
    let name = capability.as_str();
    let short = name.trim_start_matches("CAP_");
    let text = text.replace("CAP_X", name);
    text.replace("add X", &format!("add {short}")).replace("[X]", &format!("[{short}]"))
}

/// A source of facts that sees everything, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Programs, maps, links and holders by BPF iterators.
    Iterators,
    /// Programs, maps and links by id.
    ObjectsById,
    /// Memory of maps, and what else needs a descriptor of an object.
    MapMemory,
    /// BTF objects.
    BtfObjects,
    /// Run statistics.
    RunStatistics,
    /// Names of kernel functions by address.
    KernelSymbols,
    /// Processes and their descriptors.
    Processes,
    /// File names of the executables of processes.
    ExecutableNames,
    /// Pins.
    Pins,
    /// Paths of cgroups.
    CgroupPaths,
    /// Attachments to cgroups.
    CgroupHooks,
    /// Attachments to network devices and namespaces.
    NetworkHooks,
    /// Attachments to perf events.
    PerfEventHooks,
    /// Objects in maps, and attachments to maps.
    MapContents,
    /// Loads and unloads of programs as they happen.
    EventStream,
    /// Settings of the kernel for BPF, and the memory of machine code.
    HostSettings,
    /// What programs can do, and their metadata.
    ProgramCapabilities,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct FeatureRow {
    /// The word used in labels.
    pub name: &'static str,
    /// The collectors that use it.
    pub parts: &'static [Part],
    /// What the source can see.
    pub sees: &'static str,
    /// How it is known that it sees everything.
    pub complete: &'static str,
    /// What follows if it does not.
    pub without: &'static str,
    /// What it needs.
    pub needs: &'static str,
    /// The first kernel release that has it; that of the program itself where empty.
    pub since: &'static str,
    /// Calls of its collectors that the kernel refuses to a process without a capability.
    pub refusals: &'static [(&'static str, Capability)],
}

impl Feature {
    /// Every feature.
    pub const ALL: [Self; 17] = [
        Self::Iterators,
        Self::ObjectsById,
        Self::MapMemory,
        Self::BtfObjects,
        Self::RunStatistics,
        Self::KernelSymbols,
        Self::Processes,
        Self::ExecutableNames,
        Self::Pins,
        Self::CgroupPaths,
        Self::CgroupHooks,
        Self::NetworkHooks,
        Self::PerfEventHooks,
        Self::MapContents,
        Self::EventStream,
        Self::HostSettings,
        Self::ProgramCapabilities,
    ];

    /// Returns its row.
    #[must_use]
    pub const fn row(self) -> &'static FeatureRow {
        &FEATURES[self as usize]
    }

    /// Returns the word used in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().name
    }
}

/// What each source sees, in the order of [`Feature::ALL`]. Capabilities count in the initial user namespace.
const FEATURES: [FeatureRow; Feature::ALL.len()] = [
    FeatureRow {
        name: "iterators",
        parts: &[],
        sees: "programs, maps, links and descriptors, by the kernel's own lists",
        complete: "the iterators were loaded at start",
        without: "objects are read by id, holders in /proc",
        needs: "CAP_BPF and CAP_PERFMON, at start",
        since: "5.19",
        refusals: &[],
    },
    FeatureRow {
        name: "objects_by_id",
        parts: &[Part::Program, Part::Map, Part::Link],
        sees: "programs, maps and links, where no iterator reads them",
        complete: "the kernel permits listing ids",
        without: "these tables are missing",
        needs: "CAP_SYS_ADMIN",
        since: "",
        refusals: &[
            ("BPF_PROG_GET_NEXT_ID", Capability::SysAdmin),
            ("BPF_MAP_GET_NEXT_ID", Capability::SysAdmin),
            ("BPF_LINK_GET_NEXT_ID", Capability::SysAdmin),
            ("BPF_PROG_GET_FD_BY_ID", Capability::SysAdmin),
        ],
    },
    FeatureRow {
        name: "map_memory",
        parts: &[Part::Map, Part::Link],
        sees: "memory of maps, paths of uprobe_multi links, entries counted by walking",
        complete: "the kernel permits opening objects by id",
        without: "these values are missing, but for memory that is calculated from entries",
        needs: "CAP_SYS_ADMIN",
        since: "",
        refusals: &[
            ("BPF_MAP_GET_FD_BY_ID", Capability::SysAdmin),
            ("BPF_LINK_GET_FD_BY_ID", Capability::SysAdmin),
        ],
    },
    FeatureRow {
        name: "btf_objects",
        parts: &[Part::Btf],
        sees: "BTF objects, and names in them",
        complete: "the kernel permits listing ids",
        without: "they are missing",
        needs: "CAP_SYS_ADMIN",
        since: "",
        refusals: &[
            ("BPF_BTF_GET_NEXT_ID", Capability::SysAdmin),
            ("BPF_BTF_GET_FD_BY_ID", Capability::SysAdmin),
        ],
    },
    FeatureRow {
        name: "run_statistics",
        parts: &[Part::Program],
        sees: "run times and runs of programs",
        complete: "`BPF_ENABLE_STATS` succeeded, or the sysctl kernel.bpf_stats_enabled is 1",
        without: "run times and runs are missing",
        needs: "CAP_SYS_ADMIN, at start with `--run-stats on`, always with `sample`",
        since: "5.8",
        refusals: &[("BPF_ENABLE_STATS", Capability::SysAdmin)],
    },
    FeatureRow {
        name: "kernel_symbols",
        parts: &[Part::Link],
        sees: "functions of the kernel by address (/proc/kallsyms)",
        complete: "the file has addresses other than 0",
        without: "functions that the kernel reports by address only are missing in targets",
        needs: "CAP_SYSLOG, and sysctl kernel.kptr_restrict below 2",
        since: "",
        refusals: &[("/proc/kallsyms", Capability::Syslog)],
    },
    FeatureRow {
        name: "processes",
        parts: &[Part::Holder],
        sees: "descriptors of processes: by iterator all of the host, from any pid namespace; without iterators those in /proc",
        complete: "iterator: it reached the end of the kernel's list; /proc: it and the pid namespace are the host's, nothing \
                   is hidden, and each process was read",
        without: "holders may be missing: no orphans are counted, and no object is said to be the kernel's",
        needs: "iterator: nothing more; /proc: CAP_SYS_PTRACE and the host's pid namespace",
        since: "",
        refusals: &[
            ("/proc", Capability::SysPtrace),
            ("/proc/PID", Capability::SysPtrace),
            ("/proc/PID/fd", Capability::SysPtrace),
            ("/proc/PID/fdinfo", Capability::SysPtrace),
            ("/proc/PID/task", Capability::SysPtrace),
            ("/proc/PID/stat", Capability::SysPtrace),
            ("/proc/PID/comm", Capability::SysPtrace),
        ],
    },
    FeatureRow {
        name: "executable_names",
        parts: &[Part::Holder],
        sees: "executables of the processes that hold objects: by iterator, or /proc/PID/exe",
        complete: "the kernel reported each, or each could be read in /proc",
        without: "holders have no `process_executable_name`",
        needs: "iterator: nothing more; /proc: CAP_SYS_PTRACE and the host's pid namespace",
        since: "",
        refusals: &[("/proc/PID/exe", Capability::SysPtrace)],
    },
    FeatureRow {
        name: "pins",
        parts: &[Part::Pin],
        sees: "every bpffs that is mounted here, in the mount namespace of a visible process, or named by `--bpffs`",
        complete: "each bpffs in the kernel's list of file systems (iterators), or the mounts of each process, could be read, \
                   and each directory and pin",
        without: "pins may be missing: no orphans are counted, and no object is said to be the kernel's",
        needs: "CAP_DAC_OVERRIDE for those of other users: read access, write access for links; CAP_SYS_PTRACE for other \
                mount namespaces",
        since: "",
        refusals: &[
            ("open", Capability::DacOverride),
            ("openat", Capability::DacOverride),
            ("getdents64", Capability::DacOverride),
            ("BPF_OBJ_GET", Capability::DacOverride),
        ],
    },
    FeatureRow {
        name: "cgroup_paths",
        parts: &[Part::Cgroup],
        sees: "cgroups below the mounted one, or that of the first process",
        complete: "the mounted directory is the root of its hierarchy (inode 1)",
        without: "units, containers and pods of cgroups outside are not recognised",
        needs: "the host's cgroup file system; CAP_DAC_READ_SEARCH, or all cgroups are listed to find one",
        since: "",
        refusals: &[("getdents64", Capability::DacReadSearch)],
    },
    FeatureRow {
        name: "cgroup_hooks",
        parts: &[Part::Hook],
        sees: "programs of cgroups below the mounted one, or that of the first process",
        complete: "the mounted directory is the root of its hierarchy (inode 1), and each query was permitted",
        without: "attachments may be missing: programs of these types are not counted as orphaned",
        needs: "CAP_NET_ADMIN, and the host's cgroup file system",
        since: "",
        refusals: &[
            ("BPF_PROG_QUERY", Capability::NetAdmin),
            ("getdents64", Capability::DacReadSearch),
            ("open", Capability::DacReadSearch),
        ],
    },
    FeatureRow {
        name: "network_hooks",
        parts: &[Part::Hook],
        sees: "XDP, tc, tcx, netkit and namespace programs: of our network namespace, or with `--netns all` of each that \
               has a name or a visible process",
        complete: "each query was permitted; with `--netns all` all processes are visible",
        without: "attachments may be missing: programs of these types are not counted as orphaned",
        needs: "CAP_NET_ADMIN; CAP_SYS_ADMIN, CAP_SYS_PTRACE and the host's pid namespace for `--netns all`",
        since: "",
        refusals: &[
            ("BPF_PROG_QUERY", Capability::NetAdmin),
            ("setns", Capability::SysAdmin),
            ("/proc/PID/ns/net", Capability::SysPtrace),
        ],
    },
    FeatureRow {
        name: "perf_event_hooks",
        parts: &[Part::Hook],
        sees: "programs of perf events, through the descriptors of visible processes",
        complete: "all processes are visible, and each query was permitted",
        without: "attachments may be missing: programs of these types are not counted as orphaned",
        needs: "CAP_SYS_ADMIN, CAP_SYS_PTRACE, and the host's pid namespace",
        since: "",
        refusals: &[("BPF_TASK_FD_QUERY", Capability::SysAdmin), ("/proc/PID/fd", Capability::SysPtrace)],
    },
    FeatureRow {
        name: "map_contents",
        parts: &[Part::Hook],
        sees: "programs and maps in maps, programs of sockmaps, struct_ops",
        complete: "the kernel permits opening maps by id",
        without: "what maps hold is unknown: no orphans are counted",
        needs: "CAP_SYS_ADMIN",
        since: "",
        refusals: &[("BPF_MAP_GET_FD_BY_ID", Capability::SysAdmin)],
    },
    FeatureRow {
        name: "event_stream",
        parts: &[Part::Event],
        sees: "each load and unload of a program, with the process that did it, when it happens (`PERF_RECORD_BPF_EVENT`)",
        complete: "perf_event_open(2) succeeded for every CPU that is online",
        without: "loads and unloads are found by comparing readings: counted all the same, without an actor",
        needs: "CAP_PERFMON at start, before 5.8 CAP_SYS_ADMIN; for CPUs that come online later CAP_SYS_ADMIN",
        since: "5.1",
        refusals: &[("perf_event_open", Capability::Perfmon)],
    },
    FeatureRow {
        name: "host_settings",
        parts: &[Part::Host],
        sees: "sysctls of BPF and its JIT, lockdown, the BPF LSM, delegations of bpffs, and the memory of machine code \
               (/proc/vmallocinfo)",
        complete: "each file of them that the kernel has could be read, in the host's network namespace, and where its JIT is \
                   enabled, the kernel names the JIT's allocators in /proc/vmallocinfo",
        without: "some of these values are missing",
        needs: "the host's network namespace, and CAP_SYS_ADMIN; without uid 0 also CAP_NET_ADMIN and CAP_DAC_READ_SEARCH",
        since: "",
        refusals: &[
            ("/proc/sys/net/core/bpf_jit_harden", Capability::NetAdmin),
            ("/proc/sys/net/core/bpf_jit_harden", Capability::SysAdmin),
            ("/proc/sys/net/core/bpf_jit_limit", Capability::NetAdmin),
            ("/proc/sys/net/core/bpf_jit_limit", Capability::SysAdmin),
            ("/proc/vmallocinfo", Capability::DacReadSearch),
        ],
    },
    FeatureRow {
        name: "program_capabilities",
        parts: &[Part::Program, Part::Map],
        sees: "what programs can do, from their translated instructions, and their variables `bpf_metadata_*`",
        complete: "the kernel permits opening programs and maps by id, and shows which functions each program calls",
        without: "`bpf_program_capability_info`, `bpf_program_metadata_info` and `bpf_owner_capable_programs` are missing",
        needs: "CAP_SYS_ADMIN and CAP_SYSLOG, and sysctl kernel.kptr_restrict below 2",
        since: "",
        refusals: &[
            ("BPF_PROG_GET_FD_BY_ID", Capability::SysAdmin),
            ("BPF_MAP_GET_FD_BY_ID", Capability::SysAdmin),
            ("BPF_BTF_GET_FD_BY_ID", Capability::SysAdmin),
        ],
    },
];

/// Whether a source sees everything, in one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureState {
    /// The source.
    pub feature: Feature,
    /// Why it does not; `None` if it is available.
    pub reason: Option<Reason>,
}

impl FeatureState {
    /// Returns one line for the log: what is missing, why, and what helps.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        let FeatureRow { name, without, .. } = self.feature.row();
        let reason = self.reason?;
        Some(format!("{name} not available: {reason}; {without}. {}", reason.remedy()))
    }
}

/// Returns the features and the reasons as tables for the documents.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "| `feature` | `collector` | what it sees | how its view is known to be complete | needs | since Linux | without it |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for FeatureRow { name, parts, sees, complete, without, needs, since, .. } in FEATURES {
        let parts = parts.iter().map(|part| format!("`{}`", part.as_str())).collect::<Vec<_>>().join(", ");
        let row = format!("| `{name}` | {parts} | {sees} | {complete} | {needs} | {since} | {without} |");
        let _infallible = writeln!(text, "{row}");
    }
    text += "\n| `reason` | cause | host, container | systemd | Kubernetes |\n|---|---|---|---|---|\n";
    for reason in Reason::ALL {
        let word = match reason {
            Reason::Missing(_) => "CAP_…",
            _ => reason.as_str(),
        };
        let Explanation { cause, host, systemd, kubernetes } = reason.explanation();
        let _infallible = writeln!(text, "| `{word}` | {cause} | {host} | {systemd} | {kubernetes} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_feature_has_its_own_row() {
        let names: BTreeSet<_> = Feature::ALL.iter().map(|feature| feature.as_str()).collect();
        assert_eq!(names.len(), Feature::ALL.len());
        for (place, feature) in Feature::ALL.into_iter().enumerate() {
            assert_eq!(feature as usize, place);
            let json = serde_json::to_value(feature).expect("it is a word");
            assert_eq!(json, feature.as_str(), "labels and JSON have the same word");
        }
    }

    #[test]
    fn a_message_is_one_line_with_the_remedy() {
        let state = |reason| FeatureState { feature: Feature::Processes, reason: Some(reason) };
        let message = state(Reason::PidNamespace).message().expect("it is unavailable");
        assert!(message.contains("hostPID: true") && message.contains("--pid host"), "{message}");
        let message = state(Reason::Missing(Capability::SysPtrace)).message().expect("it is unavailable");
        assert!(message.contains("CAP_SYS_PTRACE is missing"), "{message}");
        assert!(
            message.contains("--cap-add SYS_PTRACE") && message.contains("add: [SYS_PTRACE]"),
            "{message}"
        );
        for reason in Reason::ALL {
            let message = state(reason).message().expect("it is unavailable");
            assert!(message.len() < 500 && !message.contains(['\n', '`']), "{message}");
        }
        assert_eq!(FeatureState { reason: None, ..state(Reason::Kernel) }.message(), None);
    }
}
