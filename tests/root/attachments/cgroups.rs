//! Programs attached to a cgroup.

use super::scans::{look, words};
use test_support::objects::{Cgroup, Link, Program, uapi};

fn program(name: &str) -> Program {
    Program::ready(uapi::program_type::CGROUP_SKB, name).expect("it can be loaded")
}

pub(crate) fn in_order() {
    let cgroup = Cgroup::new().expect("it can be made");
    let attached = |name| {
        let program = program(name);
        program.attach_to_cgroup(&cgroup).expect("it can be attached");
        program.id()
    };
    let first = attached("first");
    let link = program("second").link_cgroup(&cgroup).expect("it can be attached");
    let third = attached("third");
    let programs = [first, link.program().expect("it has one").id(), third];
    let place = format!("cgroup_inet_ingress /{}", cgroup.name());
    assert_eq!(
        words(&look(false), &programs),
        [format!("{place} #0 0 -"), format!("{place} #1 1 {}", link.id()), format!("{place} #2 2 -"),]
    );
}

pub(crate) fn removed() {
    let mut link = Link::cgroup().expect("it can be attached");
    let program = link.program().expect("it has one").id();
    assert_eq!(words(&look(false), &[program]).len(), 1);
    link.end_target();
    let limit = std::time::Duration::from_secs(20);
    test_support::objects::wait_until("it is not attached", limit, || {
        Ok(words(&look(false), &[program]).is_empty())
    })
    .expect("it does");
}
