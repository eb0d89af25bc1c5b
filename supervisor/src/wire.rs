//! What crosses the border between the supervisor and an epoch: messages, frames and descriptors.
//!
//! Both sides use this module; neither knows anything else of the other. A [`Channel`] is an `AF_UNIX` `SOCK_SEQPACKET` socket, so one packet
//! is one [`frame`]: eight bytes of header, then one tagged [`Message`], with descriptors beside it. The supervisor starts an epoch
//! with one end of a socket pair ([`ENV_CHANNEL`], [`ENV_EPOCH`]); the operator's commands and epochs whose supervisor died use the same frames over the
//! control socket.
//!
//! Promises: a frame is taken whole or refused with a reason; every descriptor that arrives is owned and closed again if its
//! frame is refused; unknown fields are skipped and an unknown message is answered with [`message::NotUnderstood`]; every length is bounded.
//! Nothing here waits unless it is given a deadline.
//!
//! # A takeover, as messages
//!
//! ```text
//!   epoch n (active)               supervisor                         epoch n+1
//!        │                             │ ── starts it, socket pair ────> │
//!        │                             │ <──────────────────────── Hello │  versions min..max, pid
//!        │                             │ Welcome + segment fd ─────────> │  or Refused
//!        │                             │ <───────────────── Lend (keys)  │  as often as it likes
//!        │                             │ Lent batch 0 + fds ───────────> │
//!        │                             │ <──────────────────── Received  │  and so on until `last`
//!        │                             │ <──────── Ready (+ config fd)   │  or Failed (report): called off
//!        │                             │ Accept ───────────────────────> │
//!        │                             │ <───────────────────  Accepting │
//!        │ <──────────── StopAccepting │                                 │
//!        │ Stopped ──────────────────> │          probation              │  dies or Health{healthy: false}:
//!        │ <────────────────── (Resume)│                                 │  Resume, Resumed, called off
//!        │ <───────────────────  Drain │          released               │
//!        │ Drained, exit 0 ──────────> │                                 │
//! ```
//!
//! Where both epochs can ([`MOVES`]), connections move instead of ending. Between `Resumed`/`Stopped` and `Drain` the supervisor makes one more socket pair and
//! gives an end to each; what passes there it does not see:
//!
//! ```text
//!   epoch n (drains)                                         epoch n+1 (serves)
//!        │ <── Bequeath + end            Heir + other end ──> │
//!        │ Moved batch 0: connections + their sockets ──────> │  put together, not yet read or written
//!        │ <────────── Taken batch 0, but for these: reasons  │  sent: they are served there
//!        │ Moved batch 1 …                                    │
//!        │ (Withdrawn) ─────────────────────────────────────> │  the answer took too long: what is unanswered stays
//! ```
//!
//! Who waits in vain first shuts its receiving side: then no answer can be on its way that nobody reads, and the two never both think that they have a
//! connection. An epoch that cannot send an answer takes the connections only if the other one is gone.
//!
//! At any time: `TicketKeys` to an epoch with [`TICKETS`], `Health` from the epoch about every second and on change, `Ping`/`Pong`, `ReopenLogs`, `Terminate` (the supervisor
//! stops: drain within the grace, exit 0), `NotUnderstood`. End of file on the channel means that the other side is gone: the supervisor
//! then reaps the epoch; the epoch goes on serving and tries `Adopt` at [`message::Welcome::control_path`] about every second:
//!
//! ```text
//!   epoch n                     the next supervisor (control socket)
//!      │ Adopt (keys) + segment fd ──> │
//!      │ <───────────────────  Welcome │  or Refused
//!      │ Lent batch 0 + fds ─────────> │  request 0, same batches as above, the other way round
//!      │ <───────────────────  Received│  this connection is the channel from now on
//! ```
//!
//! # Versions
//!
//! The supervisor picks the highest version both sides speak ([`Versions::agree`]); it speaks the current one and the one before. Version 1 has
//! takeovers; version 2 adds the configuration's text with `Ready` (so that a roll-back runs what really ran) and adoption.

pub mod channel;
pub mod frame;
pub mod loan;
pub mod message;
mod rights;
#[cfg(test)]
mod tests;
mod version;

pub use channel::{Channel, Packet};
pub use frame::{MAX_FRAME, Opened};
pub use loan::{Borrower, Lender};
pub use message::Message;
pub use rights::MAX_DESCRIPTORS;
pub(crate) use rights::{inherit, send as send_rights, set_option};
pub use version::{PROTOCOL, Versions};

/// In [`message::Hello::features`]: the epoch gives connections to the next one, and takes them from the one before.
pub const MOVES: &str = "move-connections";
/// Feature of an epoch that can resume out of a drain, as long as [`message::Drain::recall_ms`] says.
pub const RECALLS: &str = "recall";
/// In [`message::Hello::features`]: the epoch uses the supervisor's keys of session tickets ([`message::TicketKeys`]).
pub const TICKETS: &str = "ticket-keys";
/// Length of such a key, in bytes.
pub const TICKET_KEY: usize = 80;
/// Environment variable: number of the inherited descriptor that is the epoch's end of its channel.
pub const ENV_CHANNEL: &str = "HEIRLOOM_CHANNEL";
/// Environment variable: the epoch's number.
pub const ENV_EPOCH: &str = "HEIRLOOM_EPOCH";
/// Most keys an epoch may ask for in one `Lend`: keeps the frame below [`MAX_FRAME`].
pub const MAX_KEYS_PER_LEND: usize = 128;
/// Longest free text (reports, reasons) in a message, in bytes; longer ones are clipped by [`clip`].
pub const MAX_TEXT: usize = 48 * 1024;

/// What goes wrong on a channel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side closed its end, or died.
    #[error("the other side closed the channel")]
    Closed,
    /// The deadline passed.
    #[error("no answer in time")]
    TimedOut,
    /// The kernel refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The packet is not a frame of this protocol.
    #[error("malformed frame: {0}")]
    Malformed(String),
    /// Of a message's descriptors only the first are here: this process has no room for more. Only where a part is of use ([`Message::Moved`]).
    #[error("descriptors were lost: this process has too many open")]
    Lost(Box<Packet>),
    /// The message does not fit into a frame.
    #[error("a frame of {size} bytes exceeds the limit of {MAX_FRAME}")]
    TooLarge {
        /// Bytes it would take.
        size: usize,
    },
    /// More descriptors than one frame carries.
    #[error("{count} descriptors exceed the limit of {MAX_DESCRIPTORS} per frame")]
    TooManyDescriptors {
        /// How many there were.
        count: usize,
    },
    /// A message that has no place here.
    #[error("unexpected message: {0}")]
    Unexpected(String),
    /// No version that both sides speak.
    #[error("the other side speaks versions {theirs}, this side {ours}")]
    NoCommonVersion {
        /// Their range.
        theirs: Versions,
        /// Our range.
        ours: Versions,
    },
}

/// The text, cut at [`MAX_TEXT`] bytes with a note saying so.
pub fn clip(mut text: String) -> String {
    const NOTE: &str = "\n… (cut)";
    if text.len() > MAX_TEXT {
        let mut end = MAX_TEXT - NOTE.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(NOTE);
    }
    text
}
