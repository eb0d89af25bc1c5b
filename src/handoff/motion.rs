//! Connections between two epochs, on their main threads: [`give`] in the one that drains, [`take`] in the one that serves.
//!
//! ```text
//!   worker ─ offer ─▶ give ── Moved + sockets ──▶ take ─ stage ─▶ worker: put together, untouched
//!   worker ◀─ taken / refused ── Taken ◀── refused: reasons ◀──── worker
//!                                               └── sent: verdict ─▶ worker: begins
//! ```
//!
//! At every moment at most one side reads and writes a connection. The taker begins with a batch only when its `Taken` has been accepted by the socket;
//! the giver goes on with one only when no `Taken` can come any more: it shuts its receiving side, reads what is there, and only then takes back the rest.
//! A taker that cannot send its answer begins only if the giver is gone. Every wait has a deadline, everything in flight has a bound; whatever goes wrong, a connection
//! is served where it was.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use heirloom_supervisor::wire::message::{self, Moved};

use crate::drain::motion::{Frozen, Kind, Reason};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod give;
mod take;

pub use give::give;
pub use take::{Staging, take};

/// Most connections in one batch. Each costs the two epochs a few wake-ups of four threads, so that small ones are slow; what is in a batch stands still.
pub const BATCH: usize = 192;
/// Longest record that goes into a message itself, in bytes: a batch of them and their names is well below a frame.
const SHORT: usize = 256;
/// Longest record at all, in bytes: two full blocks and some.
const LONGEST: u64 = 1024 * 1024;
/// Most sockets of one connection.
const SOCKETS: u32 = 2;

/// A connection as a message, and the file of its record if that is long.
fn pack(frozen: &Frozen) -> io::Result<(message::Connection, Option<File>)> {
    let address = |address: Option<SocketAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    let (record, file) = if frozen.record.len() <= SHORT {
        (frozen.record.clone(), None)
    } else {
        let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
        let mut file = File::from(nix::sys::memfd::memfd_create(c"heirloom-connection", flags)?);
        file.write_all(&frozen.record)?;
        (Vec::new(), Some(file))
    };
    let message = message::Connection {
        kind: frozen.kind.name().to_owned(),
        listener: frozen.listener.clone(),
        peer: address(frozen.peer),
        local: address(frozen.local),
        age_ms: u64::try_from(frozen.age.as_millis()).unwrap_or(u64::MAX),
        sockets: u32::try_from(frozen.sockets.len()).unwrap_or(u32::MAX),
        record,
        record_bytes: if file.is_some() { frozen.record.len() as u64 } else { 0 },
    };
    Ok((message, file))
}

/// What a message holds, connection by connection; `None` for a message whose descriptors do not fit it, which nobody can take apart. When some were
/// `lost` for want of room in this process, those that are there belong to the connections from the first on: the others cannot be had.
fn unpack(moved: Moved, descriptors: Vec<OwnedFd>, lost: bool) -> Option<Vec<Result<Frozen, Reason>>> {
    let mut descriptors = descriptors.into_iter();
    let mut connections = Vec::with_capacity(moved.connections.len().min(BATCH));
    for connection in moved.connections {
        let sockets: Vec<OwnedFd> = descriptors.by_ref().take(connection.sockets.min(SOCKETS) as usize).collect();
        let file = if connection.record_bytes > 0 { descriptors.next() } else { None };
        let complete = sockets.len() == connection.sockets as usize && file.is_some() == (connection.record_bytes > 0);
        match complete {
            true => connections.push(thaw(connection, sockets, file)),
            false if lost => connections.push(Err(Reason::Socket)),
            false => return None,
        }
    }
    descriptors.next().is_none().then_some(connections)
}

fn thaw(connection: message::Connection, sockets: Vec<OwnedFd>, file: Option<OwnedFd>) -> Result<Frozen, Reason> {
    let address = |text: &str| match text {
        "" => Ok(None),
        text => text.parse::<SocketAddr>().map(Some).map_err(|_| Reason::Record),
    };
    let record = match file {
        Some(file) => read(&File::from(file), connection.record_bytes).map_err(|_| Reason::Record)?,
        None => connection.record,
    };
    Ok(Frozen {
        kind: Kind::from_name(&connection.kind).ok_or(Reason::OtherFilter)?,
        listener: connection.listener,
        peer: address(&connection.peer)?,
        local: address(&connection.local)?,
        age: Duration::from_millis(connection.age_ms),
        sockets,
        record,
    })
}

fn read(file: &File, length: u64) -> io::Result<Vec<u8>> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || length > LONGEST || metadata.len() < length {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut record = vec![0; length as usize];
    file.read_exact_at(&mut record, 0)?;
    Ok(record)
}

#[cfg(test)]
mod tests;
