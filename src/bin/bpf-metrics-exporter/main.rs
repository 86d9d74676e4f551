//! The program: parses the settings and runs the exporter or a subcommand. The parts are in the library.

mod baseline;
mod doctor;
mod endpoint;
mod events;
mod healthy;
mod log;
mod messages;
mod output;
mod push;
mod recording;
mod serve;
mod signals;
mod snapshot;
mod supervisor;
mod top;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use bpf_metrics_exporter::cli::{self, Command, ConfigErrors, Invocation};
use bpf_metrics_exporter::sys::{malloc, nss};

/// Exit code of wrong flags, variables and files; anything else that fails is [`ExitCode::FAILURE`].
const USAGE: u8 = 2;

fn main() -> ExitCode {
    messages::report_panics();
    malloc::set_mmap_threshold();
    nss::use_built_in();
    let code = run();
    log::flush();
    code
}

fn run() -> ExitCode {
    match cli::parse(std::env::args_os().collect(), std::env::vars_os()) {
        Err(ConfigErrors { lines }) => {
            for line in lines {
                log::complain(&line);
            }
            ExitCode::from(USAGE)
        }
        Ok(Invocation::Print(text)) => finish(print(&text)),
        Ok(Invocation::Run { command, log, warnings, settings }) => match command {
            Command::Export(export) => serve::serve(*export, log, &warnings, settings),
            Command::Snapshot(options) => snapshot::snapshot(*options, log, &warnings),
            Command::Events(options) => events::events(*options, log, &warnings),
            Command::Top(options) => top::top(*options, log, &warnings),
            Command::Doctor(options) => doctor::doctor(*options, log, &warnings),
            Command::Healthy(options) => healthy::healthy(options, &warnings),
        },
    }
}

/// Reports how the program ended.
fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output. A closed pipe is no failure: `head` has read enough.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("failed to write to standard output")
        }
        _ => Ok(()),
    }
}
