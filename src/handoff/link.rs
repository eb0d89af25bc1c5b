//! The conversation with the supervisor, on the main thread.
//!
//! Every wait for an answer has a deadline; waiting for the next order has none. When the supervisor dies the epoch goes on serving: [`Link::recv`] says
//! [`wire::Error::Closed`] once and the server decides what follows.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use heirloom_supervisor::wire::message::{Hello, Lend, SocketKey, TicketKeys, Welcome};
use heirloom_supervisor::wire::{self, Borrower, Channel, MAX_KEYS_PER_LEND, Message, PROTOCOL, Packet};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long the supervisor may take for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// A loan's result at one key.
pub type Granted = Result<Vec<OwnedFd>, String>;

/// What goes wrong in the conversation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// On the channel.
    #[error("the supervisor's channel: {0}")]
    Channel(#[from] wire::Error),
    /// The supervisor will not have this epoch.
    #[error("the supervisor refuses this epoch: {0}")]
    Refused(String),
    /// Silence.
    #[error("the supervisor did not answer {what} within {ANSWER_TIME:?}")]
    Silent {
        /// Which message.
        what: &'static str,
    },
    /// Something else than the answer came.
    #[error("the supervisor answered {what} with {with}")]
    Unexpected {
        /// Which message.
        what: &'static str,
        /// What came.
        with: &'static str,
    },
    /// The descriptor cannot be watched.
    #[error("the supervisor's channel cannot be watched: {0}")]
    Watch(#[from] io::Error),
}

/// The supervisor as this epoch sees it.
pub struct Link {
    channel: Channel,
    /// A duplicate of the channel's descriptor that is only ever asked whether the channel is ready: the runtime's stream is the safe way
    /// to watch a socket, whatever its kind.
    readiness: UnixStream,
    requests: u64,
    /// Keys of session tickets that came while something else was waited for.
    turned: Mutex<Option<TicketKeys>>,
}

/// How this epoch introduces itself.
pub fn hello(version: &str) -> Hello {
    Hello {
        protocol_min: PROTOCOL.min,
        protocol_max: PROTOCOL.max,
        pid: std::process::id(),
        version: version.to_owned(),
        features: vec![wire::TICKETS.to_owned(), wire::MOVES.to_owned(), wire::RECALLS.to_owned()],
    }
}

/// What a supervisor says to an epoch that it takes in.
pub struct Welcomed {
    /// The conversation.
    pub link: Link,
    /// Limits and numbers.
    pub welcome: Welcome,
    /// The statistics segment.
    pub segment: OwnedFd,
}

impl Link {
    /// Introduces this epoch.
    ///
    /// # Errors
    /// Refusal, silence, a channel that breaks.
    pub async fn open(channel: Channel, hello: Hello) -> Result<Welcomed, Error> {
        let link = Self::over(channel)?;
        link.send(&Message::Hello(hello)).await?;
        let packet = link.answer("Hello").await?;
        match packet.message {
            Message::Welcome(welcome) => {
                let Some(segment) = packet.descriptors.into_iter().next() else {
                    return Err(Error::Unexpected { what: "Hello", with: "Welcome without a segment" });
                };
                Ok(Welcomed { link, welcome, segment })
            }
            Message::Refused(refused) => Err(Error::Refused(refused.reason)),
            other => Err(Error::Unexpected { what: "Hello", with: other.name() }),
        }
    }

    /// A link over a channel on which nothing has been said.
    pub(super) fn over(channel: Channel) -> io::Result<Self> {
        let readiness = UnixStream::from_std(channel.as_fd().try_clone_to_owned()?.into())?;
        Ok(Self { channel, readiness, requests: 0, turned: Mutex::default() })
    }

    /// What it goes over.
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Sends one message, waiting for room for a bounded time.
    ///
    /// # Errors
    /// The channel's, or silence when there is no room.
    pub async fn send(&self, message: &Message) -> Result<(), Error> {
        self.send_with(message, &[]).await
    }

    /// [`Self::send`] with descriptors beside the message.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_with(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let sending = async {
            loop {
                match self.channel.try_send(message, descriptors)? {
                    true => return Ok(()),
                    false => self.full(Interest::WRITABLE).await?,
                }
            }
        };
        timeout(ANSWER_TIME, sending).await.unwrap_or(Err(Error::Silent { what: message.name() }))
    }

    /// The next message, however long it takes. Cancel safe: a message is taken whole or not at all.
    ///
    /// # Errors
    /// [`wire::Error::Closed`] when the supervisor is gone; [`wire::Error::Malformed`] for a packet that is none, after which the channel goes on.
    pub async fn recv(&self) -> Result<Packet, wire::Error> {
        loop {
            let mut taken = Ok(None);
            let look = || {
                taken = self.channel.try_recv();
                if matches!(taken, Ok(None)) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            };
            // What stops the look is in `taken`; the runtime only needs to know that there was nothing.
            let _ = self.readiness.try_io(Interest::READABLE, look);
            if let Some(packet) = taken? {
                return Ok(packet);
            }
            self.readiness.readable().await.map_err(|source| wire::Error::System { what: "epoll", source })?;
        }
    }

    /// Notes that the socket was found without room, and waits until it has some.
    async fn full(&self, interest: Interest) -> io::Result<()> {
        let _ = self.readiness.try_io(interest, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        self.readiness.ready(interest).await.map(drop)
    }

    /// Asks for the sockets at `keys`; the answers stand in the order of the keys.
    ///
    /// # Errors
    /// Silence, or an answer that does not fit. A key that was not granted is not an error here: its reason is in its place.
    pub async fn lend(&mut self, keys: &[SocketKey]) -> Result<Vec<Granted>, Error> {
        let mut granted = Vec::with_capacity(keys.len());
        for keys in keys.chunks(MAX_KEYS_PER_LEND) {
            self.requests += 1;
            let mut borrower = Borrower::new(self.requests, keys.len());
            self.send(&Message::Lend(Lend { request: self.requests, keys: keys.to_vec() })).await?;
            loop {
                let packet = self.answer("Lend").await?;
                match packet.message {
                    Message::Lent(lent) => {
                        let (received, complete) = borrower.take(lent, packet.descriptors)?;
                        self.send(&Message::Received(received)).await?;
                        if complete {
                            break;
                        }
                    }
                    Message::Refused(refused) => return Err(Error::Refused(refused.reason)),
                    other => return Err(Error::Unexpected { what: "Lend", with: other.name() }),
                }
            }
            granted.extend(borrower.finish());
        }
        Ok(granted)
    }

    /// Keys of session tickets that came while an answer was waited for.
    pub fn turned(&self) -> Option<TicketKeys> {
        self.turned.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The answer to `what`; pings that come between are answered.
    pub(super) async fn answer(&self, what: &'static str) -> Result<Packet, Error> {
        let waiting = async {
            loop {
                let packet = self.recv().await?;
                match packet.message {
                    Message::Ping(ping) => {
                        let pong = heirloom_supervisor::wire::message::Pong { token: ping.token };
                        self.send(&Message::Pong(pong)).await?;
                    }
                    Message::TicketKeys(keys) => {
                        self.turned.lock().unwrap_or_else(PoisonError::into_inner).replace(keys);
                    }
                    _ => return Ok(packet),
                }
            }
        };
        // Boxed: `send` waits with a timer of its own, and the two together are a large future on a path that runs twice.
        timeout(ANSWER_TIME, Box::pin(waiting)).await.unwrap_or(Err(Error::Silent { what }))
    }
}
