//! Settings as the parts of the program have them: the command line names nobody.

use std::path::PathBuf;

use bpf_metrics_exporter::cli::{self, KernelReader, RuleKey};
use bpf_metrics_exporter::enrich;
use bpf_metrics_exporter::kernel::{Options, ReaderChoice, RunStatsMode};
use bpf_metrics_exporter::lookup::{self, Sockets};
use bpf_metrics_exporter::metrics::select::{Key, Rule, Selection};
use bpf_metrics_exporter::model::ReaderKind;

/// Descriptors are searched for a fiftieth of the time at most: 20 ms once a second, and a host with millions of them once in some
/// ten seconds.
const HOLDERS_SHARE: u32 = 50;

/// The settings as the reader has them.
pub(super) fn reader(kernel: cli::Kernel, run_stats: cli::RunStats) -> Options {
    Options {
        reader: match kernel.reader {
            KernelReader::Auto => ReaderChoice::Auto,
            KernelReader::Iter => ReaderChoice::Only(ReaderKind::Iter),
            KernelReader::Walk => ReaderChoice::Only(ReaderKind::Walk),
        },
        run_stats: match run_stats {
            cli::RunStats::On => RunStatsMode::On,
            cli::RunStats::Off => RunStatsMode::Off,
            cli::RunStats::Sample { lasting, every } => RunStatsMode::Sample { lasting, every },
        },
        count_by_walking: kernel.count_by_walking,
    }
}

/// The settings as the enricher has them.
pub(super) fn enricher(cli::Enrich { bpffs, hooks, every_netns }: cli::Enrich) -> enrich::Options {
    enrich::Options { bpffs, hooks, every_netns, wait_for_hooks: false, holders_share: Some(HOLDERS_SHARE) }
}

/// The settings as the selection has them.
pub(super) fn selection(
    cli::Selection { only, except, per_object, max_series }: cli::Selection,
) -> Selection {
    let key = |key| match key {
        RuleKey::Kind => Key::Kind,
        RuleKey::Type => Key::Type,
        RuleKey::Name => Key::Name,
        RuleKey::Owner => Key::Owner,
        RuleKey::OwnerKind => Key::OwnerKind,
    };
    let rule = |terms: cli::Rule| Rule {
        terms: terms.into_iter().map(|(asked, pattern)| (key(asked), pattern)).collect(),
    };
    let rules = |given: Vec<cli::Rule>| given.into_iter().map(rule).collect();
    Selection { only: rules(only), except: rules(except), per_object, max_series }
}

/// Whom to ask for names.
pub(super) fn lookup(cli::Lookup { cri, docker }: cli::Lookup) -> lookup::Settings {
    let sockets = |sockets| match sockets {
        cli::Sockets::WellKnown => Sockets::WellKnown,
        cli::Sockets::Given(paths) => Sockets::Given(paths),
    };
    lookup::Settings { root: PathBuf::from("/"), cri: sockets(cri), docker: sockets(docker) }
}
