//! One packet: a header of eight bytes and one message.
//!
//! ```text
//!   0      4         5          6              8
//!   │ Heir │ framing │ reserved │ descriptors  │ protobuf: one field, its tag names the message
//!   │      │   = 1   │   = 0    │ u16, little  │
//! ```
//!
//! The number of descriptors is repeated in the header because the kernel drops descriptors silently when the receiver has no
//! room for them; a frame that lost one is refused, never half used.

use prost::Message as _;
use prost::bytes::Buf;

use super::message::{Envelope, Message};
use super::{Error, MAX_DESCRIPTORS};

/// Longest frame, header included, in bytes.
pub const MAX_FRAME: usize = 64 * 1024;
/// Length of the header, in bytes.
pub const HEADER: usize = 8;

const MAGIC: [u8; 4] = *b"Heir";
const FRAMING: u8 = 1;

/// What a frame holds.
#[derive(Debug, PartialEq)]
pub enum Opened {
    /// A message of a kind this side knows.
    Known(Message),
    /// A message of a newer kind; its tag goes into the [`super::message::NotUnderstood`] answer.
    Unknown {
        /// Field number of the message.
        tag: u32,
    },
}

/// The bytes of a frame for `message` with `descriptors` descriptors beside it.
///
/// # Errors
/// [`Error::TooLarge`], [`Error::TooManyDescriptors`].
pub fn seal(message: &Message, descriptors: usize) -> Result<Vec<u8>, Error> {
    let count = u16::try_from(descriptors).ok().filter(|_| descriptors <= MAX_DESCRIPTORS);
    let Some(count) = count else { return Err(Error::TooManyDescriptors { count: descriptors }) };
    let size = HEADER + message.encoded_len();
    if size > MAX_FRAME {
        return Err(Error::TooLarge { size });
    }
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[FRAMING, 0]);
    bytes.extend_from_slice(&count.to_le_bytes());
    message.encode(&mut bytes);
    Ok(bytes)
}

/// Reads a frame that arrived with `descriptors` descriptors.
///
/// # Errors
/// [`Error::Malformed`] with what is wrong.
pub fn open(bytes: &[u8], descriptors: usize) -> Result<Opened, Error> {
    open_if(bytes, |announced| announced == descriptors, descriptors)
}

/// Reads a frame of whose descriptors some were lost.
///
/// # Errors
/// As [`open`].
pub(super) fn open_cut(bytes: &[u8]) -> Result<Opened, Error> {
    open_if(bytes, |_| true, 0)
}

fn open_if(bytes: &[u8], fits: impl Fn(usize) -> bool, descriptors: usize) -> Result<Opened, Error> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(Error::Malformed(format!("{} bytes are shorter than a header", bytes.len())));
    };
    let [m0, m1, m2, m3, framing, _reserved, low, high] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(Error::Malformed("it does not begin as a frame does".into()));
    }
    if framing != FRAMING {
        return Err(Error::Malformed(format!("framing {framing} is not known, only {FRAMING}")));
    }
    let announced = usize::from(u16::from_le_bytes([low, high]));
    if !fits(announced) {
        return Err(Error::Malformed(format!("{announced} descriptors announced, {descriptors} received")));
    }
    let envelope = Envelope::decode(body).map_err(|error| Error::Malformed(error.to_string()))?;
    match envelope.message {
        Some(message) => Ok(Opened::Known(message)),
        None => Ok(Opened::Unknown { tag: first_tag(body)? }),
    }
}

fn first_tag(body: &[u8]) -> Result<u32, Error> {
    let mut rest = body;
    if !rest.has_remaining() {
        return Err(Error::Malformed("no message in it".into()));
    }
    let (tag, _wire_type) =
        prost::encoding::decode_key(&mut rest).map_err(|error| Error::Malformed(error.to_string()))?;
    Ok(tag)
}
