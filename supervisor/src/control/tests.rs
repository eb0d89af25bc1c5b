use super::*;
use crate::wire::message::{Adopt, Command};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn open() -> (tempfile::TempDir, Control) {
    let parent = tempfile::tempdir().unwrap();
    let control = Control::open(&parent.path().join("run"), None).unwrap();
    (parent, control)
}

fn command(kind: CommandKind) -> Message {
    Message::Command(Command { kind: kind.into() })
}

#[test]
fn the_directory_and_the_door_are_private() {
    let (parent, control) = open();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&parent.path().join("run")), 0o700);
    assert_eq!(mode(control.path()), 0o600);
}

#[test]
fn one_supervisor_per_directory_and_the_dead_leave_no_trace() {
    let (parent, control) = open();
    let directory = parent.path().join("run");
    let error = Control::open(&directory, None).unwrap_err();
    assert!(error.contains("runs here already"), "{error}");
    assert!(error.contains(&std::process::id().to_string()), "{error}");
    // Dead without closing: the file stays, and the next one replaces it.
    drop(control);
    assert!(directory.join("control.sock").exists());
    let control = Control::open(&directory, None).unwrap();
    Channel::connect(control.path()).unwrap();
    control.close();
    assert!(!directory.join("control.sock").exists());
}

#[test]
fn a_directory_open_to_others_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("run");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Control::open(&directory, None).unwrap_err().contains("0755"));
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(Control::open(&file, None).unwrap_err().contains("not a directory"));
    assert!(Control::open(Path::new("/proc/nowhere/run"), None).is_err());
}

#[test]
fn a_command_is_answered() {
    let (_parent, mut control) = open();
    let client = Channel::connect(control.path()).unwrap();
    control.accept(Moment(0));
    let ticket = control.interests().1.next().unwrap().0;
    assert!(control.hear(ticket).is_none(), "nothing was said yet");
    client.send(&command(CommandKind::Reload), &[], soon()).unwrap();
    assert!(matches!(control.hear(ticket), Some(Asked::Command(_, CommandKind::Reload))));
    let outcome = Outcome { ok: true, line: "done".into(), ..Outcome::default() };
    control.answer_all(&[ticket, 99], &outcome);
    assert_eq!(client.recv(soon()).unwrap().message, Message::Outcome(outcome));
    assert!(matches!(client.recv(soon()), Err(Error::Closed)));
}

#[test]
fn nonsense_is_refused_and_disturbs_nobody() {
    let (_parent, mut control) = open();
    let good = Channel::connect(control.path()).unwrap();
    let bad = Channel::connect(control.path()).unwrap();
    let odd = Channel::connect(control.path()).unwrap();
    control.accept(Moment(0));
    nix::sys::socket::send(bad.as_raw_fd(), b"status\n", nix::sys::socket::MsgFlags::empty()).unwrap();
    odd.send(&Message::Accepting(crate::wire::message::Accepting {}), &[], soon()).unwrap();
    good.send(&command(CommandKind::Status), &[], soon()).unwrap();
    let tickets: Vec<Ticket> = control.interests().1.map(|(ticket, _)| ticket).collect();
    let asked: Vec<Asked> = tickets.into_iter().filter_map(|ticket| control.hear(ticket)).collect();
    assert!(matches!(asked[..], [Asked::Command(_, CommandKind::Status)]));
    for refused in [&bad, &odd] {
        assert!(matches!(refused.recv(soon()).unwrap().message, Message::Refused(_)));
    }
    assert_eq!(control.connections.len(), 1);
}

#[test]
fn connections_are_bounded_in_number_and_silence() {
    let (_parent, mut control) = open();
    let mut clients = Vec::new();
    for _ in 0..=MOST {
        clients.push(Channel::connect(control.path()).unwrap());
        control.accept(Moment(0));
    }
    assert_eq!(control.connections.len(), MOST);
    let last = clients.pop().unwrap();
    assert!(matches!(last.recv(soon()).unwrap().message, Message::Refused(_)));
    assert_eq!(control.deadline(), Some(Moment(10_000)));
    control.expire(Moment(9_999));
    assert_eq!(control.connections.len(), MOST);
    control.expire(Moment(10_000));
    assert!(control.connections.is_empty());
}

#[test]
fn an_orphan_keeps_its_connection() {
    let (_parent, mut control) = open();
    let epoch = Channel::connect(control.path()).unwrap();
    control.accept(Moment(0));
    epoch.send(&Message::Adopt(Adopt { epoch: 4, ..Adopt::default() }), &[], soon()).unwrap();
    let Some(Asked::Orphan { channel, pid, .. }) = control.hear(1) else { panic!("not heard") };
    assert_eq!(pid, std::process::id());
    channel.send(&command(CommandKind::Status), &[], soon()).unwrap();
    assert_eq!(epoch.recv(soon()).unwrap().message, command(CommandKind::Status));
}
