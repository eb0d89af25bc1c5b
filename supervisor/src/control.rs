//! The operator's door: a socket in the run directory.
//!
//! The directory is made with mode 0700 and the socket with 0600, and every connection must also come from root or from the supervisor's own user (`SO_PEERCRED`);
//! others are refused and logged. One supervisor per directory: a lock says so, and dies with its holder. A connection carries the
//! frames of [`crate::wire`]: one [`Command`](crate::wire::message::Command) and its answer, or an orphaned epoch's `Adopt`.
//!
//! [`mod@crate::run`] polls the listener and the connections. Connections are bounded in number and in the time until they ask.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, UnixCredentials, bind, getsockopt, listen, socket, sockopt,
};
use tracing::{info, warn};

use crate::lifecycle::Ticket;
use crate::moment::Moment;
use crate::process::User;
use crate::wire::message::{CommandKind, Message, Outcome, Refused};
use crate::wire::{Channel, Error, Packet};

/// Most connections at once.
const MOST: usize = 64;
/// How long a connection may be silent before it asks.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a client may take to read its answer: its socket's buffer is empty, so it fits unless something is very wrong.
const PATIENCE: Duration = Duration::from_millis(100);

/// The door.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
    lock: Flock<File>,
    user: Option<User>,
    connections: BTreeMap<Ticket, Connection>,
    next: Ticket,
}

#[derive(Debug)]
struct Connection {
    channel: Channel,
    from: UnixCredentials,
    since: Moment,
    asked: bool,
}

/// What came through the door.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A command, to be answered by its ticket.
    Command(Ticket, CommandKind),
    /// An orphaned epoch: its connection becomes its channel.
    Orphan { channel: Channel, packet: Packet, pid: u32 },
}

impl Control {
    /// Takes the run directory, and opens the door.
    ///
    /// # Errors
    /// Another supervisor is there, or the directory is not ours alone; in words.
    pub(crate) fn open(directory: &Path, user: Option<User>) -> Result<Self, String> {
        let within = |error: &dyn std::fmt::Display| format!("run directory {}: {error}", directory.display());
        prepare(directory, user).map_err(|error| within(&error))?;
        let path = directory.join("control.sock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(directory.join("lock"));
        let lock = match Flock::lock(lock.map_err(|error| within(&error))?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Err(within(&format_args!("{}", occupied(&path)))),
            Err((_, error)) => return Err(within(&error)),
        };
        // With the lock in hand, a file that is there was left by the dead.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(within(&error)),
            _ => {}
        }
        let listener = listen_at(&path, user).map_err(|error| within(&error))?.into();
        Ok(Self { listener, path, lock, user, connections: BTreeMap::new(), next: 1 })
    }

    /// From the parts that a supervisor leaves to itself.
    pub(crate) fn from_parts(
        listener: OwnedFd,
        lock: OwnedFd,
        path: PathBuf,
        user: Option<User>,
    ) -> Result<Self, String> {
        let lock =
            Flock::lock(File::from(lock), FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.to_string())?;
        Ok(Self { listener: listener.into(), path, lock, user, connections: BTreeMap::new(), next: 1 })
    }

    /// The parts: listener and lock.
    pub(crate) fn parts(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.listener.as_fd(), self.lock.as_fd())
    }

    /// Where the door is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What to poll for reading: the door itself, then the connections.
    pub(crate) fn interests(&self) -> (BorrowedFd<'_>, impl Iterator<Item = (Ticket, BorrowedFd<'_>)>) {
        let connections = self.connections.iter().map(|(ticket, connection)| (*ticket, connection.channel.as_fd()));
        (self.listener.as_fd(), connections)
    }

    /// When [`Control::expire`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.connections.values().filter(|connection| !connection.asked).map(|c| c.since + SILENCE).min()
    }

    /// Closes connections that never asked.
    pub(crate) fn expire(&mut self, now: Moment) {
        self.connections.retain(|_, connection| connection.asked || now - connection.since < SILENCE);
    }

    /// Lets in who waits at the door.
    pub(crate) fn accept(&mut self, now: Moment) {
        // More than a few at a time would keep the epochs waiting.
        for _ in 0..8 {
            let Some(channel) = accept(&self.listener) else { return };
            let Ok(from) = getsockopt(&channel, sockopt::PeerCredentials) else { continue };
            let own = nix::unistd::geteuid().as_raw();
            let known = [0, own].contains(&from.uid()) || self.user.is_some_and(|user| user.uid == from.uid());
            let reason = if !known {
                Some(format!("user {} may not control this supervisor", from.uid()))
            } else if self.connections.len() >= MOST {
                Some("too many connections".into())
            } else {
                None
            };
            if let Some(reason) = reason {
                warn!("refused process {} at the control socket: {reason}", from.pid());
                let _ = channel.try_send(&Message::Refused(Refused { reason }), &[]);
                continue;
            }
            self.connections.insert(self.next, Connection { channel, from, since: now, asked: false });
            self.next += 1;
        }
    }

    /// Hears what a connection has to say.
    pub(crate) fn hear(&mut self, ticket: Ticket) -> Option<Asked> {
        let connection = self.connections.get_mut(&ticket)?;
        let packet = match connection.channel.try_recv() {
            Ok(None) => return None,
            Ok(Some(packet)) => packet,
            Err(error) => {
                if !matches!(error, Error::Closed) {
                    warn!("process {} at the control socket: {error}", connection.from.pid());
                    self.refuse(ticket, error.to_string());
                }
                self.connections.remove(&ticket);
                return None;
            }
        };
        let trusted = self.user.is_none_or(|user| user.uid != connection.from.uid())
            || [0, nix::unistd::geteuid().as_raw()].contains(&connection.from.uid());
        match packet.message {
            Message::Command(command) if trusted && !connection.asked => {
                connection.asked = true;
                let (kind, from) = (command.kind(), connection.from);
                // A status changes nothing, and some ask for it every second.
                if kind != CommandKind::Status {
                    info!("{kind:?} asked for by process {} (user {})", from.pid(), from.uid());
                }
                Some(Asked::Command(ticket, command.kind()))
            }
            Message::Adopt(_) if !connection.asked => {
                let connection = self.connections.remove(&ticket)?;
                let pid = connection.from.pid().unsigned_abs();
                Some(Asked::Orphan { channel: connection.channel, packet, pid })
            }
            other => {
                self.refuse(ticket, format!("{} has no place here", other.name()));
                None
            }
        }
    }

    /// Answers and closes.
    pub(crate) fn answer(&mut self, ticket: Ticket, message: &Message) {
        let Some(connection) = self.connections.remove(&ticket) else { return };
        if let Err(error) = connection.channel.send(message, &[], Instant::now() + PATIENCE) {
            warn!("process {} did not take its answer: {error}", connection.from.pid());
        }
    }

    /// Answers several with the outcome they waited for.
    pub(crate) fn answer_all(&mut self, tickets: &[Ticket], outcome: &Outcome) {
        let mut outcome = outcome.clone();
        outcome.report = crate::wire::clip(outcome.report);
        for ticket in tickets {
            self.answer(*ticket, &Message::Outcome(outcome.clone()));
        }
    }

    /// Says no and closes.
    pub(crate) fn refuse(&mut self, ticket: Ticket, reason: String) {
        self.answer(ticket, &Message::Refused(Refused { reason }));
    }

    /// The supervisor ends for good: the door's file goes.
    pub(crate) fn close(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes the run directory, or checks that it is safe.
fn prepare(directory: &Path, user: Option<User>) -> io::Result<()> {
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) => {
            if let Some(user) = user {
                // Epochs of that user must reach the copies of their configuration, and the door should the supervisor die.
                std::os::unix::fs::chown(directory, Some(user.uid), Some(user.gid))?;
            }
        }
        Err(_) => {}
    }
    let named = fs::symlink_metadata(directory)?;
    // systemd makes a link of it where the directory outlives a service with a user of its own. What root has linked is what root means.
    let is_roots_link = named.is_symlink() && named.uid() == 0;
    let metadata = if is_roots_link { fs::metadata(directory)? } else { named };
    let owners = [Some(nix::unistd::geteuid().as_raw()), user.map(|user| user.uid)];
    let refused = |text: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    if !metadata.is_dir() {
        return refused("it is not a directory".into());
    }
    if !owners.contains(&Some(metadata.uid())) {
        return refused(format!("it belongs to user {}", metadata.uid()));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        let mode = metadata.permissions().mode() & 0o777;
        return refused(format!("it is open to others (mode {mode:04o}); it must have mode 0700"));
    }
    Ok(())
}

fn listen_at(path: &Path, user: Option<User>) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    // Nobody can connect before it listens.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    if let Some(user) = user {
        std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid))?;
    }
    listen(&socket, Backlog::new(128)?)?;
    Ok(socket)
}

/// Who holds the lock, as well as can be told.
fn occupied(path: &Path) -> String {
    let peer = Channel::connect(path).ok().and_then(|channel| getsockopt(&channel, sockopt::PeerCredentials).ok());
    match peer {
        Some(peer) => format!("a supervisor (process {}) runs here already", peer.pid()),
        None => "a supervisor runs here already".into(),
    }
}

fn accept(listener: &UnixListener) -> Option<Channel> {
    // The type says stream, but accepting is the same for every connected kind, and the channel checks which it is.
    let (socket, _) = listener.accept().ok()?;
    Channel::from_socket(socket.into()).ok()
}
