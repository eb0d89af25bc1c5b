//! Files that lines go to: a bounded buffer that all workers share, and a thread per file that writes it.
//!
//! A worker appends a whole line and never waits. The thread writes when there is enough or when it is time, always whole lines, to a file
//! that is open for appending: two epochs may write the same file at once, and no line of one stands within a line of the other. What a
//! slow or full disk does not take is dropped and counted.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::model::LogSink;

/// What waits for a file at most, in bytes: enough for a disk that stops for a moment, not for one that is gone.
const MOST_WAITING: usize = 4 << 20;
/// How long the end of the process waits for the files.
const FINISH_TIME: Duration = Duration::from_secs(2);

/// When what waits is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `--file-flush-interval-msec`.
    pub interval: Duration,
    /// `--file-flush-min-size-kb`, in bytes.
    pub enough: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), enough: 64 * 1024 }
    }
}

/// A file that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("unable to open file '{path}': {cause}")]
pub struct OpenError {
    path: String,
    cause: io::Error,
}

/// What all files together have counted since the process began, under Envoy's names (`filesystem.*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines that were taken.
    pub write_buffered: u64,
    /// Writes that the system took.
    pub write_completed: u64,
    /// Writes that it did not.
    pub write_failed: u64,
    /// Writes because it was time.
    pub flushed_by_timer: u64,
    /// Files that could not be opened again.
    pub reopen_failed: u64,
    /// Lines that were thrown away, because the disk was slow or did not take them. Not Envoy's.
    pub lines_dropped: u64,
    /// Bytes that wait now.
    pub write_total_buffered: u64,
}

/// All files of the process. Clones are the same.
#[derive(Clone, Default)]
pub struct Files {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    settings: Settings,
    files: Mutex<BTreeMap<LogSink, Writer>>,
}

struct Writer {
    inner: Arc<Inner>,
    thread: JoinHandle<()>,
}

/// One log's way to its file.
#[derive(Clone)]
pub(super) struct Sink(Arc<Inner>);

struct Inner {
    enough: usize,
    state: Mutex<State>,
    wake: Condvar,
    counts: Counts,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    lines: u64,
    /// The thread is at work on what it took.
    writing: usize,
    reopen: bool,
    flush: bool,
    end: bool,
}

#[derive(Default)]
struct Counts {
    buffered: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    by_timer: AtomicU64,
    reopen_failed: AtomicU64,
    dropped: AtomicU64,
}

impl Files {
    /// None yet.
    pub fn new(settings: Settings) -> Self {
        Self { shared: Arc::new(Shared { settings, files: Mutex::default() }) }
    }

    /// The way to a file; opened, and its thread started, by whoever asks first.
    ///
    /// # Errors
    /// It cannot be opened for appending.
    pub(super) fn open(&self, target: &LogSink) -> Result<Sink, OpenError> {
        let mut files = locked(&self.shared.files);
        if let Some(writer) = files.get(target) {
            return Ok(Sink(writer.inner.clone()));
        }
        let failed = |cause| OpenError { path: shown(target), cause };
        let file = open(target).map_err(failed)?;
        let inner = Arc::new(Inner {
            enough: self.shared.settings.enough,
            state: Mutex::default(),
            wake: Condvar::new(),
            counts: Counts::default(),
        });
        let output = Output { file, target: target.clone(), torn: false };
        let (own, interval) = (inner.clone(), self.shared.settings.interval);
        let thread = std::thread::Builder::new()
            .name("access_log".to_owned())
            .spawn(move || own.run(output, interval))
            .map_err(failed)?;
        files.insert(target.clone(), Writer { inner: inner.clone(), thread });
        Ok(Sink(inner))
    }

    /// Has every file opened again, because its name may have been given to another.
    pub fn reopen(&self) {
        for writer in locked(&self.shared.files).values() {
            locked(&writer.inner.state).reopen = true;
            writer.inner.wake.notify_one();
        }
    }

    /// What has been counted so far.
    pub fn tally(&self) -> Tally {
        tally(&locked(&self.shared.files))
    }

    /// Writes out what waits and ends the threads, for a bounded time: a disk that hangs does not keep the process. Blocks.
    /// What has been counted until then.
    pub fn finish(&self) -> Tally {
        let mut files = locked(&self.shared.files);
        for writer in files.values() {
            locked(&writer.inner.state).end = true;
            writer.inner.wake.notify_one();
        }
        let deadline = Instant::now() + FINISH_TIME;
        for writer in files.values() {
            let mut state = locked(&writer.inner.state);
            // The thread takes the order back when it has carried it out.
            while state.end && !writer.thread.is_finished() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                state = writer.inner.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        let tally = tally(&files);
        files.clear();
        tally
    }
}

impl Sink {
    /// Takes a line, or drops it where too much waits.
    pub(super) fn write(&self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let inner = &*self.0;
        let mut state = locked(&inner.state);
        if state.waiting.len() + state.writing + line.len() > MOST_WAITING {
            inner.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        inner.counts.buffered.fetch_add(1, Ordering::Relaxed);
        let before = state.waiting.len();
        state.waiting.extend_from_slice(line);
        state.lines += 1;
        let enough = before < inner.enough && state.waiting.len() >= inner.enough;
        drop(state);
        if enough {
            inner.wake.notify_one();
        }
    }
}

impl Inner {
    /// The thread's whole life.
    fn run(&self, mut output: Output, interval: Duration) {
        let mut spare = Vec::new();
        let mut next = Instant::now() + interval;
        loop {
            let (mut taken, lines, reopen, end);
            {
                let mut state = locked(&self.state);
                let timed_out = loop {
                    let left = next.saturating_duration_since(Instant::now());
                    if state.end || state.reopen || state.flush || state.waiting.len() >= self.enough {
                        break false;
                    }
                    if left.is_zero() {
                        break true;
                    }
                    state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                };
                if timed_out {
                    next = Instant::now() + interval;
                    if !state.waiting.is_empty() {
                        self.counts.by_timer.fetch_add(1, Ordering::Relaxed);
                    }
                }
                taken = std::mem::replace(&mut state.waiting, std::mem::take(&mut spare));
                state.writing = taken.len();
                lines = std::mem::take(&mut state.lines);
                reopen = std::mem::take(&mut state.reopen);
                state.flush = false;
                end = state.end;
            }
            if !taken.is_empty() {
                self.pass(&mut output, &taken, lines);
            }
            if reopen && output.reopen().is_err() {
                self.counts.reopen_failed.fetch_add(1, Ordering::Relaxed);
            }
            taken.clear();
            // A burst's memory is not kept.
            if taken.capacity() <= 2 * self.enough {
                spare = taken;
            }
            let mut state = locked(&self.state);
            state.writing = 0;
            if end {
                state.end = false;
                drop(state);
                self.wake.notify_all();
                return;
            }
        }
    }

    fn pass(&self, output: &mut Output, lines: &[u8], count: u64) {
        match output.write(lines) {
            Ok(()) => self.counts.completed.fetch_add(1, Ordering::Relaxed),
            Err(_) => {
                self.counts.dropped.fetch_add(count, Ordering::Relaxed);
                self.counts.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

/// A file that is open.
struct Output {
    file: File,
    target: LogSink,
    /// The last write ended within a line.
    torn: bool,
}

impl Output {
    fn write(&mut self, mut lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        while !lines.is_empty() {
            match self.file.write(lines) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.torn = lines.get(written.wrapping_sub(1)) != Some(&b'\n');
                    lines = lines.get(written..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // A format without a line end ends nowhere.
        self.torn = false;
        Ok(())
    }

    /// Opens the path anew. One that cannot be opened any more leaves the old file in use: a line in a rotated file is worth more than none.
    fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.target)?;
        self.torn = false;
        Ok(())
    }
}

fn tally(files: &BTreeMap<LogSink, Writer>) -> Tally {
    let mut tally = Tally::default();
    for Writer { inner, .. } in files.values() {
        let Counts { buffered, completed, failed, by_timer, reopen_failed, dropped } = &inner.counts;
        tally.write_buffered += buffered.load(Ordering::Relaxed);
        tally.write_completed += completed.load(Ordering::Relaxed);
        tally.write_failed += failed.load(Ordering::Relaxed);
        tally.flushed_by_timer += by_timer.load(Ordering::Relaxed);
        tally.reopen_failed += reopen_failed.load(Ordering::Relaxed);
        tally.lines_dropped += dropped.load(Ordering::Relaxed);
        let state = locked(&inner.state);
        tally.write_total_buffered += (state.waiting.len() + state.writing) as u64;
    }
    tally
}

fn open(target: &LogSink) -> io::Result<File> {
    let path: &Path = match target {
        LogSink::Stdout => return Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
        LogSink::Stderr => return Ok(File::from(io::stderr().as_fd().try_clone_to_owned()?)),
        LogSink::File(path) => path,
    };
    // A standard stream that is a socket cannot be opened by its path.
    match path.to_str() {
        Some("/dev/stdout") => open(&LogSink::Stdout),
        Some("/dev/stderr") => open(&LogSink::Stderr),
        _ => OpenOptions::new().create(true).append(true).open(path),
    }
}

fn shown(target: &LogSink) -> String {
    match target {
        LogSink::Stdout => "/dev/stdout".to_owned(),
        LogSink::Stderr => "/dev/stderr".to_owned(),
        LogSink::File(path) => PathBuf::from(path).display().to_string(),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under this lock leaves nothing half done that matters to a log.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
