//! A root that is refused by somebody else's filter is told so, although it has given up its capabilities and filters itself by then.

use std::process::{Command, Stdio};
use std::thread;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Runs the program as root below a filter that refuses bpf(2), as that of a container runtime does. Returns what it says.
fn below_a_filter(arguments: &'static [&'static str]) -> String {
    let run = move || {
        let rules = [(libc::SYS_bpf, Vec::new())].into_iter().collect();
        let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
        let architecture = std::env::consts::ARCH.try_into().expect("a known architecture");
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture);
        let program: BpfProgram = filter.and_then(TryInto::try_into).expect("it is a filter");
        seccompiler::apply_filter(&program).expect("a thread may restrict itself");
        let mut command = Command::new(env!("CARGO_BIN_EXE_bpf-metrics-exporter"));
        command.args(arguments).stdin(Stdio::null()).output().expect("it starts")
    };
    let output = thread::spawn(run).join().expect("it starts");
    let [said, logged] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert_eq!(output.status.code(), Some(1), "{said}{logged}");
    said + &logged
}

pub(crate) fn told() {
    let commands: [&[&str]; 3] = [
        &["--otlp-grpc", "none", "--web.listen-address", "127.0.0.1:0"],
        &["doctor", "--format", "json"],
        &["snapshot"],
    ];
    for arguments in commands {
        let said = below_a_filter(arguments);
        assert!(said.contains("a seccomp filter is active and may refuse bpf(2)"), "{arguments:?}: {said}");
        assert!(
            said.contains("seccomp=unconfined") && !said.contains("run it as root"),
            "{arguments:?}: {said}"
        );
    }
}
