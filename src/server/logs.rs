//! The access logs' files as the epoch sees them: their statistics, opening them again, and their end.

use crate::access_log::{Files, Tally};
use crate::stats::names::FilesystemStats;

/// The files and what has been counted of them.
pub(super) struct Logs {
    files: Files,
    stats: FilesystemStats,
    counted: Tally,
}

impl Logs {
    /// Of the process's files.
    pub(super) fn new(files: Files, stats: FilesystemStats) -> Self {
        Self { files, stats, counted: Tally::default() }
    }

    /// Opens every file again.
    pub(super) fn reopen(&self) {
        self.files.reopen();
    }

    /// Once a second: counts what the files' threads have done since.
    pub(super) fn second(&mut self) {
        let now = self.files.tally();
        self.count(now);
    }

    /// The end: what waits is written out, for a bounded time.
    pub(super) async fn finish(mut self) {
        let files = self.files.clone();
        // A blocking task that fails has panicked: then there is nothing to count.
        if let Ok(tally) = tokio::task::spawn_blocking(move || files.finish()).await {
            self.count(tally);
        }
    }

    fn count(&mut self, now: Tally) {
        let (stats, before) = (&self.stats, std::mem::replace(&mut self.counted, now));
        stats.write_buffered.add(now.write_buffered.saturating_sub(before.write_buffered));
        stats.write_completed.add(now.write_completed.saturating_sub(before.write_completed));
        stats.write_failed.add(now.write_failed.saturating_sub(before.write_failed));
        stats.flushed_by_timer.add(now.flushed_by_timer.saturating_sub(before.flushed_by_timer));
        stats.reopen_failed.add(now.reopen_failed.saturating_sub(before.reopen_failed));
        stats.lines_dropped.add(now.lines_dropped.saturating_sub(before.lines_dropped));
        stats.write_total_buffered.set(now.write_total_buffered);
    }
}
