//! Files: whole lines, opened again, full.

use std::os::unix::fs::FileTypeExt;

use super::*;

fn files(enough: usize) -> Files {
    Files::new(Settings { interval: Duration::from_secs(3600), enough })
}

#[test]
fn what_waits_is_written_when_the_process_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let files = files(1 << 20);
    let sink = files.open(&LogSink::File(path.clone())).unwrap();
    sink.write(b"one\n");
    sink.write(b"two\n");
    assert_eq!(files.tally().write_total_buffered, 8);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    let tally = files.finish();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    assert_eq!((tally.write_buffered, tally.write_completed, tally.lines_dropped), (2, 1, 0));
    assert_eq!(tally.write_total_buffered, 0);
}

#[test]
fn lines_of_many_threads_and_of_two_processes_stand_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    // Two epochs have a writer each for the same file.
    let epochs = [files(700), files(500)];
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let sink = epochs[usize::from(thread % 2)].open(&LogSink::File(path.clone())).unwrap();
            scope.spawn(move || {
                let line = format!("{}\n", char::from(b'a' + thread).to_string().repeat(90 + usize::from(thread)));
                (0..400).for_each(|_| sink.write(line.as_bytes()));
            });
        }
    });
    let dropped: u64 = epochs.iter().map(|files| files.finish().lines_dropped).sum();
    let text = std::fs::read_to_string(&path).unwrap();
    for line in text.lines() {
        let first = line.as_bytes()[0];
        assert!(line.bytes().all(|byte| byte == first) && line.len() == 90 + usize::from(first - b'a'), "torn: {line}");
    }
    assert_eq!((text.lines().count(), dropped), (3200, 0));
}

#[test]
fn a_rotated_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, rotated) = (folder.path().join("log"), folder.path().join("log.1"));
    let files = files(1);
    let sink = files.open(&LogSink::File(path.clone())).unwrap();
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::park_timeout(Duration::from_millis(2));
        }
    };
    sink.write(b"one\n");
    wait("the first line", &|| files.tally().write_completed == 1);
    std::fs::rename(&path, &rotated).unwrap();
    sink.write(b"two\n");
    wait("the second line", &|| files.tally().write_completed == 2);
    files.reopen();
    wait("the new file", &|| path.exists());
    sink.write(b"three\n");
    files.finish();
    assert_eq!(std::fs::read_to_string(&rotated).unwrap(), "one\ntwo\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
}

#[test]
fn a_path_that_has_gone_leaves_the_old_file_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let files = files(1 << 20);
    let sink = files.open(&LogSink::File(inner.join("log"))).unwrap();
    let moved = folder.path().join("moved");
    std::fs::rename(&inner, &moved).unwrap();
    files.reopen();
    let deadline = Instant::now() + Duration::from_secs(20);
    while files.tally().reopen_failed == 0 {
        assert!(Instant::now() < deadline);
        std::thread::park_timeout(Duration::from_millis(2));
    }
    sink.write(b"still\n");
    assert_eq!(files.finish().reopen_failed, 1);
    assert_eq!(std::fs::read_to_string(moved.join("log")).unwrap(), "still\n");
}

#[test]
fn a_full_disk_drops_and_counts() {
    let full = PathBuf::from("/dev/full");
    if !std::fs::metadata(&full).is_ok_and(|of| of.file_type().is_char_device()) {
        println!("there is no /dev/full here");
        return;
    }
    let files = files(1 << 20);
    let sink = files.open(&LogSink::File(full)).unwrap();
    sink.write(b"one\n");
    sink.write(b"two\n");
    let tally = files.finish();
    assert_eq!((tally.write_failed, tally.lines_dropped, tally.write_completed), (1, 2, 0));
}

#[test]
fn a_reader_that_hangs_costs_lines_and_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Somebody has it open and reads nothing.
    let reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let files = files(1024);
    let sink = files.open(&LogSink::File(path)).unwrap();
    let line = vec![b'x'; 4096];
    for _ in 0..2 * MOST_WAITING / line.len() {
        sink.write(&line);
    }
    let tally = files.tally();
    assert!(tally.lines_dropped > 0, "{tally:?}");
    assert!(tally.write_total_buffered as usize <= MOST_WAITING, "{tally:?}");
    let begun = Instant::now();
    files.finish();
    assert!(begun.elapsed() < FINISH_TIME + Duration::from_secs(20), "the end is bounded");
    drop(reader);
}
