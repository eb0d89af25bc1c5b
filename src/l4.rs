//! Network filters: what happens to an accepted connection before anybody knows its protocol.
//!
//! An onion like the HTTP filters: a filter takes the connection, may close it by dropping it, and else hands it to the next. The last
//! one is terminal and keeps it until it ends: the HTTP connection manager or [`filters::tcp_proxy`]. `listener` builds a [`Chain`] per filter
//! chain and worker and runs every accepted connection through it; on drain the chain lives on until its last connection has ended.
//! A program that links this library brings filters of its own along as [`extension::Extension`]s.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use crate::drain::Held;
use crate::drain::motion::{Kind, Reason};
use crate::net::{PeerAddress, Stream};
use crate::tls::Secured;

pub mod extension;
pub mod filters;
pub mod tunnel;

/// An accepted connection.
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// What is known about it.
    pub facts: Facts,
    /// Its part in the worker's drain.
    pub held: Held,
    /// What the listener wants to live for exactly as long as the connection: a filter that keeps the connection keeps this too.
    pub guard: Box<dyn Guard>,
}

/// That a connection of a listener exists; ends when it is dropped.
pub trait Guard {
    /// The connection goes on in another epoch: its end here is none.
    fn moved(&mut self);

    /// A connection from another epoch goes on here: its end, when it comes, is one.
    fn arrived(&mut self);

    /// No filter chain takes it.
    fn unmatched(&mut self) {}

    /// The client has asked for this name by TLS.
    fn named(&mut self, _server_name: &str) {}
}

/// What is known about a connection before its first byte.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Where it came from.
    pub peer: PeerAddress,
    /// Where it came to.
    pub local: PeerAddress,
    /// When it was accepted.
    pub accepted: Instant,
    /// The name of its listener.
    pub listener: Rc<str>,
    /// What its TLS handshake has made known; nothing where it speaks none.
    pub tls: Option<Rc<Secured>>,
    /// Its number in this lineage of epochs (`%CONNECTION_ID%`).
    pub id: u64,
}

/// A connection that comes from another epoch, to be gone on with.
pub struct Arrival {
    /// The client's side, as if it had been accepted here.
    pub connection: Connection,
    /// What it is.
    pub kind: Kind,
    /// Its further sockets.
    pub sockets: Vec<OwnedFd>,
    /// The record of the filter that it left.
    pub record: Vec<u8>,
}

/// The work of a filter on one connection.
pub type Work = Pin<Box<dyn Future<Output = ()>>>;

/// A network filter of one worker.
pub trait Filter {
    /// Takes a connection; `next` is the rest of the chain. A terminal filter does not call it.
    fn call(self: Rc<Self>, connection: Connection, next: Next) -> Work;

    /// Goes on with a connection that a filter of this kind had in another epoch. Nothing is read or written before the work is polled,
    /// and work that is dropped instead leaves the connection to the other epoch.
    ///
    /// # Errors
    /// Why it cannot be. The sockets are closed, which the other epoch, with its own duplicates, does not notice.
    fn thaw(self: Rc<Self>, arrival: Arrival) -> Result<Work, Reason> {
        let _ = arrival;
        Err(Reason::OtherFilter)
    }
}

/// The filters of one filter chain on one worker.
#[derive(Clone)]
pub struct Chain {
    filters: Rc<[Rc<dyn Filter>]>,
}

impl Chain {
    /// In order, the last one terminal.
    pub fn new(filters: Vec<Rc<dyn Filter>>) -> Self {
        Self { filters: filters.into() }
    }

    /// The whole life of a connection.
    pub fn run(&self, connection: Connection) -> Work {
        Next { chain: self.clone(), at: 0 }.run(connection)
    }

    /// The rest of the life of a connection from another epoch. Filters before the terminal one would have state of their own: no
    /// chain of several takes any yet.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn thaw(&self, arrival: Arrival) -> Result<Work, Reason> {
        match &*self.filters {
            [only] => only.clone().thaw(arrival),
            _ => Err(Reason::OtherFilter),
        }
    }
}

/// The rest of a chain.
pub struct Next {
    chain: Chain,
    at: usize,
}

impl Next {
    /// Hands the connection to the next filter. Behind the last one it is closed.
    pub fn run(self, connection: Connection) -> Work {
        match self.chain.filters.get(self.at) {
            Some(filter) => filter.clone().call(connection, Self { at: self.at + 1, chain: self.chain.clone() }),
            None => Box::pin(std::future::ready(())),
        }
    }
}
