//! Every listening socket, once, and who borrowed it.
//!
//! Called by [`mod@crate::run`] when an epoch asks ([`Broker::lend`]), when a takeover ends ([`Broker::settled`], [`Broker::called_off`]) and when a process
//! is gone ([`Broker::forget`]). A socket is bound the first time somebody asks for its key, unless systemd (or whoever started the supervisor)
//! passed one that is bound to that address; it is closed only when a takeover is final and the epoch that serves has not asked for it. So no process whose
//! death is normal ever owns the last descriptor of a socket, and clients in its queue never notice.
//!
//! There is no fallback: a key whose socket cannot be had is an error that the epoch reports and that calls the takeover off.
//!
//! Identity is protocol and address. Two keys with port 0 are told apart by their labels. Options shape the first bind; later ones
//! cannot change a bound socket (except its backlog), and a difference is logged.

mod address;
mod bind;
mod passed;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::wire::inherit;
use crate::wire::loan::Granted;
use crate::wire::message::{KeyName, SocketKey};
use address::Address;
use bind::UnixFile;
pub(crate) use passed::{Passed, SEGMENT, from_environment};

/// What a socket is known by: protocol and address in their canonical spelling, the label where the port is 0.
type Identity = String;

/// The sockets.
#[derive(Debug, Default)]
pub(crate) struct Broker {
    held: BTreeMap<Identity, Held>,
    /// Sockets that were passed to the supervisor and that nobody has asked for yet.
    spare: Vec<Passed>,
    /// Changes that the service manager's descriptor store has not been told of.
    pub(crate) changes: Vec<Change>,
}

/// For the descriptor store.
#[derive(Debug)]
pub(crate) enum Change {
    /// A socket is new here.
    Keep { name: String, sockets: Vec<OwnedFd> },
    /// A socket is held no longer.
    Drop { name: String },
}

#[derive(Debug)]
struct Held {
    key: SocketKey,
    sockets: Vec<OwnedFd>,
    /// Epochs that asked for it.
    users: BTreeSet<u64>,
    /// Whether an epoch that asked for it has come to serve.
    settled: bool,
    /// The file that must go when the socket goes.
    file: Option<UnixFile>,
}

/// A held socket by numbers, for a supervisor that replaces itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    key: SocketKey,
    sockets: Vec<RawFd>,
    users: BTreeSet<u64>,
    settled: bool,
    has_file: bool,
}

impl Entry {
    /// Its descriptors.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        self.sockets.iter().copied()
    }
}

impl Broker {
    /// With sockets that were passed to the supervisor.
    pub(crate) fn new(spare: Vec<Passed>) -> Self {
        for passed in &spare {
            info!("a socket was passed: {passed}");
        }
        Self { held: BTreeMap::new(), spare, changes: Vec::new() }
    }

    /// Duplicates of the sockets of `key`, binding them if nobody did.
    ///
    /// # Errors
    /// Why there is none, for the operator.
    pub(crate) fn lend(&mut self, epoch: u64, key: &SocketKey) -> Granted {
        let address = Address::parse(key).map_err(|reason| format!("{}: {reason}", KeyName(key)))?;
        let identity = address.identity(key);
        if !self.held.contains_key(&identity) {
            let held = self.obtain(key, &address, &identity).map_err(|reason| format!("{}: {reason}", KeyName(key)))?;
            self.held.insert(identity.clone(), held);
        }
        let Some(held) = self.held.get_mut(&identity) else { return Err("the socket is gone".into()) };
        held.users.insert(epoch);
        held.apply(key);
        held.duplicates().map_err(|error| format!("{}: cannot duplicate the socket: {error}", KeyName(key)))
    }

    /// Takes in sockets that an epoch of an earlier supervisor hands back.
    pub(crate) fn take_back(&mut self, epoch: u64, key: SocketKey, sockets: Vec<OwnedFd>) -> Result<(), String> {
        let address = Address::parse(&key)?;
        for socket in &sockets {
            passed::check(socket.as_fd(), &address)?;
        }
        let identity = address.identity(&key);
        match self.held.get_mut(&identity) {
            Some(held) => drop(held.users.insert(epoch)),
            None => {
                let file = UnixFile::of(&address);
                self.keep(&identity, &sockets);
                let held = Held { key, sockets, users: BTreeSet::from([epoch]), settled: true, file };
                self.held.insert(identity, held);
            }
        }
        Ok(())
    }

    /// `epoch` serves for good: what it has not asked for is closed.
    pub(crate) fn settled(&mut self, epoch: u64) {
        for held in self.held.values_mut().filter(|held| held.users.contains(&epoch)) {
            held.settled = true;
        }
        self.close(|held| !held.users.contains(&epoch));
        let (stored, rest) = std::mem::take(&mut self.spare).into_iter().partition(|passed| passed.is_stored());
        // What the service manager activates stays with it and with us; what an earlier supervisor stored is of no more use.
        self.spare = rest;
        let stored: Vec<Passed> = stored;
        for passed in stored {
            info!("nobody asks for {passed} any more: closing it");
            self.changes.push(Change::Drop { name: passed.name });
        }
    }

    /// The takeover to `epoch` did not happen: what only it has asked for is closed, so that no client waits at a door nobody will open.
    pub(crate) fn called_off(&mut self, epoch: u64) {
        self.close(|held| !held.settled && held.users.iter().all(|user| *user == epoch));
        self.forget(epoch);
    }

    /// The process of `epoch` is gone.
    pub(crate) fn forget(&mut self, epoch: u64) {
        for held in self.held.values_mut() {
            held.users.remove(&epoch);
        }
    }

    /// How many sockets are held.
    pub(crate) fn count(&self) -> usize {
        self.held.values().map(|held| held.sockets.len()).sum()
    }

    /// Everything by numbers, for a supervisor that replaces itself: what is held, and what was passed and not yet asked for.
    pub(crate) fn numbers(&self) -> (Vec<Entry>, Vec<(String, RawFd)>) {
        let entry = |held: &Held| Entry {
            key: held.key.clone(),
            sockets: held.sockets.iter().map(AsRawFd::as_raw_fd).collect(),
            users: held.users.clone(),
            settled: held.settled,
            has_file: held.file.is_some(),
        };
        let spare = self.spare.iter().map(|passed| (passed.name.clone(), passed.socket.as_raw_fd()));
        (self.held.values().map(entry).collect(), spare.collect())
    }

    /// The opposite of [`Broker::numbers`]. What cannot be taken is logged; the rest is.
    pub(crate) fn from_numbers(entries: Vec<Entry>, spare: Vec<(String, RawFd)>) -> Self {
        let mut broker = Self::default();
        for (name, number) in spare {
            match inherit(number).map_err(|error| error.to_string()).and_then(|socket| Passed::new(name, socket)) {
                Ok(passed) => broker.spare.push(passed),
                Err(error) => warn!("passed descriptor {number}: {error}"),
            }
        }
        for Entry { key, sockets, users, settled, has_file } in entries {
            let sockets: Result<Vec<OwnedFd>, _> = sockets.into_iter().map(inherit).collect();
            match (Address::parse(&key), sockets) {
                (Ok(address), Ok(sockets)) => {
                    let file = UnixFile::of(&address).filter(|_| has_file);
                    let identity = address.identity(&key);
                    broker.held.insert(identity, Held { key, sockets, users, settled, file });
                }
                (Err(error), _) => warn!("{}: {error}", KeyName(&key)),
                (_, Err(error)) => warn!("{}: {error}", KeyName(&key)),
            }
        }
        broker
    }

    /// Removes the files of Unix sockets: the supervisor ends for good.
    pub(crate) fn remove_files(&mut self) {
        for held in self.held.values() {
            if let Some(file) = &held.file {
                file.remove();
            }
        }
    }

    fn obtain(&mut self, key: &SocketKey, address: &Address, identity: &str) -> Result<Held, String> {
        let name = store_name(identity);
        let fits = |passed: &Passed| passed.name == name || (!passed.is_stored() && passed.serves(address));
        let (mine, rest): (Vec<Passed>, Vec<Passed>) = std::mem::take(&mut self.spare).into_iter().partition(fits);
        self.spare = rest;
        // A file that the service manager made is the service manager's to remove.
        let file = mine.iter().all(Passed::is_stored);
        let (sockets, settled) = if mine.is_empty() {
            let sockets = bind::bind(key, address).map_err(|error| self.explain(error, key))?;
            info!("bound {}{}", KeyName(key), if sockets.len() > 1 { " several times" } else { "" });
            (sockets, false)
        } else {
            info!("{} is served by {} passed socket(s)", KeyName(key), mine.len());
            (mine.into_iter().map(|passed| passed.socket).collect(), true)
        };
        let file = UnixFile::of(address).filter(|_| file);
        self.keep(identity, &sockets);
        Ok(Held { key: key.clone(), sockets, users: BTreeSet::new(), settled, file })
    }

    fn keep(&mut self, identity: &str, sockets: &[OwnedFd]) {
        let copies: Result<Vec<OwnedFd>, _> = sockets.iter().map(OwnedFd::try_clone).collect();
        match copies {
            Ok(sockets) => self.changes.push(Change::Keep { name: store_name(identity), sockets }),
            Err(error) => warn!("{identity} will not be kept by the service manager: {error}"),
        }
    }

    fn close(&mut self, unwanted: impl Fn(&Held) -> bool) {
        let (closed, kept) = std::mem::take(&mut self.held).into_iter().partition(|(_, held)| unwanted(held));
        let closed: BTreeMap<Identity, Held> = closed;
        self.held = kept;
        for (identity, held) in closed {
            info!("nobody asks for {} any more: closing it", KeyName(&held.key));
            if let Some(file) = held.file {
                file.remove();
            }
            self.changes.push(Change::Drop { name: store_name(&identity) });
        }
    }

    /// Adds to an error what the operator will want to know.
    fn explain(&self, error: std::io::Error, key: &SocketKey) -> String {
        let port = key.address.rsplit(':').next().unwrap_or_default();
        match error.raw_os_error() {
            Some(libc::EACCES) if key.protocol() != crate::wire::message::Protocol::Unix => {
                format!(
                    "cannot bind: {error}: ports below 1024 need CAP_NET_BIND_SERVICE or a socket passed by systemd"
                )
            }
            Some(libc::EADDRINUSE) => {
                let ours = |held: &&Held| {
                    held.key.protocol == key.protocol && held.key.address.rsplit(':').next() == Some(port)
                };
                match self.held.values().find(ours) {
                    Some(held) => {
                        format!("cannot bind: {error}: it overlaps with {}, which is held", KeyName(&held.key))
                    }
                    None => format!("cannot bind: {error}: another process holds it"),
                }
            }
            _ => format!("cannot bind: {error}"),
        }
    }
}

impl Held {
    fn apply(&mut self, key: &SocketKey) {
        if self.key == *key {
            return;
        }
        if self.key.backlog != key.backlog && key.protocol() != crate::wire::message::Protocol::Udp {
            for socket in &self.sockets {
                if let Err(error) = bind::listen(socket.as_fd(), key.backlog) {
                    warn!("{}: cannot change the backlog: {error}", KeyName(key));
                }
            }
            self.key.backlog = key.backlog;
        }
        let ours = SocketKey { label: key.label.clone(), address: key.address.clone(), ..self.key.clone() };
        if ours != *key {
            warn!("{}: other options are asked for than it was bound with; it stays as it is", KeyName(key));
        }
    }

    fn duplicates(&self) -> std::io::Result<Vec<OwnedFd>> {
        self.sockets
            .iter()
            .map(|socket| socket.as_fd())
            .map(|socket: BorrowedFd<'_>| socket.try_clone_to_owned())
            .collect()
    }
}

/// The name under which the service manager keeps a socket: printable, without a colon, the same in every supervisor (FNV-1a).
fn store_name(identity: &str) -> String {
    let hash = identity
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{}{hash:016x}", passed::STORED)
}
