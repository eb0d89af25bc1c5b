//! Network filters: what happens to an accepted connection before anybody knows its protocol.
//!
//! An onion like the HTTP filters: a filter takes the connection, may close it by dropping it, and else hands it to the next. The last
//! one is terminal and keeps it until it ends: the HTTP connection manager or [`filters::tcp_proxy`]. `listener` builds a [`Chain`] per filter
//! chain and worker and runs every accepted connection through it; on drain the chain lives on until its last connection has ended.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use crate::drain::Held;
use crate::net::{PeerAddress, Stream};

pub mod filters;

/// An accepted connection.
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// What is known about it.
    pub facts: Facts,
    /// Its part in the worker's drain.
    pub held: Held,
    /// What the listener wants to live for exactly as long as the connection: a filter that keeps the connection keeps this too.
    pub guard: Box<dyn Any>,
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
}

/// The work of a filter on one connection.
pub type Work = Pin<Box<dyn Future<Output = ()>>>;

/// A network filter of one worker.
pub trait Filter {
    /// Takes a connection; `next` is the rest of the chain. A terminal filter does not call it.
    fn call(self: Rc<Self>, connection: Connection, next: Next) -> Work;
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
