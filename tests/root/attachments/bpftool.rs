//! bpftool reports the same attachments.

use std::collections::BTreeSet;

use serde_json::Value;

use super::scans::{inode, is_at, look, look_in};
use test_support::bpftool::{id, query};
use test_support::objects::{Cgroup, Direction, Network, Program, uapi};

pub(crate) fn network() {
    let made = Network::new_with(|_| {
        let filter = |name| Program::ready(uapi::program_type::SCHED_CLS, name);
        let xdp = Program::ready(uapi::program_type::XDP, "hooks_xdp")?;
        let (ingress, egress) = (filter("hooks_in")?, filter("hooks_out")?);
        xdp.attach_xdp()?;
        ingress.attach_filter(Direction::In, 1)?;
        egress.attach_filter(Direction::Out, 1)?;
        Ok([xdp.id(), ingress.id(), egress.id()])
    });
    let (programs, network) = made.expect("they can be attached");
    let listed = network.inside(|| query(&["net", "show"])).expect("root may enter it");
    let entries = |kind: &str| listed[0][kind].as_array().expect("there is an array").clone();
    let mut expected = BTreeSet::new();
    for entry in entries("xdp") {
        expected.insert(("xdp".to_owned(), id(&entry)));
    }
    for entry in entries("tc") {
        let kind = entry["kind"].as_str().expect("a filter has a kind");
        let hook = if kind.ends_with("egress") { "tc_egress" } else { "tc_ingress" };
        expected.insert((hook.to_owned(), id(&entry)));
    }
    let look = look_in(&network);
    let ours = look.hooks.iter().filter(|hook| inode(hook) == Some(network.inode()));
    let found: BTreeSet<_> =
        ours.map(|hook| (hook.hook.to_string(), hook.prog_id.expect("it has a program"))).collect();
    assert_eq!(found, expected);
    assert_eq!(found.len(), programs.len());
}

pub(crate) fn cgroups() {
    let cgroup = Cgroup::new().expect("it can be made");
    let programs = ["first", "second"].map(|name| {
        let program = Program::ready(uapi::program_type::CGROUP_SKB, name).expect("it can be loaded");
        program.attach_to_cgroup(&cgroup).expect("it can be attached");
        program.id()
    });
    let listed = query(&["cgroup", "tree"]);
    let ours = listed.as_array().expect("it is an array").iter().find(|entry| {
        entry["cgroup"].as_str().is_some_and(|path| path.ends_with(&format!("/{}", cgroup.name())))
    });
    let attached = ours.expect("it is listed")["programs"].as_array().expect("it has programs").clone();
    let look = look(false);
    let target = format!("/{}", cgroup.name());
    let found: Vec<_> = look.hooks.iter().filter(|hook| is_at(hook.target.as_ref(), &target)).collect();
    let words = |attach: &Value| attach["attach_type"].as_str().map(str::to_owned);
    assert_eq!(
        found.iter().map(|hook| (hook.prog_id, Some(hook.hook.to_string()))).collect::<Vec<_>>(),
        attached.iter().map(|entry| (Some(id(entry)), words(entry))).collect::<Vec<_>>()
    );
    assert_eq!(found.iter().filter_map(|hook| hook.prog_id).collect::<Vec<_>>(), programs);
}
