//! Both sides over a socket pair.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use prost::Message as _;

use super::message::*;
use super::*;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn hello() -> Message {
    let version = "1.2.3".to_owned();
    Message::Hello(Hello { protocol_min: 1, protocol_max: 2, pid: 77, version, features: vec!["thaw".into()] })
}

fn file_with(text: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

fn open_descriptors_to(target: &str) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
    links
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|link| link.to_string_lossy().contains(target))
        .count()
}

#[test]
fn a_message_arrives_with_its_descriptors_close_on_exec() {
    let (supervisor, epoch) = Channel::pair().unwrap();
    let file = file_with("segment");
    epoch.send(&hello(), &[file.as_fd()], soon()).unwrap();
    let packet = supervisor.recv(soon()).unwrap();
    assert_eq!(packet.message, hello());
    let mut descriptors = packet.descriptors.into_iter();
    let received = descriptors.next().unwrap();
    assert!(descriptors.next().is_none());
    let flags = fcntl(&received, FcntlArg::F_GETFD).unwrap();
    assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
    let mut text = String::new();
    File::from(received).read_to_string(&mut text).unwrap();
    assert_eq!(text, "segment");
}

#[test]
fn messages_keep_their_order_and_the_end_is_seen_after_them() {
    let (supervisor, epoch) = Channel::pair().unwrap();
    for token in 0..5 {
        epoch.send(&Message::Pong(Pong { token }), &[], soon()).unwrap();
    }
    drop(epoch);
    for token in 0..5 {
        assert_eq!(supervisor.recv(soon()).unwrap().message, Message::Pong(Pong { token }));
    }
    assert!(matches!(supervisor.recv(soon()), Err(Error::Closed)));
    assert!(matches!(supervisor.try_send(&hello(), &[]), Err(Error::Closed)));
}

#[test]
fn last_words_are_heard_although_the_sender_did_not_listen() {
    let (supervisor, epoch) = Channel::pair().unwrap();
    supervisor.send(&Message::Ping(Ping { token: 1 }), &[], soon()).unwrap();
    let report = Message::Failed(Failed { report: "why".into() });
    epoch.send(&report, &[], soon()).unwrap();
    drop(epoch);
    assert_eq!(supervisor.recv(soon()).unwrap().message, report);
    assert!(matches!(supervisor.recv(soon()), Err(Error::Closed)));
}

#[test]
fn nothing_waits_without_a_deadline() {
    let (supervisor, _epoch) = Channel::pair().unwrap();
    assert!(supervisor.try_recv().unwrap().is_none());
    let begin = Instant::now();
    let limit = Duration::from_millis(30);
    assert!(matches!(supervisor.recv(begin + limit), Err(Error::TimedOut)));
    assert!(begin.elapsed() >= limit);
    // A peer that does not read fills the socket; the sender learns so instead of waiting.
    let report = "x".repeat(MAX_TEXT);
    let message = Message::Failed(Failed { report });
    let mut sent = 0;
    while supervisor.try_send(&message, &[]).unwrap() {
        sent += 1;
        assert!(sent < 1000, "the socket never fills");
    }
    assert!(matches!(supervisor.send(&message, &[], Instant::now() + limit), Err(Error::TimedOut)));
}

#[test]
fn an_unknown_message_is_answered_and_skipped() {
    let (supervisor, epoch) = Channel::pair().unwrap();
    let mut packet = b"Heir\x01\x00\x00\x00".to_vec();
    prost::encoding::string::encode(99, &"from the future".to_owned(), &mut packet);
    send(epoch.as_raw_fd(), &packet, MsgFlags::empty()).unwrap();
    epoch.send(&hello(), &[], soon()).unwrap();
    assert_eq!(supervisor.recv(soon()).unwrap().message, hello());
    assert_eq!(epoch.recv(soon()).unwrap().message, Message::NotUnderstood(NotUnderstood { tag: 99 }));
}

#[test]
fn unknown_fields_are_skipped() {
    #[derive(Clone, PartialEq, prost::Message)]
    struct NewerPing {
        #[prost(uint64, tag = "1")]
        token: u64,
        #[prost(string, tag = "200")]
        mood: String,
    }
    let newer = NewerPing { token: 9, mood: "curious".into() }.encode_to_vec();
    let mut packet = b"Heir\x01\x00\x00\x00".to_vec();
    prost::encoding::bytes::encode(20, &newer, &mut packet);
    let opened = frame::open(&packet, 0).unwrap();
    assert_eq!(opened, Opened::Known(Message::Ping(Ping { token: 9 })));
}

#[test]
fn a_malformed_packet_is_refused_and_the_next_is_read() {
    let (supervisor, epoch) = Channel::pair().unwrap();
    let cases: [(&[u8], &str); 6] = [
        (b"Heir", "shorter than a header"),
        (b"Hair\x01\x00\x00\x00\x0a\x00", "does not begin"),
        (b"Heir\x02\x00\x00\x00\x0a\x00", "framing 2"),
        (b"Heir\x01\x00\x01\x00\x0a\x00", "1 descriptors announced, 0 received"),
        (b"Heir\x01\x00\x00\x00", "no message"),
        (b"Heir\x01\x00\x00\x00\x0a\xff", "malformed"),
    ];
    for (packet, reason) in cases {
        send(epoch.as_raw_fd(), packet, MsgFlags::empty()).unwrap();
        let error = supervisor.recv(soon()).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let mut long = vec![0; MAX_FRAME + 1];
    long[..4].copy_from_slice(b"Heir");
    send(epoch.as_raw_fd(), &long, MsgFlags::empty()).unwrap();
    let error = supervisor.recv(soon()).unwrap_err().to_string();
    assert!(error.contains("longer than"), "{error}");
    epoch.send(&hello(), &[], soon()).unwrap();
    assert_eq!(supervisor.recv(soon()).unwrap().message, hello());
}

#[test]
fn descriptors_of_a_refused_frame_are_closed() {
    let (supervisor, epoch) = Channel::pair().unwrap();
    let directory = tempfile::Builder::new().prefix("refused-frame").tempdir().unwrap();
    let file = File::create(directory.path().join("file")).unwrap();
    for _ in 0..3 {
        rights::send(epoch.as_fd(), b"no frame at all", &[file.as_fd()]).unwrap();
        assert!(matches!(supervisor.recv(soon()), Err(Error::Malformed(_))));
    }
    assert_eq!(open_descriptors_to("refused-frame"), 1);
}

#[test]
fn limits_are_kept_by_the_sender_too() {
    let (supervisor, _epoch) = Channel::pair().unwrap();
    let report = "x".repeat(MAX_FRAME);
    let error = supervisor.try_send(&Message::Failed(Failed { report }), &[]).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }));
    let file = file_with("");
    let many: Vec<BorrowedFd<'_>> = vec![file.as_fd(); MAX_DESCRIPTORS + 1];
    assert!(matches!(supervisor.try_send(&hello(), &many), Err(Error::TooManyDescriptors { count: 254 })));
    supervisor.try_send(&hello(), &many[..MAX_DESCRIPTORS]).unwrap();
}

#[test]
fn a_channel_is_a_sequenced_packet_socket() {
    let (stream, _other) = UnixStream::pair().unwrap();
    assert!(Channel::from_socket(stream.into()).is_err());
    assert!(Channel::from_socket(file_with("").into()).is_err());
    let (a, _b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty()).unwrap();
    let channel = Channel::from_socket(a).unwrap();
    let flags = fcntl(&channel, FcntlArg::F_GETFD).unwrap();
    assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
    assert!(channel.try_recv().unwrap().is_none());
}

#[test]
fn versions_agree_on_the_newest_common_one() {
    let range = |min, max| Versions { min, max };
    // (ours, theirs, agreed)
    let cases = [
        (PROTOCOL, PROTOCOL, Some(PROTOCOL.max)),
        (PROTOCOL, range(1, PROTOCOL.max - 1), Some(PROTOCOL.max - 1)),
        (PROTOCOL, range(PROTOCOL.max, PROTOCOL.max + 1), Some(PROTOCOL.max)),
        (PROTOCOL, range(PROTOCOL.max + 1, PROTOCOL.max + 2), None),
        (range(3, 4), range(1, 2), None),
        (range(1, 2), range(2, 1), None),
        (range(1, 2), range(0, 0), None),
    ];
    for (ours, theirs, agreed) in cases {
        assert_eq!(ours.agree(theirs).ok(), agreed, "{ours} with {theirs}");
        assert_eq!(theirs.agree(ours).ok(), agreed, "{theirs} with {ours}");
    }
}

/// Carries a loan through a pair of channels and returns what arrives, with the number of batches.
fn carry(granted: Vec<loan::Granted>) -> (Vec<loan::Granted>, u32) {
    let (supervisor, epoch) = Channel::pair().unwrap();
    let mut borrower = Borrower::new(7, granted.len());
    let mut lender = Lender::new(7, granted);
    let mut next = Some(lender.first());
    let mut batches = 0;
    while let Some(packet) = next {
        let descriptors: Vec<_> = packet.descriptors.iter().map(AsFd::as_fd).collect();
        assert!(descriptors.len() <= MAX_DESCRIPTORS);
        supervisor.send(&packet.message, &descriptors, soon()).unwrap();
        batches += 1;
        let arrived = epoch.recv(soon()).unwrap();
        let Message::Lent(lent) = arrived.message else { panic!("{:?}", arrived.message) };
        let (received, complete) = borrower.take(lent, arrived.descriptors).unwrap();
        assert_eq!(complete, lender.is_finished());
        next = lender.received(&received).unwrap();
    }
    (borrower.finish(), batches)
}

#[test]
fn loans_of_any_size_arrive_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let numbered = |number: usize| -> OwnedFd {
        let path = directory.path().join(number.to_string());
        File::create(path).unwrap().into()
    };
    let named = |socket: &OwnedFd| {
        let path = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        path.file_name().unwrap().to_string_lossy().parse::<usize>().unwrap()
    };
    // Sizes of the groups, and how many batches they take.
    let cases: [(&[usize], u32); 5] = [(&[], 1), (&[1; 3], 1), (&[253], 1), (&[300, 1, 300], 3), (&[1; 600], 3)];
    for (sizes, batches) in cases {
        let mut next = 0;
        let mut group = |size: &usize| -> Vec<OwnedFd> {
            next += size;
            (next - size..next).map(numbered).collect()
        };
        let (granted, taken) = carry(sizes.iter().map(|size| Ok(group(size))).collect());
        assert_eq!(taken, batches, "{sizes:?}");
        let lengths: Vec<usize> = granted.iter().map(|granted| granted.as_ref().unwrap().len()).collect();
        assert_eq!(lengths, sizes);
        let order: Vec<usize> = granted.iter().flat_map(|granted| granted.as_ref().unwrap()).map(named).collect();
        assert_eq!(order, (0..next).collect::<Vec<_>>());
    }
}

#[test]
fn a_loan_says_why_a_key_has_nothing() {
    let (granted, _) = carry(vec![Ok(vec![file_with("").into()]), Err("address in use".into()), Ok(Vec::new())]);
    assert_eq!(granted[0].as_ref().unwrap().len(), 1);
    assert_eq!(granted[1].as_ref().unwrap_err(), "address in use");
    assert_eq!(granted[2].as_ref().unwrap_err(), "no socket");
    let (granted, batches) = carry(Vec::new());
    assert!(granted.is_empty() && batches == 1);
    let refused: Vec<loan::Granted> = (0..128).map(|_| Err("n".repeat(5000))).collect();
    let (granted, _) = carry(refused);
    assert!(granted.iter().all(|granted| granted.as_ref().is_err_and(|reason| reason.len() == 1024)));
}

#[test]
fn a_loan_out_of_step_is_refused() {
    let mut lender = Lender::new(1, vec![Ok(vec![file_with("").into()])]);
    assert!(lender.received(&Received { request: 1, batch: 0 }).is_err(), "nothing was sent yet");
    lender.first();
    assert!(lender.received(&Received { request: 2, batch: 0 }).is_err());
    assert!(lender.received(&Received { request: 1, batch: 1 }).is_err());
    assert!(lender.received(&Received { request: 1, batch: 0 }).unwrap().is_none());

    let grant = |key, sockets| Grant { key, sockets, error: String::new() };
    let lent = |batch, grants| Lent { request: 1, batch, last: true, grants };
    let mut borrower = Borrower::new(1, 1);
    assert!(borrower.take(lent(1, vec![]), vec![]).is_err());
    assert!(borrower.take(lent(0, vec![grant(0, 2)]), vec![file_with("").into()]).is_err());
    assert!(borrower.take(lent(0, vec![grant(5, 1)]), vec![file_with("").into()]).is_err());
    assert!(borrower.take(lent(0, vec![grant(0, u32::MAX), grant(0, u32::MAX)]), vec![]).is_err());
}

#[test]
fn without_a_supervisor_there_is_no_channel() {
    assert!(Channel::from_environment().unwrap().is_none());
    let error = rights::inherit(1_000_000).unwrap_err();
    assert_eq!(error.kind(), io::Error::from(nix::errno::Errno::EBADF).kind());
    assert!(rights::inherit(1).is_err());
}

#[test]
fn long_texts_are_cut_at_a_character() {
    assert_eq!(clip("short".into()), "short");
    let cut = clip("é".repeat(MAX_TEXT));
    assert!(cut.len() <= MAX_TEXT && cut.ends_with("(cut)"));
    frame::seal(&Message::Failed(Failed { report: cut }), 0).unwrap();
}

/// A small generator, so that a failing case can be run again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn random_bytes_never_panic_and_never_leak() {
    let (supervisor, epoch) = Channel::pair().unwrap();
    let directory = tempfile::Builder::new().prefix("fuzzed-frames").tempdir().unwrap();
    let file = File::create(directory.path().join("file")).unwrap();
    let mut samples: Vec<Vec<u8>> = vec![frame::seal(&hello(), 0).unwrap()];
    let keys = vec![SocketKey::tcp("127.0.0.1:80"), SocketKey::unix("/run/x.sock")];
    samples.push(frame::seal(&Message::Lend(Lend { request: 1, keys }), 0).unwrap());
    let grants = vec![Grant { key: 0, sockets: 1, error: "e".into() }];
    samples.push(frame::seal(&Message::Lent(Lent { request: 1, batch: 0, last: true, grants }), 1).unwrap());
    let mut random = Random(0x5eed);
    for round in 0..100_000_u32 {
        let mut bytes = if round % 3 == 0 {
            (0..random.next() % 64).map(|_| random.next() as u8).collect()
        } else {
            let mut bytes = samples[random.next() as usize % samples.len()].clone();
            for _ in 0..=random.next() % 4 {
                let at = random.next() as usize % bytes.len();
                bytes[at] = random.next() as u8;
            }
            bytes.truncate(1 + random.next() as usize % (2 * bytes.len()));
            bytes
        };
        bytes.push(0);
        let with = if random.next().is_multiple_of(2) { vec![file.as_fd()] } else { vec![] };
        rights::send(epoch.as_fd(), &bytes, &with).unwrap();
        match supervisor.try_recv() {
            Ok(_) | Err(Error::Malformed(_)) => {}
            Err(other) => panic!("round {round}: {other}"),
        }
        // Answers to unknown kinds pile up at the other end.
        while let Ok(Some(_)) = epoch.try_recv() {}
    }
    assert_eq!(open_descriptors_to("fuzzed-frames"), 1);
}

#[test]
fn every_message_has_a_tag_of_its_own_and_survives_the_trip() {
    let all = vec![
        hello(),
        Message::Welcome(Welcome { epoch: 3, control_path: "/run/x".into(), ..Welcome::default() }),
        Message::Refused(Refused { reason: "no".into() }),
        Message::Lend(Lend { request: 1, keys: vec![SocketKey::udp("[::1]:53")] }),
        Message::Lent(Lent::default()),
        Message::Received(Received { request: 1, batch: 2 }),
        Message::Ready(Ready { listeners: 4, ..Ready::default() }),
        Message::Failed(Failed { report: "a\nb".into() }),
        Message::Accept(Accept {}),
        Message::Accepting(Accepting {}),
        Message::StopAccepting(StopAccepting {}),
        Message::Stopped(Stopped {}),
        Message::Resume(Resume {}),
        Message::Resumed(Resumed {}),
        Message::Drain(Drain {
            deadline_ms: 1,
            drain_time_ms: 2,
            strategy: DrainStrategy::Immediate.into(),
            recall_ms: 3,
        }),
        Message::Drained(Drained { closed: 3 }),
        Message::Terminate(Terminate { grace_ms: 4 }),
        Message::ReopenLogs(ReopenLogs {}),
        Message::Health(Health { connections: 5, healthy: true, reason: String::new() }),
        Message::Ping(Ping { token: 6 }),
        Message::Pong(Pong { token: 7 }),
        Message::NotUnderstood(NotUnderstood { tag: 8 }),
        Message::Adopt(Adopt { epoch: 9, standing: Standing::Draining.into(), ..Adopt::default() }),
        Message::Command(Command { kind: CommandKind::Reload.into() }),
        Message::Status(Status { epochs: vec![EpochStatus::default()], ..Status::default() }),
        Message::Outcome(Outcome { ok: true, epoch: Some(0), ..Outcome::default() }),
    ];
    let mut tags = std::collections::BTreeSet::new();
    for message in all {
        let bytes = frame::seal(&message, 0).unwrap();
        let (tag, _) = prost::encoding::decode_key(&mut &bytes[frame::HEADER..]).unwrap();
        assert!(tags.insert(tag), "{tag} twice");
        assert_eq!(frame::open(&bytes, 0).unwrap(), Opened::Known(message));
    }
}

#[test]
fn a_listener_accepts_channels_by_name() {
    // The control socket: a stranger of another socket type is refused by the kernel.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stream.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let error = Channel::connect(&path).unwrap_err();
    assert!(error.to_string().contains("connect"), "{error}");
    assert!(Channel::connect(&directory.path().join("absent.sock")).is_err());
}

#[test]
fn who_stops_receiving_has_every_answer_that_was_sent() {
    let (one, other) = Channel::pair().unwrap();
    let taken = |batch| Message::Taken(Taken { batch, refused: Vec::new() });
    assert!(other.try_send(&taken(1), &[]).unwrap());
    one.stop_receiving().unwrap();
    assert!(matches!(other.try_send(&taken(2), &[]), Err(Error::Closed)));
    assert!(other.try_recv().unwrap().is_none(), "the other side has not gone");
    assert_eq!(one.recv(soon()).unwrap().message, taken(1));
    assert!(one.try_send(&Message::Withdrawn(Withdrawn {}), &[]).unwrap());
    assert_eq!(other.recv(soon()).unwrap().message, Message::Withdrawn(Withdrawn {}));
    drop(one);
    assert!(matches!(other.recv(soon()), Err(Error::Closed)));
}
