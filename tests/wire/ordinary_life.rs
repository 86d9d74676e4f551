//! Ordinary life with real objects, two exporters and a Prometheus with the rules: no alert fires. Then a map is filled and a hook loses
//! a program, and their alerts do. Every duration of the rules is divided by [`FASTER`], so a minute is an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use dist::rules::{self, Group, Rule};
use promql_parser::parser::{self, Expr, Offset, VectorSelector};
use promql_parser::util::duration;
use test_support::http::free_address;
use test_support::objects::{Cgroup, Link, Map, MapSpec, Network, Program, Ring, Shape, pairs_missing, uapi};
use test_support::{bpftool, root};

use crate::exporter::Exporter;
use crate::processes::{SOON, Scratch, eventually};
use crate::receivers::Prometheus;
use crate::series::{Labels, Values};

/// How much faster than usual time goes by.
const FASTER: u64 = 60;

/// The variable with the seconds of life.
const VARIABLE: &str = "ORDINARY_LIFE";

/// Alerts may wait for history of two hours.
const LONG: Duration = Duration::from_mins(4);

/// Entries of each map, so many that its fill counts.
const ENTRIES: u32 = 80;

/// Rounds in which the sawtooth is filled.
const RISE: u32 = 20;

/// Alerts about all of the host, which others on the machine may cause. They are reported and do not fail the test.
const OF_THE_HOST: [&str; 3] = ["BpfObjectsOrphanedGrow", "BpfJitMemoryNearLimit", "BpfSeriesDropped"];

pub(crate) fn test() {
    let lives = match env::var(VARIABLE) {
        Ok(seconds) => seconds.parse().unwrap_or_else(|error| panic!("{VARIABLE}={seconds}: {error}")),
        Err(_) => 60,
    };
    let scratch = Scratch::new();
    let mut hosts = ["one", "other"].map(|name| Host::new(scratch.folder(name)));
    let groups = [rules::recording::groups(), rules::alerts::groups()].concat();
    let count: usize = groups.iter().map(|group| group.rules.len()).sum();
    let addresses = hosts.each_ref().map(|host| host.serves);
    let prometheus = Prometheus::start_with_rules(
        &scratch.folder("prometheus"),
        &addresses,
        &faster(&rules::yaml(&groups)),
        "5s",
    );

    let mut life = Life::begin().expect("the kernel takes the objects");
    let start = Instant::now();
    let mut events = Events { restart: false, kill: false };
    for round in 0.. {
        let elapsed = start.elapsed();
        if elapsed >= Duration::from_secs(lives) {
            break;
        }
        life.go_on(round).expect("the kernel takes the objects");
        if round % 5 == 0 {
            look_at_objects();
        }
        // The node of the second exporter is the same, and only one of them is restarted at a time.
        if !events.restart && elapsed > Duration::from_secs(lives / 4) {
            events.restart = true;
            hosts[0].restart();
        }
        if !events.kill && elapsed > Duration::from_secs(lives / 2) {
            events.kill = true;
            hosts[1].kill();
        }
        // A round is as long as it takes until each target has been scraped again.
        let scraped = || -> Result<Option<f64>, String> {
            Ok(prometheus.rows("min(timestamp(up))")?.first().map(|row| row.value))
        };
        let before = scraped().expect("it answers");
        eventually("the next scrape", SOON, || match scraped()? {
            Some(now) if before.is_none_or(|before| now > before) => Ok(()),
            now => Err(format!("{now:?} after {before:?}")),
        });
    }
    assert!(events.restart && events.kill, "both happened");
    let (failed, evaluated) = prometheus.rules().expect("it answers");
    assert_eq!((failed, evaluated), (Vec::new(), count), "rules that cannot be evaluated, and others");
    for recorded in
        [rules::recording::NODE_NAME, rules::recording::MAP_FILL_OF_OWNER, rules::recording::RING_FLOOR]
    {
        assert!(!prometheus.rows(recorded).expect("it answers").is_empty(), "{recorded} is recorded");
    }
    let fired = prometheus.query(r#"last_over_time(ALERTS{alertstate="firing"}[1d])"#).expect("it answers");
    report(&groups, start.elapsed(), &fired);
    assert_eq!(life.own_alerts(&fired), BTreeSet::new(), "fired in ordinary life");

    life.fill_up().expect("there is room");
    fires(&prometheus, &life, "BpfMapFull", SOON);
    // The loss counts where the hook was the same for two hours.
    let hook = format!(r#"bpf_hook_programs{{target=~".*{}"}} offset 80s == 2"#, life.lasting.name());
    eventually("the hook has a past", LONG, || match prometheus.rows(&hook)?.len() {
        0 => Err("it has none".to_owned()),
        _ => Ok(()),
    });
    life.detach();
    fires(&prometheus, &life, "BpfHookLostProgram", LONG);
}

/// Waits until an alert fires for both exporters.
fn fires(prometheus: &Prometheus, life: &Life, alert: &str, limit: Duration) {
    eventually(&format!("{alert} fires"), limit, || {
        let firing = prometheus.query(r#"ALERTS{alertstate="firing"}"#)?;
        let own = life.own_alerts(&firing);
        match own.iter().filter(|description| description.contains(alert)).count() {
            2 => Ok(()),
            _ => Err(format!("firing: {own:?}")),
        }
    });
}

/// Prints which alerts had as much history as they look at, and which ones about the host have fired.
#[expect(clippy::print_stderr, reason = "a short run says little about alerts that look far back")]
fn report(groups: &[Group], lived: Duration, fired: &Values) {
    let past = lived * u32::try_from(FASTER).expect("it is small");
    let rules = || groups.iter().flat_map(|group| &group.rules);
    let recorded: BTreeMap<&str, &str> = rules().map(|rule| (rule.name(), rule.expression())).collect();
    for rule in rules() {
        let Rule::Alert(alert) = rule else { continue };
        let needed = look_back(&recorded, &alert.expression)
            + duration::parse_duration(alert.after).expect("it is one");
        let verdict = if needed <= past { "had enough history" } else { "had too little history" };
        eprintln!("{} {verdict}: {} of {} minutes", alert.name, past.as_secs() / 60, needed.as_secs() / 60);
    }
    for series in fired.keys().filter(|series| is_of_the_host(&series.labels)) {
        eprintln!("fired for the host, perhaps because of others: {series}");
    }
}

/// Returns how far back an expression looks, and the recorded series that it uses.
fn look_back(recorded: &BTreeMap<&str, &str>, expression: &str) -> Duration {
    fn of_selector(recorded: &BTreeMap<&str, &str>, selector: &VectorSelector) -> Duration {
        let offset = match selector.offset {
            Some(Offset::Pos(offset)) => offset,
            Some(Offset::Neg(_)) | None => Duration::ZERO,
        };
        let rule = selector.name.as_deref().and_then(|name| recorded.get(name));
        offset + rule.map_or(Duration::ZERO, |rule| look_back(recorded, rule))
    }
    fn of(recorded: &BTreeMap<&str, &str>, expression: &Expr) -> Duration {
        let of = |expression| of(recorded, expression);
        match expression {
            Expr::Aggregate(aggregate) => of(&aggregate.expr),
            Expr::Unary(unary) => of(&unary.expr),
            Expr::Paren(paren) => of(&paren.expr),
            Expr::Subquery(subquery) => subquery.range + of(&subquery.expr),
            Expr::Binary(binary) => of(&binary.lhs).max(of(&binary.rhs)),
            Expr::VectorSelector(vector) => of_selector(recorded, vector),
            Expr::MatrixSelector(matrix) => matrix.range + of_selector(recorded, &matrix.vs),
            // The last sample may be any.
            Expr::Call(call) if call.func.name == "last_over_time" => match &*call.args.args[0] {
                Expr::MatrixSelector(matrix) => of_selector(recorded, &matrix.vs),
                other => of(other),
            },
            Expr::Call(call) => {
                let arguments = call.args.args.iter();
                arguments.map(|argument| of(argument)).max().unwrap_or_default()
            }
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Duration::ZERO,
            Expr::Extension(_) => panic!("not in PromQL"),
        }
    }
    let parsed = parser::parse(expression).unwrap_or_else(|error| panic!("{error}: {expression}"));
    of(recorded, &parsed)
}

fn is_of_the_host(labels: &Labels) -> bool {
    labels.get("alertname").is_some_and(|alert| OF_THE_HOST.contains(&alert.as_str()))
}

struct Events {
    restart: bool,
    kill: bool,
}

/// Returns rules with each duration divided.
pub(crate) fn faster(rules: &str) -> String {
    let mut text = rules.to_owned();
    for before in ["[", "offset ", "for: ", "interval: "] {
        let mut parts = text.split(before);
        let mut divided = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            divided.push_str(before);
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let seconds = match (part[..digits].parse::<u64>(), part[digits..].chars().next()) {
                (Ok(number), Some('m')) => number * 60,
                (Ok(number), Some('h')) => number * 60 * 60,
                (Ok(number), Some('d')) => number * 60 * 60 * 24,
                // No duration follows.
                _ => {
                    divided.push_str(part);
                    continue;
                }
            };
            divided.extend([&format!("{}s", seconds / FASTER), &part[digits + 1..]]);
        }
        text = divided;
    }
    text
}

/// A host with an exporter, which is always at the same address.
struct Host {
    folder: PathBuf,
    serves: SocketAddr,
    exporter: Exporter,
}

impl Host {
    fn new(folder: PathBuf) -> Self {
        let serves = free_address();
        let exporter = Self::start(&folder, serves);
        Self { folder, serves, exporter }
    }

    /// Starts an exporter that is only scraped.
    fn start(folder: &std::path::Path, serves: SocketAddr) -> Exporter {
        let flags = ["--hooks-interval", "1s", "--netns", "all"];
        Exporter::start_at(serves, &[], folder, "none", "1s", &flags)
    }

    fn restart(&mut self) {
        self.exporter.process.stop();
        self.exporter = Self::start(&self.folder, self.serves);
    }

    fn kill(&mut self) {
        self.exporter.process.signal("KILL");
        self.exporter.process.ended(SOON);
        self.exporter = Self::start(&self.folder, self.serves);
    }
}

/// Has other tools list all objects.
fn look_at_objects() {
    if bpftool::missing().is_none() {
        // Objects that go meanwhile are errors of bpftool, so its status says nothing.
        for kind in ["prog", "map", "link"] {
            let listed = Command::new("bpftool").args(["-j", kind, "list"]).output();
            listed.unwrap_or_else(|error| panic!("failed to run bpftool: {error}"));
        }
    }
    let mut snapshot = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
    let printed = snapshot.arg("snapshot").output();
    let printed = printed.unwrap_or_else(|error| panic!("failed to run snapshot: {error}"));
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
}

/// The objects of ordinary life.
struct Life {
    /// Ids of maps and programs that it has made.
    own: BTreeSet<u32>,
    /// Names of its cgroups.
    cgroups: BTreeSet<String>,
    /// Inodes of its network namespaces.
    networks: BTreeSet<String>,
    /// An agent: its programs, and maps that it fills when it loads them.
    agent: Vec<Program>,
    full: Map,
    populated: Map,
    /// A map that is filled and emptied.
    sawtooth: Map,
    ring: Ring,
    /// A pod: a cgroup with a program, and a device with one.
    pod: Option<(Cgroup, Option<Network>)>,
    /// A cgroup that stays, with two programs.
    lasting: Cgroup,
    links: Vec<Link>,
    /// A map that is filled at the end.
    filled_up: Map,
}

impl Life {
    fn begin() -> io::Result<Self> {
        let lasting = Cgroup::new()?;
        let link = |name| Program::ready(uapi::program_type::CGROUP_SKB, name)?.link_cgroup(&lasting);
        let links = vec![link("life_lasting_0")?, link("life_lasting_1")?];
        let mut life = Self {
            own: BTreeSet::new(),
            cgroups: BTreeSet::from([lasting.name().to_owned()]),
            networks: BTreeSet::new(),
            agent: Vec::new(),
            full: hash("life_full", ENTRIES)?,
            populated: hash("life_populated", ENTRIES * 17 / 20)?,
            sawtooth: hash("life_sawtooth", 0)?,
            ring: Ring::new(4096)?,
            pod: None,
            links,
            lasting,
            filled_up: hash("life_filled_up", ENTRIES / 4)?,
        };
        life.load_agent()?;
        let maps = [&life.sawtooth, life.ring.map(), &life.filled_up].map(Map::id);
        life.own.extend(maps);
        Ok(life)
    }

    /// A second of life.
    fn go_on(&mut self, round: u32) -> io::Result<()> {
        if round % 10 == 9 {
            self.load_agent()?;
        }
        if round.is_multiple_of(3) {
            self.make_pod()?;
        }
        let key = |number: u32| number.to_ne_bytes();
        match round % 30 {
            count @ 0..RISE => {
                let part = ENTRIES / RISE;
                for count in count * part..(count + 1) * part {
                    self.sawtooth.insert(&key(count), &[0; 8])?;
                }
            }
            RISE => {
                for count in 0..ENTRIES {
                    self.sawtooth.delete(&key(count))?;
                }
            }
            _ => {}
        }
        // A burst, which its consumer drains five rounds later.
        self.ring.produce(15)?;
        if round % 5 == 4 {
            self.ring.consume(75)?;
        }
        Ok(())
    }

    /// Restarts the agent: what it had is gone for a moment, and then there with new ids.
    fn load_agent(&mut self) -> io::Result<()> {
        self.agent.clear();
        self.full = hash("life_full", ENTRIES)?;
        self.populated = hash("life_populated", ENTRIES * 17 / 20)?;
        for number in 0..3 {
            self.agent
                .push(Program::ready(uapi::program_type::SOCKET_FILTER, &format!("life_agent_{number}"))?);
        }
        self.own.extend([self.full.id(), self.populated.id()]);
        self.own.extend(self.agent.iter().map(Program::id));
        Ok(())
    }

    /// Removes the pod and makes another one.
    fn make_pod(&mut self) -> io::Result<()> {
        self.pod = None;
        let cgroup = Cgroup::new()?;
        self.cgroups.insert(cgroup.name().to_owned());
        let program = Program::ready(uapi::program_type::CGROUP_SKB, "life_pod")?;
        program.attach_to_cgroup(&cgroup)?;
        self.own.insert(program.id());
        let device = || {
            const INDEX: u32 = 4730;
            let attach = |network: &Network| {
                network.add_pair("life", INDEX)?;
                Program::ready(uapi::program_type::XDP, "life_device")?.attach_xdp_at(INDEX)
            };
            Network::new_with(attach).map(|((), network)| network)
        };
        let network = if pairs_missing().is_none() { Some(device()?) } else { None };
        self.networks.extend(network.iter().map(|network| network.inode().to_string()));
        self.pod = Some((cgroup, network));
        Ok(())
    }

    fn fill_up(&self) -> io::Result<()> {
        self.filled_up.insert_many(ENTRIES)
    }

    fn detach(&mut self) {
        self.links.pop();
    }

    /// Returns the alerts that are not about what others on the machine have and do meanwhile.
    fn own_alerts(&self, alerts: &Values) -> BTreeSet<String> {
        let refuses = root::some_process_refuses();
        let is_own = |labels: &Labels| {
            let [object, program, hook] = ["id", "prog_id", "hook"].map(|label| labels.get(label));
            if let Some(id) = object.or(program) {
                return id.parse().is_ok_and(|id| self.own.contains(&id));
            }
            if hook.is_some() {
                let is_cgroup = |target: &String| self.cgroups.iter().any(|name| target.ends_with(name));
                return labels.get("target").is_some_and(is_cgroup)
                    || labels.get("netns").is_some_and(|netns| self.networks.contains(netns));
            }
            // It rightly fires for the scan of hooks where a process refuses everyone.
            let is_refusal = refuses && labels.get("collector").is_some_and(|part| part == "hook");
            !is_refusal && !is_of_the_host(labels)
        };
        let own = alerts.keys().filter(|series| is_own(&series.labels));
        own.map(ToString::to_string).collect()
    }
}

/// Makes a hash with so many entries.
fn hash(name: &str, entries: u32) -> io::Result<Map> {
    let shape = Shape {
        kind: uapi::map_type::HASH,
        key_size: 4,
        value_size: 8,
        max_entries: ENTRIES,
        ..Shape::default()
    };
    let map = Map::create(&MapSpec { name, shape, inner: None, types: None })?;
    map.insert_many(entries)?;
    Ok(map)
}
