//! Objects that nobody holds any more.

use std::io::IoSlice;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::events::Events;
use bpf_metrics_exporter::kernel::{Reader, ReaderOptions};
use bpf_metrics_exporter::model::{EventKind, Kind, Owner, Snapshot};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use test_support::objects::{self, Program, uapi, wait_until};
use test_support::running::Running;

const SOON: Duration = Duration::from_secs(30);

fn owner(snapshot: &Snapshot, id: u32) -> Option<String> {
    let program = snapshot.programs.iter().flatten().find(|program| program.facts.id == id)?;
    program.owner.as_deref().map(name)
}

fn name(owner: &Owner) -> String {
    format!("{} {}", owner.kind().as_str(), owner.name())
}

pub(crate) fn told() {
    let events = Events::default();
    let mut subscription = events.subscribe(None);
    let hooks = Some(Duration::from_millis(1));
    let options = EnrichOptions { hooks, wait_for_hooks: true, ..EnrichOptions::default() };
    let reader = Reader::new(ReaderOptions::default());
    let mut enricher = Enricher::new(reader, options, NameCache::default()).publishing(events);
    let program = Program::ready(uapi::program_type::CGROUP_SKB, "left_behind").expect("root may load it");
    let id = program.id();
    // What this process holds is the exporter's own.
    let descriptor = program.fd().try_clone_to_owned().expect("there are descriptors left");
    let holder = Command::new("sleep").arg("60").stdin(descriptor).spawn();
    let holder = Running(holder.expect("it starts"));
    let mut its_owner = None;
    wait_until("it has an owner", SOON, || {
        its_owner = owner(&enricher.read(), id);
        Ok(its_owner.is_some())
    })
    .expect("a process holds it");
    let is_orphan = |snapshot: &Snapshot| {
        let mut orphans = snapshot.orphans.iter().flatten();
        orphans.find(|orphan| orphan.kind == Kind::Program && orphan.id == id).cloned()
    };
    assert_eq!(is_orphan(&enricher.read()), None);

    let (ours, its) = UnixStream::pair().expect("it can be made");
    let rights = [program.fd().as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&rights)];
    sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::empty(), None)
        .expect("there is room");
    // Only the message holds it.
    drop((program, holder));
    let mut found = None;
    wait_until("it is an orphan", SOON, || {
        found = is_orphan(&enricher.read());
        Ok(found.is_some())
    })
    .expect("nobody holds it");
    let orphan = found.expect("it was found");
    assert_eq!(orphan.last_owner.as_deref().map(name), its_owner);
    let told = subscription.take(usize::MAX).events;
    let told: Vec<_> = told
        .iter()
        .filter(|event| event.kind == EventKind::ObjectOrphan && event.subject.id == Some(id))
        .collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((told[0].at, told[0].subject.name.as_deref()), (orphan.since, Some("left_behind")));
    assert_eq!(told[0].owner.as_deref().map(name), its_owner);
    let again = is_orphan(&enricher.read()).expect("it is still one");
    assert_eq!(again, orphan, "since when does not change");

    drop((ours, its));
    objects::wait_until_gone(objects::Kind::Program, &[id], SOON).expect("nothing holds it");
    assert_eq!(is_orphan(&enricher.read()), None);
    let told = subscription.take(usize::MAX).events;
    assert!(told.iter().all(|event| event.kind != EventKind::ObjectOrphan || event.subject.id != Some(id)));
}
