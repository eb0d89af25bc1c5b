//! Real processes that do little.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::*;
use crate::wire::Channel;

fn words(text: &str) -> Vec<OsString> {
    text.split(' ').map(OsString::from).collect()
}

fn end(process: &Process) -> String {
    let mut interest = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut interest, PollTimeout::from(10_000_u16)), Ok(1), "it does not end");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(how) = process.reap() {
            return how;
        }
        assert!(Instant::now() < deadline);
    }
}

fn shell(script: &str) -> Recipe {
    Recipe::fresh(&["/bin/sh".into(), "-c".into(), script.into()]).unwrap()
}

#[test]
fn a_child_ends_in_words() {
    let (_ours, theirs) = Channel::pair().unwrap();
    for (script, how) in
        [("exit 0", "it exited"), ("exit 3", "it exited with status 3"), ("kill -9 $$", "it was killed by SIGKILL")]
    {
        let process = Process::spawn(&mut shell(script), 0, &theirs, None).unwrap();
        assert_eq!(end(&process), how);
    }
    let process = Process::spawn(&mut shell("sleep 100 & wait"), 0, &theirs, None).unwrap();
    assert!(process.reap().is_none());
    process.signal(Signal::SIGTERM);
    assert_eq!(end(&process), "it was killed by SIGTERM");
    process.signal(Signal::SIGTERM);
}

#[test]
fn a_child_hears_the_signals_that_its_parent_blocks() {
    let mut set = nix::sys::signal::SigSet::empty();
    set.add(Signal::SIGTERM);
    set.thread_block().unwrap();
    let (_ours, theirs) = Channel::pair().unwrap();
    let process = Process::spawn(&mut shell("kill -TERM $$; exit 5"), 0, &theirs, None).unwrap();
    assert_eq!(end(&process), "it was killed by SIGTERM");
    set.thread_unblock().unwrap();
}

#[test]
fn a_child_gets_its_channel_and_nothing_else() {
    let file = tempfile::tempfile().unwrap();
    let mut out = tempfile::NamedTempFile::new().unwrap();
    let (_ours, theirs) = Channel::pair().unwrap();
    let path = out.path().display().to_string();
    let script = format!("ls /proc/$$/fd > {path}; echo $HEIRLOOM_CHANNEL $HEIRLOOM_EPOCH $NOTIFY_SOCKET >> {path}");
    let process = Process::spawn(&mut shell(&script), 42, &theirs, None).unwrap();
    assert_eq!(end(&process), "it exited");
    let mut text = String::new();
    out.seek(SeekFrom::Start(0)).unwrap();
    out.read_to_string(&mut text).unwrap();
    let channel = theirs.as_raw_fd().to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.contains(&channel.as_str()) && lines.contains(&format!("{channel} 42").as_str()), "{text}");
    assert!(!lines.contains(&file.as_raw_fd().to_string().as_str()), "{text}");
}

#[test]
fn a_program_is_found_or_said_to_be_missing() {
    assert!(Recipe::fresh(&words("sh -c true")).is_ok());
    assert!(Recipe::fresh(&[]).is_err());
    for missing in ["no-such-program-anywhere", "/no/such/file", "/etc", "/etc/passwd"] {
        let error = Recipe::fresh(&words(missing)).unwrap_err().to_string();
        assert!(error.contains(missing), "{error}");
    }
}

#[test]
fn the_binary_survives_the_loss_of_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("program");
    fs::copy("/bin/sleep", &program).unwrap();
    let (_ours, theirs) = Channel::pair().unwrap();
    let mut recipe = Recipe::fresh(&[program.clone().into(), "100".into()]).unwrap();
    let first = Process::spawn(&mut recipe, 0, &theirs, None).unwrap();
    fs::remove_file(&program).unwrap();
    fs::write(&program, "#!/bin/sh\nexit 7\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut again = recipe.again().unwrap();
    let second = Process::spawn(&mut again, 1, &theirs, None).unwrap();
    assert!(second.reap().is_none(), "the old program runs on");
    first.signal(Signal::SIGKILL);
    second.signal(Signal::SIGKILL);
    end(&first);
    end(&second);
    // A fresh recipe runs what has the name now; a script runs by its name, also again.
    let mut fresh = Recipe::fresh(&[program.into(), "100".into()]).unwrap();
    let script = Process::spawn(&mut fresh, 2, &theirs, None).unwrap();
    assert_eq!(end(&script), "it exited with status 7");
    let script = Process::spawn(&mut fresh.again().unwrap(), 3, &theirs, None).unwrap();
    assert_eq!(end(&script), "it exited with status 7");
}

#[test]
fn a_copy_takes_the_place_of_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let cases = [
        ("sh -c /etc/h.json -l info", Some("/etc/h.json"), "-c COPY -l info"),
        ("sh -c/etc/h.json", Some("/etc/h.json"), "-cCOPY"),
        ("sh --config-path=/etc/h.json", Some("/etc/h.json"), "--config-path=COPY"),
        ("sh -l info --config-path /etc/h.json", Some("/etc/h.json"), "-l info --config-path COPY"),
        ("sh --concurrency 2", None, "--concurrency 2"),
        ("sh --concurrency 2 -c /etc/h.json", Some("/etc/h.json"), "--concurrency 2 -c COPY"),
        ("sh -- -c /etc/h.json", None, "-- -c /etc/h.json"),
        ("sh -c", None, "-c"),
    ];
    for (command, path, arguments) in cases {
        let mut recipe = Recipe::fresh(&words(command)).unwrap();
        assert_eq!(recipe.configuration(), path.map(Into::into), "{command}");
        recipe.keep_configuration(directory.path(), 4, b"{}", None).unwrap();
        let copy = directory.path().join("config-4.json");
        let arguments = arguments.replace("COPY", &copy.display().to_string());
        assert_eq!(recipe.arguments(), words(&arguments), "{command}");
        assert_eq!(path.is_some(), recipe.copy().is_some());
    }
    let copy = directory.path().join("config-4.json");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn users_are_found_by_name_and_number() {
    assert_eq!(User::find("root"), Ok(User { uid: 0, gid: 0 }));
    assert_eq!(User::find("0"), Ok(User { uid: 0, gid: 0 }));
    assert_eq!(User::find("54321"), Ok(User { uid: 54321, gid: 54321 }));
    assert!(User::find("nobody-of-that-name").unwrap_err().contains("nobody-of-that-name"));
}

#[test]
fn a_stranger_can_be_held_too() {
    let process = Process::hold(std::process::id(), false).unwrap();
    assert!(process.reap().is_none() && !process.is_child());
    assert_eq!(process.pid(), std::process::id());
    assert!(Process::hold(u32::MAX, false).is_err());
    assert!(raise_descriptor_limit().unwrap() > 0);
}
