//! Makes BPF objects on this host and keeps them for a while: a busy node to point the exporter at. Only its descriptors hold them, so
//! they are freed when it ends, whichever way it ends.
#![expect(clippy::print_stderr, reason = "a command reports its errors")]

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use test_support::objects::{Churn, Herd, run_statistics};

const USAGE: &str = "usage: objects PROGRAMS MAPS [--churn PER_SECOND] [--run-stats] [--seconds S]";

fn main() -> ExitCode {
    let Some(wanted) = Wanted::parse(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match keep(&wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("objects: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments.
#[derive(Default)]
struct Wanted {
    programs: usize,
    maps: usize,
    churn: Option<u32>,
    run_stats: bool,
    seconds: Option<u64>,
}

impl Wanted {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut wanted = Self {
            programs: arguments.next()?.parse().ok()?,
            maps: arguments.next()?.parse().ok()?,
            ..Self::default()
        };
        while let Some(option) = arguments.next() {
            if option == "--run-stats" {
                wanted.run_stats = true;
                continue;
            }
            let value = arguments.next()?;
            match option.as_str() {
                "--churn" => wanted.churn = Some(value.parse().ok().filter(|&rate| rate > 0)?),
                "--seconds" => wanted.seconds = Some(value.parse().ok()?),
                _ => return None,
            }
        }
        Some(wanted)
    }
}

/// Makes the objects, reports that, and keeps them until stdin closes or the time is over.
/// SIGTERM and SIGINT need no handler: the kernel closes the descriptors of a process that they end.
fn keep(wanted: &Wanted) -> io::Result<()> {
    let herd = Herd::new(wanted.programs, wanted.maps)?;
    let churn = wanted.churn.map(Churn::start).transpose()?;
    let _run_stats = wanted.run_stats.then(run_statistics).transpose()?;
    let mut stdout = io::stdout();
    writeln!(stdout, "ready programs={} maps={}", herd.programs().len(), herd.maps().len())?;
    stdout.flush()?;

    wait_for_stdin(wanted.seconds.map(Duration::from_secs));
    if let Some(churn) = churn {
        let made = churn.stop()?;
        eprintln!("churned programs={} maps={} links={}", made.programs, made.maps, made.links);
    }
    Ok(())
}

fn wait_for_stdin(limit: Option<Duration>) {
    let (closed, wait) = mpsc::channel::<()>();
    thread::spawn(move || {
        // An error ends the wait as the end of the input does.
        let _copied = io::copy(&mut io::stdin().lock(), &mut io::sink());
        drop(closed);
    });
    // Both outcomes, time over and sender gone, mean the end.
    let _over = match limit {
        Some(limit) => wait.recv_timeout(limit).is_ok(),
        None => wait.recv().is_ok(),
    };
}
