//! The file of the baseline: read at start, since it may be a mistake, and again at a signal.
//! Entry points: [`BaselineFile::open`] and [`BaselineFile::reload`].

use std::fs::File;
use std::path::{Path, PathBuf};

use bpf_metrics_exporter::baseline::{Baseline, Expected};
use bpf_metrics_exporter::worker::Worker;
use tracing::{info, warn};

use crate::serve::start_worker;

/// The file, and the baseline that was last read from it.
pub(super) struct BaselineFile {
    path: PathBuf,
    expected: Expected,
}

/// A file that is read again, on a thread of its own.
pub(super) struct ReloadedBaseline {
    file: BaselineFile,
    reading: Worker,
}

impl BaselineFile {
    /// Reads the file; a line for what is wrong with it.
    pub(super) fn open(path: PathBuf) -> Result<Self, String> {
        let baseline = Baseline::load(&path).map_err(|error| format!("--baseline: {error}"))?;
        Ok(Self { path, expected: Expected::new(baseline) })
    }

    /// Returns the file's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the baseline in use.
    pub(super) fn expected(&self) -> Expected {
        self.expected.clone()
    }

    /// Starts the thread that reads it again, and warns if it cannot any more.
    pub(super) fn start(self) -> anyhow::Result<ReloadedBaseline> {
        if let Err(error) = File::open(&self.path) {
            warn!(
                "{}: {error}: it could be read at start, but not without the privileges that the exporter has given up, so that \
                 SIGHUP will not take over changes; make the file readable to the exporter's user",
                self.path.display()
            );
        }
        Ok(ReloadedBaseline { file: self, reading: start_worker("baseline")? })
    }

    /// Reads the file again. If it cannot be used, the baseline stays as it was.
    fn reload(&self) {
        match Baseline::load(&self.path) {
            Ok(baseline) => {
                info!("{}: {} programs are expected", self.path.display(), baseline.len());
                self.expected.replace(baseline);
            }
            Err(error) => warn!("{error}; the baseline stays as it was"),
        }
    }
}

impl ReloadedBaseline {
    /// Reads the file again. If it cannot be used, the baseline stays as it was.
    pub(super) async fn reload(&self) {
        let Self { file: BaselineFile { path, expected }, reading } = self;
        let file = BaselineFile { path: path.clone(), expected: expected.clone() };
        reading.run(move || file.reload()).await;
    }
}
