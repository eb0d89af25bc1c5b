//! The floor: a relay that parses nothing. What it spends, every user-space proxy with two sockets must spend.
//!
//! One thread, level-triggered epoll, one upstream connection for each client, opened when the client is accepted. Bytes go
//! straight from one buffer; what the other side does not take at once waits in a vector of that side.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use crate::Result;
use crate::sys::{Poll, connect, is_later, listen};

/// The index that means the listening socket.
const LISTENER: usize = usize::MAX;
/// Read at once.
const BUFFER: usize = 16 * 1_024;

/// One direction's writing end.
struct Side {
    stream: TcpStream,
    /// Not yet taken; reading the other side stops while it is not empty only because the load is a closed loop.
    pending: Vec<u8>,
    /// The other side has ended: shut down for writing once nothing is pending.
    ending: bool,
    /// Nothing more will be read here.
    ended: bool,
}

/// Client and upstream; indices `2n` and `2n + 1` of the poll.
type Pair = [Side; 2];

/// Relays until it is killed.
pub(crate) fn serve(port: u16, origin: SocketAddr) -> Result<()> {
    let listener = listen(port)?;
    let mut floor = Floor { poll: Poll::new()?, pairs: Vec::new(), free: Vec::new(), accepted: 0, origin };
    floor.poll.add(&listener, LISTENER)?;
    let mut ready = Vec::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        floor.poll.wait(&mut ready, None)?;
        for &index in &ready {
            if index == LISTENER {
                floor.accept(&listener);
            } else if !floor.relay(index, &mut buffer).unwrap_or(false) && floor.pairs[index / 2].take().is_some() {
                floor.free.push(index / 2);
            }
        }
    }
}

struct Floor {
    poll: Poll,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
    accepted: usize,
    origin: SocketAddr,
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener) {
        while let Ok((client, _)) = listener.accept() {
            self.accepted = self.accepted.wrapping_add(1);
            let slot = self.free.pop().unwrap_or_else(|| {
                self.pairs.push(None);
                self.pairs.len() - 1
            });
            match self.open(client, slot) {
                Ok(pair) => self.pairs[slot] = Some(pair),
                Err(_) => self.free.push(slot),
            }
        }
    }

    fn open(&self, client: TcpStream, slot: usize) -> io::Result<Pair> {
        client.set_nonblocking(true)?;
        client.set_nodelay(true)?;
        let upstream = connect(self.origin, self.accepted, false)?;
        self.poll.add(&client, 2 * slot)?;
        self.poll.add(&upstream, 2 * slot + 1)?;
        Ok([client, upstream].map(|stream| Side { stream, pending: Vec::new(), ending: false, ended: false }))
    }

    /// Moves what can be moved at `index`; false when both directions have ended.
    fn relay(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<bool> {
        let Some(pair) = self.pairs[index / 2].as_mut() else { return Ok(true) };
        let [client, upstream] = pair;
        let (near, far) = if index & 1 == 0 { (client, upstream) } else { (upstream, client) };
        if !near.pending.is_empty() {
            near.flush()?;
            if near.pending.is_empty() {
                self.poll.change(&near.stream, index, false)?;
            }
        }
        if !near.ended {
            match near.stream.read(buffer) {
                Ok(0) => {
                    near.ended = true;
                    far.ending = true;
                    far.flush()?;
                }
                Ok(count) => {
                    if far.send(buffer.get(..count).unwrap_or_default())? {
                        self.poll.change(&far.stream, index ^ 1, true)?;
                    }
                }
                Err(error) if is_later(&error) => {}
                Err(error) => return Err(error),
            }
        }
        // A client that has closed is gone for good in this load, so its upstream goes with it.
        Ok(!near.ended || !far.pending.is_empty())
    }
}

impl Side {
    /// Sends or keeps; true if this made the first pending byte.
    fn send(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if !self.pending.is_empty() {
            self.pending.extend_from_slice(bytes);
            return Ok(false);
        }
        let sent = match self.stream.write(bytes) {
            Ok(sent) => sent,
            Err(error) if is_later(&error) => 0,
            Err(error) => return Err(error),
        };
        self.pending.extend_from_slice(bytes.get(sent..).unwrap_or_default());
        Ok(!self.pending.is_empty())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            match self.stream.write(&self.pending) {
                Ok(sent) => drop(self.pending.drain(..sent)),
                Err(error) if is_later(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if self.ending && self.pending.is_empty() {
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }
}
