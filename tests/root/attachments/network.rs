//! Programs attached in a network namespace.

use std::process::Command;

use super::scans::{inode, is_at, look, look_in, of, words};
use test_support::objects::{Direction, Network, Program, uapi};
use test_support::running::Running;

fn program(kind: u32, name: &str) -> Program {
    Program::ready(kind, name).expect("it can be loaded")
}

fn filter(name: &str) -> Program {
    program(uapi::program_type::SCHED_CLS, name)
}

pub(crate) fn filters() {
    let made = Network::new_with(|_| {
        let programs = ["first", "second", "third", "out"].map(filter);
        // Within a priority the latest runs first.
        programs[2].attach_filter(Direction::In, 2)?;
        programs[1].attach_filter(Direction::In, 1)?;
        programs[0].attach_filter(Direction::In, 1)?;
        programs[3].attach_filter(Direction::Out, 1)?;
        Ok(programs.map(|program| program.id()))
    });
    let (programs, network) = made.expect("they can be attached");
    let look = look_in(&network);
    // A second filter of the same priority gets a place of its own where the kernel makes one for it.
    let ingress: Vec<_> = of(&look, &programs).into_iter().filter(|hook| hook.hook == "tc_ingress").collect();
    let order: Vec<_> = ingress.iter().filter_map(|hook| hook.prog_id).collect();
    assert_eq!(order, programs[..3]);
    assert_eq!(
        words(&look, &programs),
        ["tc_egress lo #0 3 -", "tc_ingress lo #0 0 -", "tc_ingress lo #1 1 -", "tc_ingress lo #2 2 -",]
    );
    for hook in of(&look, &programs) {
        assert_eq!(inode(hook), Some(network.inode()));
    }
}

pub(crate) fn xdp() {
    let made = Network::new_with(|_| {
        let program = program(uapi::program_type::XDP, "hooks_xdp");
        program.attach_xdp()?;
        Ok(program.id())
    });
    let (program, network) = made.expect("it can be attached");
    assert_eq!(words(&look_in(&network), &[program]), ["xdp lo #0 0 -"]);
    network.rename_loopback("renamed").expect("it can be renamed");
    assert_eq!(words(&look_in(&network), &[program]), ["xdp renamed #0 0 -"]);
}

pub(crate) fn tcx() {
    let made = Network::new_with(|_| {
        let links = [filter("second").link_tcx(false)?, filter("first").link_tcx(true)?];
        let last = filter("last");
        last.attach_tcx()?;
        Ok((links, last.id()))
    });
    let ((links, last), network) = made.expect("they can be attached");
    let id = |link: usize| links[link].program().expect("it has one").id();
    let programs = [id(1), id(0), last];
    let look = look_in(&network);
    assert_eq!(
        words(&look, &programs),
        [
            format!("tcx_ingress lo #0 0 {}", links[1].id()),
            format!("tcx_ingress lo #1 1 {}", links[0].id()),
            "tcx_ingress lo #2 2 -".to_owned(),
        ]
    );
    let place = look.attach_points.iter().find(|place| place.netns == of(&look, &programs)[0].netns);
    assert_eq!(place.expect("it is known").programs, 3);

    // Without a look into the namespace the links are known still, and by ids not where they are.
    let look = super::scans::look(false);
    let known = words(&look, &programs);
    assert_eq!(known.len(), 2, "{known:?}");
    assert!(known.iter().all(|line| line.starts_with("tcx_ingress 1 #- ")), "{known:?}");
    assert!(of(&look, &programs).iter().all(|hook| hook.netns.is_none()));
    assert!(
        !look.attach_points.iter().any(|place| place.netns.is_none() && is_at(place.target.as_ref(), "1"))
    );
}

pub(crate) fn same_name() {
    let made = Network::new_with(|_| {
        let programs = [filter("same"), filter("same")];
        for program in &programs {
            program.attach_tcx()?;
        }
        Ok(programs.map(|program| program.id()))
    });
    let (programs, network) = made.expect("they can be attached");
    assert_eq!(words(&look_in(&network), &programs), ["tcx_ingress lo #0 0 -", "tcx_ingress lo #1 1 -"]);
}

pub(crate) fn of_namespace() {
    let made = Network::new_with(|_| {
        let program = program(uapi::program_type::FLOW_DISSECTOR, "hooks_dissector");
        program.attach_dissector()?;
        Ok(program.id())
    });
    let (dissector, network) = made.expect("it can be attached");
    let target = format!("netns {}", network.inode());
    assert_eq!(words(&look_in(&network), &[dissector]), [format!("flow_dissector {target} #0 0 -")]);

    // Only a link can attach this one.
    let link = test_support::objects::Link::sk_lookup().expect("it can be attached");
    let program = link.program().expect("it has one").id();
    let test_support::objects::Target::Network(network) = link.target() else {
        panic!("it is in a namespace")
    };
    let target = format!("netns {}", network.inode());
    let look = look_in(network);
    assert_eq!(words(&look, &[program]), [format!("sk_lookup {target} #0 0 {}", link.id())]);
    assert_eq!(inode(of(&look, &[program])[0]), Some(network.inode()));
}

pub(crate) fn elsewhere() {
    let made = Network::new_with(|_| {
        let program = program(uapi::program_type::XDP, "hooks_elsewhere");
        program.attach_xdp()?;
        // It makes the namespace visible in /proc.
        let process = Running(Command::new("sleep").arg("600").spawn()?);
        Ok((program.id(), process))
    });
    let ((program, _process), network) = made.expect("it can be attached");
    assert_eq!(words(&look(false), &[program]), [""; 0]);
    let look = look(true);
    assert_eq!(words(&look, &[program]), ["xdp lo #0 0 -"]);
    assert_eq!(inode(of(&look, &[program])[0]), Some(network.inode()));
}
