//! No deadline knows the time of day.
//!
//! A test cannot move the wall clock: it is the machine's, and a time namespace moves only the monotonic ones. What can be shown is that nothing that waits asks
//! for it. Everything that may know the time of day writes it down for people and for other systems: the date of an answer, the time of a log line, the age
//! of the statistics, the end of a drain in `status`. After a jump of the clock those jump, and no connection, timer or takeover does.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the time of day is written down.
const WRITERS: [&str; 4] = [
    // The date of an answer.
    "src/http",
    // The age of a session ticket, which outlives its process: what a jump costs is a full handshake.
    "src/tls/tickets.rs",
    // The age of the statistics.
    "supervisor/src/shm",
    // The end of a drain, for people.
    "supervisor/src/run/operator.rs",
];
/// What asks for it.
const CLOCKS: [&str; 4] = ["SystemTime::now", "UNIX_EPOCH", "CLOCK_REALTIME", "gettimeofday"];

fn sources(directory: &Path, into: &mut Vec<PathBuf>) {
    for path in fs::read_dir(directory).expect("there are sources").flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn only_what_is_written_down_knows_the_time_of_day() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("supervisor/src"), &mut files);
    let mut seen = 0;
    for path in files {
        let name = path.strip_prefix(root).expect("found below it").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a source is text");
        let asks = CLOCKS.iter().any(|clock| text.contains(clock));
        seen += usize::from(asks);
        let is_test = name.contains("/tests") || name.ends_with("tests.rs");
        let may = WRITERS.iter().any(|writer| name.starts_with(writer)) || name.contains("log");
        assert!(!asks || may || is_test, "{name} asks for the time of day; a deadline must not");
    }
    assert!(seen > 0, "the search finds those that may");
}
