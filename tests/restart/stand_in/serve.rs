//! A stand-in that does its work: the smallest epoch there can be.

use std::net::TcpListener as StdListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use heirloom_supervisor::wire::message::{Drained, Health, Message, Pong, Resumed, Stopped};
use heirloom_supervisor::wire::{Channel, Error};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::LocalSet;

use crate::support::clients::block_on;
use crate::support::message::Reader;

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Accepting,
    Stopped,
    Draining,
}

/// Serves until the supervisor lets it go; ends the process.
pub(super) fn serve(channel: Channel, sockets: Vec<OwnedFd>) -> ! {
    let (phase, phases) = watch::channel(Phase::Accepting);
    let connections = Arc::<AtomicU64>::default();
    let held = connections.clone();
    std::thread::spawn(move || {
        let local = LocalSet::new();
        for socket in sockets {
            local.spawn_local(accept(StdListener::from(socket), phases.clone(), held.clone()));
        }
        block_on(local);
    });
    converse(&channel, &phase, &connections)
}

fn converse(channel: &Channel, phase: &watch::Sender<Phase>, connections: &AtomicU64) -> ! {
    let mut until: Option<Instant> = None;
    let say = |message: Message| {
        if channel.send(&message, &[], Instant::now() + Duration::from_secs(5)).is_err() {
            std::process::exit(3);
        }
    };
    loop {
        let held = connections.load(Ordering::Acquire);
        if until.is_some_and(|until| held == 0 || Instant::now() >= until) {
            say(Message::Drained(Drained { closed: held }));
            std::process::exit(0);
        }
        match channel.recv(Instant::now() + Duration::from_millis(50)) {
            Ok(packet) => match packet.message {
                Message::Ping(ping) => say(Message::Pong(Pong { token: ping.token })),
                Message::StopAccepting(_) => {
                    phase.send_replace(Phase::Stopped);
                    say(Message::Stopped(Stopped {}));
                }
                Message::Resume(_) => {
                    phase.send_replace(Phase::Accepting);
                    say(Message::Resumed(Resumed {}));
                }
                Message::Drain(drain) => {
                    phase.send_replace(Phase::Draining);
                    until = Some(Instant::now() + Duration::from_millis(drain.deadline_ms));
                }
                Message::Terminate(terminate) => {
                    phase.send_replace(Phase::Draining);
                    until = Some(Instant::now() + Duration::from_millis(terminate.grace_ms));
                }
                _ => {}
            },
            Err(Error::TimedOut) => {
                say(Message::Health(Health { connections: held, healthy: true, reason: String::new() }));
            }
            Err(_) => std::process::exit(3),
        }
    }
}

async fn accept(listener: StdListener, mut phases: watch::Receiver<Phase>, held: Arc<AtomicU64>) {
    listener.set_nonblocking(true).expect("a socket can be made non-blocking");
    let listener = TcpListener::from_std(listener).expect("the runtime takes the socket");
    loop {
        if phases.wait_for(|phase| *phase == Phase::Accepting).await.is_err() {
            return;
        }
        let mut left = phases.clone();
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted.ok(),
            _ = left.wait_for(|phase| *phase != Phase::Accepting) => None,
        };
        if let Some((stream, _)) = accepted {
            held.fetch_add(1, Ordering::AcqRel);
            let (held, phases) = (held.clone(), phases.clone());
            tokio::task::spawn_local(async move {
                answer(stream, &phases).await;
                held.fetch_sub(1, Ordering::AcqRel);
            });
        }
    }
}

async fn answer(mut stream: TcpStream, phases: &watch::Receiver<Phase>) {
    let mut reader = Reader::default();
    let _ = stream.set_nodelay(true);
    while let Ok(request) = reader.read(&mut stream, false).await {
        let close = !request.keep_alive || *phases.borrow() == Phase::Draining;
        let close_header = if close { "connection: close\r\n" } else { "" };
        let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n{close_header}\r\nstand-in");
        if stream.write_all(reply.as_bytes()).await.is_err() || close {
            return;
        }
    }
}
