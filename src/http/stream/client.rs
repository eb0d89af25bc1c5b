//! Who asks, whatever the protocol of the connection.

use std::rc::Rc;
use std::task::{Context, Poll};

use crate::drain::Held;
use crate::http::downstream::Downstream;
use crate::http::http2;
use crate::http::manager::Manager;
use crate::l4::Facts;
use crate::local::Timer;

use super::own::Own;

/// Who asks, by the protocol of the connection.
#[derive(Clone, Copy)]
pub(super) enum Client<'a> {
    Http1(&'a Downstream),
    Http2(&'a http2::Client),
    /// Nobody: it is a request of our own.
    Own(&'a Own),
}

impl<'a> Client<'a> {
    pub(super) fn manager(self) -> &'a Rc<Manager> {
        match self {
            Self::Http1(conn) => &conn.manager,
            Self::Http2(client) => &client.conn.manager,
            Self::Own(own) => &own.manager,
        }
    }

    pub(super) fn facts(self) -> &'a Facts {
        match self {
            Self::Http1(conn) => &conn.facts,
            Self::Http2(client) => &client.conn.facts,
            Self::Own(own) => &own.facts,
        }
    }

    pub(super) fn timer(self) -> &'a Timer {
        match self {
            Self::Http1(conn) => &conn.timer,
            Self::Http2(client) => &client.timer,
            Self::Own(own) => &own.timer,
        }
    }

    pub(super) fn held(self) -> &'a Held {
        match self {
            Self::Http1(conn) => &conn.held,
            Self::Http2(client) => &client.held,
            Self::Own(own) => &own.held,
        }
    }

    /// Ready when the drain's deadline has passed.
    pub(super) fn poll_over(self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http1(conn) => conn.poll_over(context),
            Self::Http2(client) => client.poll_over(context),
            Self::Own(own) => own.poll_over(context),
        }
    }

    /// Whether it can send nothing more of this request: a stream that has ended. A connection of HTTP/1 may always carry more.
    pub(super) fn is_through(self) -> bool {
        match self {
            Self::Http1(_) => false,
            Self::Http2(client) => client.source.borrow().is_done(),
            Self::Own(own) => own.complete.get(),
        }
    }

    pub(super) fn has_unread(self) -> bool {
        match self {
            Self::Http1(conn) => conn.has_unread(),
            Self::Http2(_) | Self::Own(_) => false,
        }
    }
}
