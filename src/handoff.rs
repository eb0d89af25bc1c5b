//! The epoch's side of the supervisor: the conversation, and the sockets it lends.
//!
//! [`link::Link`] speaks `heirloom_supervisor::wire` over the inherited channel on the main thread; [`sockets`] turns the model's
//! listeners into keys and what comes back into listening sockets. The server drives both: nothing here decides when to
//! accept or to drain. [`motion`] carries connections between two epochs. An epoch without a supervisor never makes a link; [`sockets::bind`] then binds for itself.

pub mod link;
pub mod motion;
pub mod orphan;
pub mod sockets;
