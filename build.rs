//! Sets the source revision, the compiler and the target that `--version` shows; the first two are optional.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    if let Some(version) = output(&rustc, &["--version"]) {
        // `rustc 1.95.0 (59807616e 2026-04-14)`
        let version = version.split(' ').nth(1).unwrap_or(&version);
        println!("cargo::rustc-env=BUILD_RUSTC={version}");
    }
    if let Some(revision) = packaged_revision().or_else(checkout_revision) {
        println!("cargo::rustc-env=BUILD_REVISION={revision}");
    }
    let target = std::env::var("TARGET").expect("cargo sets it for build scripts");
    println!("cargo::rustc-env=BUILD_TARGET={target}");
}

/// The revision that `cargo package` writes into what it publishes.
fn packaged_revision() -> Option<String> {
    let info = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let revision = info.split("\"sha1\": \"").nth(1)?.split('"').next()?;
    Some(revision.to_owned())
}

/// The revision of the checkout that this is, if it is one.
fn checkout_revision() -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    // This file changes with every commit and checkout, the first one included.
    if let Some(log) = output("git", &["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    output("git", &["rev-parse", "HEAD"])
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned())
}
