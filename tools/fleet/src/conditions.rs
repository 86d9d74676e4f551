//! Where and when a run took place, and how busy the machine was with other things. Entry points: [`fill`], [`Load::begin`].

use std::time::Instant;
use std::{fs, io, thread};

use anyhow::Context as _;
use jiff::Timestamp;
use nix::unistd::{SysconfVar, sysconf};
use test_support::receivers::path;

use crate::figures::Conditions;

/// Parts of `tests/receivers/install`, by the files with their versions.
const PROGRAMS: [&str; 3] = ["otelcol", "prometheus-otlp", "victoria-metrics"];

/// The CPU time that the machine, and this process with those that it waited for, have used.
pub struct Load {
    at: Instant,
    machine: f64,
    own: f64,
}

impl Load {
    /// Reads both.
    ///
    /// # Errors
    ///
    /// If `/proc` cannot be read.
    pub fn begin() -> anyhow::Result<Self> {
        let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no CLK_TCK")?;
        let per_second = f64::from(u32::try_from(per_second)?);
        let ticks = |fields: &str, places: &[usize]| -> f64 {
            let fields: Vec<f64> = fields.split_whitespace().filter_map(|field| field.parse().ok()).collect();
            places.iter().filter_map(|&place| fields.get(place)).sum::<f64>() / per_second
        };
        let stat = fs::read_to_string("/proc/stat")?;
        let cpu =
            stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("no cpu in /proc/stat")?;
        let own = fs::read_to_string("/proc/self/stat")?;
        let (_, own) = own.rsplit_once(") ").context("no name in stat")?;
        let (_, own) = own.split_once(' ').context("no state in stat")?;
        // user, nice, system, irq, softirq; utime, stime, cutime, cstime without the state before them.
        let (machine, own) = (ticks(cpu, &[0, 1, 2, 5, 6]), ticks(own, &[10, 11, 12, 13]));
        Ok(Self { at: Instant::now(), machine, own })
    }

    /// Returns the share of all CPUs that other processes have used since then.
    ///
    /// # Errors
    ///
    /// If `/proc` cannot be read.
    #[expect(clippy::cast_precision_loss, reason = "a machine has few CPUs")]
    pub fn of_others(&self) -> anyhow::Result<f64> {
        let now = Self::begin()?;
        let others = (now.machine - self.machine) - (now.own - self.own);
        let cpus = thread::available_parallelism()?.get() as f64;
        Ok((others / cpus / (now.at - self.at).as_secs_f64()).clamp(0.0, 1.0))
    }
}

/// Takes note of a part that was run.
///
/// # Errors
///
/// If something of the machine cannot be read.
pub fn fill(conditions: &mut Conditions, part: &str, load: &Load) -> anyhow::Result<()> {
    conditions.date = Timestamp::now().strftime("%Y-%m-%d").to_string();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    release.trim().split('-').next().unwrap_or_default().clone_into(&mut conditions.kernel);
    conditions.cpus = thread::available_parallelism()?.get();
    conditions.optimized = !cfg!(debug_assertions);
    let exporter = bpf_metrics_exporter::export::otlp::resource::attributes(
        &bpf_metrics_exporter::model::HostIdentity::default(),
        &bpf_metrics_exporter::export::otlp::resource::UserAttributes::default(),
        &[],
    );
    let version = exporter.into_iter().find(|(key, _)| key == "service.version").map(|(_, version)| version);
    conditions.versions.insert("bpf-metrics-exporter".to_owned(), version.unwrap_or_default());
    for program in PROGRAMS {
        let file = path(program).with_file_name(format!("../versions/{program}"));
        let version = match fs::read_to_string(&file) {
            // It was not needed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            version => version.with_context(|| format!("failed to read {}", file.display()))?,
        };
        conditions.versions.insert(program.to_owned(), version.lines().next().unwrap_or_default().to_owned());
    }
    conditions.others.insert(part.to_owned(), load.of_others()?);
    Ok(())
}
