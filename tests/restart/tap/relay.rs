//! Passes packets with their descriptors on, both ways, and does what is ordered when the ordered one passes.
#![allow(unsafe_code, reason = "descriptors come in by their numbers")]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use heirloom_supervisor::wire::message::{Connection, Moved};
use heirloom_supervisor::wire::{Channel, MAX_FRAME, Message, Opened, frame};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, recvmsg, sendmsg, shutdown};

use super::deed;
use super::plan::{self, ANY, Deed, Order, Way};

/// How long something is held at most.
const LONGEST_HOLD: Duration = Duration::from_secs(60);
/// How often it is looked whether the heir, or the giver, still listens.
const LOOK: Duration = Duration::from_millis(1);

/// Relays until both sides have ended.
pub(super) fn run(dir: PathBuf, [supervisor, near]: [RawFd; 2], epoch: u64) {
    // SAFETY: the tap that started this process opened the two for it and has told their numbers; nothing else here has them.
    let [supervisor, near] = [supervisor, near].map(|number| Arc::new(unsafe { OwnedFd::from_raw_fd(number) }));
    let relay = Arc::new(Relay { dir, epoch, seen: Mutex::new((0, 0)), ways: Mutex::new(Vec::new()) });
    let up = relay.clone().pass(near.clone(), supervisor.clone(), Way::Up);
    let down = relay.clone().pass(supervisor, near, Way::Down);
    let _ = (up.join(), down.join());
    loop {
        let way = relay.ways.lock().expect("nobody panics with it").pop();
        match way {
            Some(way) => drop(way.join()),
            None => return,
        }
    }
}

struct Relay {
    dir: PathBuf,
    epoch: u64,

    /// The order that is being counted for, and how many of its messages have passed.
    seen: Mutex<(u64, u32)>,
    /// Between epochs.
    ways: Mutex<Vec<JoinHandle<()>>>,
}

struct Packet {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Relay {
    fn pass(self: Arc<Self>, from: Arc<OwnedFd>, to: Arc<OwnedFd>, way: Way) -> JoinHandle<()> {
        std::thread::spawn(move || {
            while let Some(packet) = receive(&from, matches!(way, Way::Out | Way::In).then_some(&*to)) {
                let packets = self.meddle(packet, way);
                if packets.into_iter().any(|packet| !send(&to, &packet)) {
                    break;
                }
            }
            // The end is passed on as well: nobody sends any more, nobody listens any more.
            let _ = shutdown(to.as_raw_fd(), Shutdown::Write);
            let _ = shutdown(from.as_raw_fd(), Shutdown::Read);
        })
    }

    /// What goes on in place of a packet.
    fn meddle(self: &Arc<Self>, mut packet: Packet, way: Way) -> Vec<Packet> {
        let opened = frame::open(&packet.bytes, packet.descriptors.len());
        let name = match &opened {
            Ok(Opened::Known(message)) => message.name(),
            _ => "?",
        };
        if let (Way::Down, Ok(Opened::Known(Message::Bequeath(_)))) = (way, &opened) {
            self.splice(&mut packet);
        }
        if let (Way::Out, Ok(Opened::Known(Message::Moved(moved)))) = (way, &opened) {
            self.remember(moved);
        }
        let Some((number, order)) = self.due(name, way) else { return vec![packet] };
        let held = deed::commit(&self.dir, &order);
        let held: Vec<String> = held.iter().map(u16::to_string).collect();
        plan::write(&self.dir, &format!("{number} {}", held.join(" ")), "fired");
        if order.deed == Deed::Hold {
            self.hold(number);
        }
        let Packet { bytes, descriptors } = packet;
        let (bytes, with, times) = deed::damage(order.deed, bytes);
        let copy = |_| {
            let own = descriptors.iter().filter(|_| with).filter_map(|descriptor| descriptor.try_clone().ok());
            Packet { bytes: bytes.clone(), descriptors: own.collect() }
        };
        (0..times).map(copy).collect()
    }

    /// Writes down whose connections are on their way.
    fn remember(&self, moved: &Moved) {
        let port = |connection: &Connection| Some(connection.peer.rsplit_once(':')?.1.to_owned());
        let ports: Vec<String> = moved.connections.iter().filter_map(port).collect();
        plan::write(&self.dir, &ports.join(" "), &format!("{}.{}.moved", self.epoch, moved.batch));
    }

    /// The order that stands, if this is its message.
    fn due(&self, name: &str, way: Way) -> Option<(u64, Order)> {
        let (number, order) = plan::current(&self.dir)?;
        if ![self.epoch, ANY].contains(&order.epoch) || order.way != way || order.message != name {
            return None;
        }
        let mut seen = self.seen.lock().expect("nobody panics with it");
        if seen.0 != number {
            *seen = (number, 0);
        }
        seen.1 += 1;
        (order.nth == 0 || seen.1 == order.nth).then_some((number, order))
    }

    fn hold(&self, number: u64) {
        let begun = std::time::Instant::now();
        let still = || plan::current(&self.dir).is_some_and(|(current, _)| current == number);
        while begun.elapsed() < LONGEST_HOLD && still() && !self.dir.join("go").exists() {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Puts itself between this epoch and its heir, if the order that stands is about what they say.
    fn splice(self: &Arc<Self>, packet: &mut Packet) {
        let wanted = plan::current(&self.dir)
            .is_some_and(|(_, order)| order.epoch == self.epoch && matches!(order.way, Way::Out | Way::In));
        if !wanted {
            return;
        }
        let (Some(descriptor), Ok((ours, theirs))) = (packet.descriptors.pop(), Channel::pair()) else { return };
        packet.descriptors.push(theirs.into());
        let (heir, own) = (Arc::new(descriptor), Arc::new(OwnedFd::from(ours)));
        let out = self.clone().pass(own.clone(), heir.clone(), Way::Out);
        let back = self.clone().pass(heir, own, Way::In);
        self.ways.lock().expect("nobody panics with it").extend([out, back]);
    }
}

/// The next packet; `None` at the end. When `to` does not listen any more, nor does this, so that the one who sends knows.
fn receive(from: &OwnedFd, to: Option<&OwnedFd>) -> Option<Packet> {
    let mut bytes = vec![0; MAX_FRAME + 1];
    let mut control = nix::cmsg_space!([RawFd; 253]);
    let mut deaf = false;
    loop {
        let mut interest = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        let timeout =
            if to.is_some() { PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX) } else { PollTimeout::NONE };
        let _ = poll(&mut interest, timeout);
        if !deaf && to.is_some_and(is_deaf) {
            deaf = true;
            let _ = shutdown(from.as_raw_fd(), Shutdown::Read);
        }
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let (length, descriptors) = match recvmsg::<()>(from.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Ok(arrival) => {
                let mut descriptors = Vec::new();
                for message in arrival.cmsgs().into_iter().flatten() {
                    if let ControlMessageOwned::ScmRights(numbers) = message {
                        // SAFETY: the kernel has just opened them for this process, and nobody else here knows them.
                        descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
                    }
                }
                (arrival.bytes, descriptors)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            // Said once, before what is still to be read.
            Err(Errno::ECONNRESET) => continue,
            Err(_) => return None,
        };
        if length == 0 {
            return None;
        }
        bytes.truncate(length);
        return Some(Packet { bytes, descriptors });
    }
}

/// Whether the other end of a socket receives nothing more. A send from nowhere tells, and delivers nothing: the kernel looks at the socket first, and
/// at the bytes then.
fn is_deaf(socket: &OwnedFd) -> bool {
    let nowhere = std::ptr::without_provenance::<libc::c_void>(8);
    // SAFETY: the kernel checks the address and answers EFAULT; this process reads nothing through it.
    let sent = unsafe { libc::send(socket.as_raw_fd(), nowhere, 1, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    sent < 0 && Errno::last() == Errno::EPIPE
}

/// False when nobody listens any more.
fn send(to: &OwnedFd, packet: &Packet) -> bool {
    let numbers: Vec<RawFd> = packet.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &[] } else { &rights[..] };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        match sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(&packet.bytes)], control, flags, None) {
            Ok(_) => return true,
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ETOOMANYREFS | Errno::ENOBUFS) => {
                let mut interest = [PollFd::new(to.as_fd(), PollFlags::POLLOUT)];
                let _ = poll(&mut interest, PollTimeout::from(5_u8));
            }
            Err(_) => return false,
        }
    }
}
