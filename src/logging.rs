//! The application log: where lines go and how they look.
//!
//! Lines pass through a bounded queue to a thread of their own, so that a full disk or a reader that hangs on the other end of
//! standard error never stops a worker; what does not fit is dropped and counted. The log belongs to the process: a reload of
//! the configuration leaves it alone, and SIGUSR1 opens the file again ([`Reopen::request`]).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::cli::{LogFormat, LogLevel};

/// Lines that may wait for a slow log; more are dropped.
const QUEUED_LINES: usize = 16_384;

/// Keeps the log alive; dropping it writes out what waits.
pub struct Log {
    /// Opens the file anew.
    pub reopen: Reopen,
    _writer: WorkerGuard,
}

/// A handle that opens the log file anew at the next line.
#[derive(Clone)]
pub struct Reopen(Arc<AtomicBool>);

impl Reopen {
    /// Asks for it; async-signal context is fine.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Installs the process's log.
///
/// # Errors
/// The file cannot be opened for appending.
pub fn install(path: Option<&Path>, format: LogFormat, LogLevel(level): LogLevel) -> io::Result<Log> {
    let reopen = Reopen(Arc::default());
    let sink = match path {
        None => Sink { target: Target::Stderr, reopen: reopen.clone() },
        Some(path) => Sink { target: Target::File(open(path)?, path.to_owned()), reopen: reopen.clone() },
    };
    let (writer, guard): (NonBlocking, WorkerGuard) =
        NonBlockingBuilder::default().buffered_lines_limit(QUEUED_LINES).lossy(true).thread_name("log").finish(sink);
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(writer).with_ansi(false);
    // What cannot be written is lost; complaining about it to a standard error that is no better would panic.
    let builder = builder.log_internal_errors(false);
    match format {
        LogFormat::Text => builder.event_format(Line).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(Log { reopen, _writer: guard })
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

struct Sink {
    target: Target,
    reopen: Reopen,
}

enum Target {
    Stderr,
    File(File, PathBuf),
}

impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut self.target {
            Target::Stderr => io::stderr().write(line),
            Target::File(file, path) => {
                if self.reopen.0.swap(false, Ordering::Relaxed) {
                    // A path that cannot be opened any more leaves the old file in use: a line in a rotated file is
                    // worth more than no line.
                    if let Ok(fresh) = open(path) {
                        *file = fresh;
                    }
                }
                file.write(line)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::Stderr => io::stderr().flush(),
            Target::File(file, _) => file.flush(),
        }
    }
}

/// `[time][pid][level][module] message`: Envoy's order, without the source line.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> std::fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let target = event.metadata().target();
        let module = target.strip_prefix("heirloom::").unwrap_or(target);
        out.write_char('[')?;
        SystemTime.format_time(&mut out)?;
        write!(out, "][{}][{level}][{module}] ", std::process::id())?;
        context.field_format().format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_file_is_opened_again_on_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let reopen = Reopen(Arc::default());
        let mut sink = Sink { target: Target::File(open(&path).unwrap(), path.clone()), reopen: reopen.clone() };
        sink.write_all(b"one\n").unwrap();
        std::fs::rename(&path, folder.path().join("log.1")).unwrap();
        sink.write_all(b"two\n").unwrap();
        reopen.request();
        sink.write_all(b"three\n").unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("log.1")).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn a_folder_that_is_absent_is_an_error() {
        assert!(
            install(
                Some(Path::new("/nonexistent/log")),
                LogFormat::Text,
                LogLevel(tracing::level_filters::LevelFilter::INFO)
            )
            .is_err()
        );
    }
}
