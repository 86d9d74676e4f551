//! The same metrics with every layer as with none, and what each thread keeps.

use std::collections::BTreeSet;
use std::time::Duration;

use tempfile::TempDir;
use test_support::objects::{Herd, Link, Mount, wait_until};

use super::exporter::{Exporter, OF_READINGS, features_of, reads};

const SOON: Duration = Duration::from_secs(30);

const NOBODY: u32 = 65534;

/// What turns every layer off.
const UNRESTRICTED: &[&str] =
    &["--no-drop-capabilities", "--no-seccomp", "--no-landlock", "--no-harden-process"];

/// Objects of several kinds, so that most families have a value.
struct Scene {
    herd: Herd,
    _links: Vec<Link>,
}

impl Scene {
    fn new() -> Self {
        let herd = Herd::new(4, 4).expect("root may make them");
        let links = [Link::tcx(), Link::raw_tracepoint(), Link::cgroup()].into_iter().flatten().collect();
        Self { herd, _links: links }
    }
}

fn assert_restricted(exporter: &Exporter, uid: u32, of_readings: u64) {
    let threads = exporter.threads();
    assert!(threads.len() >= 4, "{threads:#?}");
    for (name, thread) in threads {
        let expected = if reads(&name) { of_readings } else { 0 };
        assert_eq!((thread.effective, thread.permitted), (expected, expected), "{name}");
        assert_eq!((thread.uid, thread.bounding), (uid, 0), "{name}");
        assert!(thread.no_new_privileges && thread.filtered, "{name}: {thread:?}");
    }
}

pub(crate) fn as_nobody() {
    let _scene = Scene::new();
    let arguments = ["--netns", "all", "--hooks-interval", "1s"];
    let root = Exporter::start(&[&arguments, UNRESTRICTED].concat());
    let nobody = Exporter::start(&[&arguments[..], &["--user", "nobody"]].concat());
    assert!(
        nobody.sandbox().contains("landlock") && nobody.sandbox().contains("seccomp"),
        "{}",
        nobody.sandbox()
    );
    let mut differing = (BTreeSet::new(), BTreeSet::new());
    // Attachments come with the end of a scan.
    let same = wait_until("both have the same families", SOON, || {
        differing = (root.families(), nobody.families());
        Ok(differing.0 == differing.1 && differing.0.contains("bpf_hook_info"))
    });
    let (root_only, nobody_only): (Vec<_>, Vec<_>) =
        (differing.0.difference(&differing.1).collect(), differing.1.difference(&differing.0).collect());
    same.unwrap_or_else(|error| {
        panic!("{error}: only as root {root_only:?}, only as nobody {nobody_only:?}")
    });
    assert_restricted(&nobody, NOBODY, OF_READINGS);
    // What root sees all of, nobody does.
    assert_eq!(features_of(&root.scrape()), features_of(&nobody.scrape()));
    // And once more, after restrictions of everything that was only opened at start.
    assert!(nobody.scrape().contains("bpf_exporter_collect_success{collector=\"map\",reader=\"iter\"} 1"));
}

/// The pin of a link cannot be opened without write permission, which none of the seven capabilities replaces.
pub(crate) fn pinned_link() {
    let directory = TempDir::with_prefix("bpffs-").expect("a temporary directory can be created");
    let mount = Mount::visible(c"bpf", directory.path()).expect("it can be mounted");
    let link = Link::raw_tracepoint().expect("root may make it");
    let program = link.program().expect("it has one");
    let _pins = [
        link.pin(&mount.path().join("link")).expect("it can be pinned"),
        program.pin(&mount.path().join("program")).expect("it can be pinned"),
    ];
    let root = Exporter::start(&[]);
    let nobody = Exporter::start(&["--user", "nobody"]);
    let pins = |scrape: &str| {
        ["link", "program"].map(|name| scrape.contains(&format!("\"{}/{name}\"", mount.path().display())))
    };
    let mut seen = (String::new(), String::new());
    let scanned = wait_until("each has scanned the pins that it can", SOON, || {
        seen = (root.scrape(), nobody.scrape());
        Ok(pins(&seen.0) == [true, true] && pins(&seen.1) == [false, true])
    });
    let lines = |scrape: &str| {
        scrape.lines().filter(|line| line.contains("pin")).map(str::to_owned).collect::<Vec<_>>()
    };
    scanned.unwrap_or_else(|error| panic!("{error}: {:#?} {:#?}", lines(&seen.0), lines(&seen.1)));
    let refused = "bpf_exporter_feature_available{feature=\"pins\",reason=\"CAP_DAC_OVERRIDE\"} 0";
    assert!(seen.1.contains(refused), "{:#?}", features_of(&seen.1));
    assert!(
        seen.1.contains("bpf_exporter_collect_success{collector=\"pin\"")
            && !seen.1.contains("bpf_objects_orphaned{")
    );
    assert!(!seen.0.contains(refused));
}

pub(crate) fn turned_off() {
    let _scene = Scene::new();
    let only = |flag: &'static str| {
        let exporter = Exporter::start(&[flag]);
        let threads = exporter.threads();
        let off = exporter.sandbox().split_once("; off: ").map(|(_, off)| off.to_owned());
        let kept =
            if flag == "--no-harden-process" { " (no new privileges all the same, by seccomp)" } else { "" };
        assert_eq!(off, Some(format!("{flag}{kept}")), "{}", exporter.sandbox());
        threads.into_iter().map(|(_, thread)| thread).collect::<Vec<_>>()
    };
    assert!(only("--no-seccomp").iter().all(|thread| !thread.filtered && thread.no_new_privileges));
    assert!(only("--no-landlock").iter().all(|thread| thread.filtered));
    for thread in only("--no-drop-capabilities") {
        assert!(thread.effective & OF_READINGS == OF_READINGS && thread.bounding != 0, "{thread:?}");
    }
    // The filter needs it, and sets it.
    assert!(only("--no-harden-process").iter().all(|thread| thread.filtered && thread.no_new_privileges));

    let all = Exporter::start(UNRESTRICTED);
    assert!(
        all.sandbox().starts_with("readings: unrestricted; other threads: unrestricted;"),
        "{}",
        all.sandbox()
    );
    for (name, thread) in all.threads() {
        assert!(
            !thread.filtered && !thread.no_new_privileges && thread.effective == thread.permitted,
            "{name}"
        );
        assert!(thread.effective.count_ones() > 10, "{name}: {thread:?}");
    }
    let without_hooks = Exporter::start(&["--hooks-interval", "none"]);
    let reading =
        without_hooks.threads().into_iter().find(|(name, _)| name == "reading").expect("it is there");
    assert_eq!(reading.1.effective, OF_READINGS & !(1 << 12), "no query needs CAP_NET_ADMIN");
}

pub(crate) fn least() {
    let scene = Scene::new();
    let root = Exporter::start(UNRESTRICTED);
    let least = Exporter::start(&["--user", "nobody", "--least-privilege"]);
    assert!(least.sandbox().contains("readings: no capabilities, landlock"), "{}", least.sandbox());
    let of_objects = |exporter: &Exporter| {
        let families = exporter.families();
        let of_objects = |family: &String| {
            ["bpf_program_", "bpf_map_", "bpf_link_"].iter().any(|start| family.starts_with(start))
        };
        families.into_iter().filter(of_objects).collect::<BTreeSet<_>>()
    };
    let mut of_root = of_objects(&root);
    for by_id in ["bpf_map_mem_bytes", "bpf_program_capability_info"] {
        assert!(of_root.remove(by_id), "it is read by id: {of_root:?}");
    }
    // Only where some program of the host has any.
    of_root.remove("bpf_program_metadata_info");
    assert!(of_root.len() > 10, "{of_root:?}");
    assert_eq!(of_root, of_objects(&least));
    for _ in 0..3 {
        let scrape = least.scrape();
        for program in scene.herd.programs() {
            let info = format!("bpf_program_info{{id=\"{}\"", program.id());
            assert!(scrape.contains(&info), "{info} is missing");
        }
        std::thread::sleep(Duration::from_millis(1100));
    }
    assert_restricted(&least, NOBODY, 0);
}
