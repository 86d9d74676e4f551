//! Objects for each panel: full and growing maps, a ring without a consumer, programs that run, miss runs, come and go.

use std::cell::RefCell;
use std::io;
use std::path::Path;

use test_support::objects::uapi::{map_flag, map_type, program_type};
use test_support::objects::{
    Cgroup, Filled, Link, Map, MapSpec, Mount, Pin, Program, ProgramSpec, Recursion, Ring, Shape,
};

use crate::receivers::Prometheus;

/// Capacity of the map that grows.
const CAPACITY: u32 = 1_000_000;

/// The objects. Names are their purposes.
pub(super) struct Scene {
    pub(super) full: Filled,
    pub(super) growing: RefCell<Filled>,
    pub(super) ring: Ring,
    pub(super) user: Program,
    pub(super) recursion: Recursion,
    pub(super) links: [Link; 2],
    /// What is removed once it was seen: a program, and a program at a hook whose target stays.
    going: Option<(Program, Link)>,
    pub(super) pin: Pin,
    bpffs: String,
    /// One exporter does not report it.
    _lonely: Program,
    _mount: Mount,
    _cgroups: [Cgroup; 2],
}

impl Scene {
    pub(super) fn new(folder: &Path) -> Self {
        Self::try_new(folder).expect("the kernel has what the other tests use")
    }

    fn try_new(folder: &Path) -> io::Result<Self> {
        let mut full = Filled::ready(map_type::HASH, "dash_full")?;
        full.add(0..full.map().shape().max_entries)?;
        let shape = Shape { max_entries: CAPACITY, flags: map_flag::NO_PREALLOC, ..full.map().shape() };
        let growing = Map::create(&MapSpec { name: "dash_growing", shape, inner: None, types: None })?;
        let ring = Ring::new(4096)?;
        ring.produce(10)?;
        let user = Program::using("dash_user", &[full.map()])?;
        let cgroup_program =
            |name| Program::load(&ProgramSpec { name, ..ProgramSpec::ready(program_type::CGROUP_SKB)? });
        let [cgroup, left] = [Cgroup::new()?, Cgroup::new()?];
        let links = [
            cgroup_program("dash_first")?.link_cgroup(&cgroup)?,
            cgroup_program("dash_second")?.link_cgroup(&cgroup)?,
        ];
        let going = (Program::using("dash_gone", &[])?, cgroup_program("dash_detached")?.link_cgroup(&left)?);
        let mount = Mount::visible(c"bpf", folder)?;
        let pin = user.pin(&folder.join("dash_pin"))?;
        let bpffs = folder.to_str().expect("the path of the project is text").to_owned();
        Ok(Self {
            full,
            growing: Filled::empty(growing)?.into(),
            ring,
            user,
            _lonely: Program::using("dash_lonely", &[])?,
            recursion: Recursion::new()?,
            links,
            going: Some(going),
            pin,
            bpffs,
            _mount: mount,
            _cgroups: [cgroup, left],
        })
    }

    /// Has programs run and miss runs, and a map grow.
    pub(super) fn work(&self) {
        let worked = || -> io::Result<()> {
            self.user.run(64, 1000)?;
            self.recursion.miss(10)?;
            drop(Program::using("dash_passing", &[])?);
            let mut growing = self.growing.borrow_mut();
            let first = u32::try_from(growing.entries()).map_err(io::Error::other)?;
            growing.add(first..first + 10)
        };
        worked().expect("the objects are there");
    }

    /// Where objects are pinned.
    pub(super) fn bpffs(&self) -> &str {
        &self.bpffs
    }

    /// Checks that Prometheus has what will be removed, and a point of its hook before.
    pub(super) fn is_seen(&self, prometheus: &Prometheus, job: &str, instance: &str) -> Result<(), String> {
        let Some((program, link)) = &self.going else { return Ok(()) };
        let of_link = link.program().expect("the link has one").id();
        let of = |selector: &str| match &*prometheus.rows(selector)? {
            [] => Err(format!("nothing is {selector}")),
            _ => Ok(()),
        };
        of(&format!(r#"bpf_program_info{{job="{job}",instance="{instance}",id="{}"}}"#, program.id()))?;
        of(&format!(
            r#"bpf_hook_detached_programs_total{{job="{job}",instance="{instance}"}} == 0
               and on (hook, target, netns) bpf_hook_info{{job="{job}",instance="{instance}",prog_id="{of_link}"}}"#
        ))
    }

    /// Removes a program, and detaches another from its hook.
    pub(super) fn remove(&mut self) {
        self.going = None;
    }

    /// Returns the ids of the program and the map that a panel of the dashboard of an object is opened for.
    pub(super) fn object(&self, panel: &str, letter: &str) -> [u32; 2] {
        let program = match (panel, letter) {
            ("Runs", "B") => self.recursion.program(),
            ("Runs" | "Links", _) if letter == "C" || panel == "Links" => self.first(),
            ("Hooks", _) => self.first(),
            _ => &self.user,
        };
        let map = match panel {
            "Backlog over time" => self.ring.map().id(),
            "Growth per hour" => self.growing.borrow().map().id(),
            _ => self.full.map().id(),
        };
        [program.id(), map]
    }

    /// The program that runs first at its hook.
    pub(super) fn first(&self) -> &Program {
        self.links[0].program().expect("the link has one")
    }
}
