//! The body of a message as a machine: bytes in, data out, and its state on paper.
//!
//! ```text
//!   Size ─▶ (Blank, Extension) ──CR──▶ SizeEnd ──LF──▶ Data ──0 left──▶ DataEndCr ──▶ DataEndLf ──▶ Size
//!                                                 └─size 0─▶ Trailers ──▶ Done
//! ```
//!
//! Size lines are taken byte by byte; trailers stay in the caller's buffer until they are complete (their limit bounds that
//! buffer), so the written state never holds more than a few numbers.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use super::parse::parse_trailers;
use super::{Limits, Refusal, Scan};
use crate::codec::head::Headers;

/// Digits of a chunk size: sixteen fill 64 bits.
const MAX_SIZE_DIGITS: u8 = 16;
/// Bytes of chunk lines that a body may cost above its data: extensions, long sizes, single-byte chunks.
const MAX_OVERHEAD: u32 = 16 * 1024;
/// What a chunk of any size may cost without being counted as overhead.
const FREE_OVERHEAD: u64 = 16;
/// The version of [`Framing::to_bytes`].
const STATE_VERSION: u8 = 1;

/// Reads the body of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framing {
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Done,
    Length(u64),
    UntilClose,
    Chunked(Chunked),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Chunked {
    step: Step,
    /// In a size line: the size so far. In data: what is left.
    size: u64,
    /// Digits of the size seen.
    digits: u8,
    /// Bytes of size lines not yet paid for by data.
    overhead: u32,
    /// Only while in trailers; not written down.
    scan: Scan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Step {
    Size = 0,
    Extension = 1,
    SizeEnd = 2,
    Data = 3,
    DataEndCr = 4,
    DataEndLf = 5,
    Trailers = 6,
    Blank = 7,
}

/// What [`Framing::decode`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A part of the body, never empty.
    Data(Bytes),
    /// The buffer must grow first.
    NeedMore,
    /// The message is complete; what the buffer still holds belongs to the next one. Trailers of a chunked body.
    End(Headers),
}

/// A body that breaks the protocol. The connection cannot be used any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FramingError {
    /// A chunk's size is no number, or too large.
    #[error("invalid chunk size")]
    ChunkSize,
    /// A chunk extension holds what it must not, or the size lines outweigh the data.
    #[error("invalid or too long chunk extension")]
    ChunkExtension,
    /// A line or a chunk does not end in CR LF.
    #[error("chunk not followed by a line end")]
    ChunkEnd,
    /// The trailers are malformed or too large.
    #[error("invalid trailers: {0}")]
    Trailers(Refusal),
    /// The peer closed in the middle of the body.
    #[error("connection closed in the middle of a body")]
    Truncated,
}

impl FramingError {
    /// What to answer a client, where no answer has begun.
    pub const fn refusal(self) -> Refusal {
        match self {
            Self::Trailers(refusal) => refusal,
            _ => Refusal::CODEC_ERROR,
        }
    }
}

/// Bytes that are no state of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a body state of a known version")]
pub struct StateError;

impl Framing {
    /// No body.
    pub const fn none() -> Self {
        Self { state: State::Done }
    }

    /// A body of so many bytes.
    pub const fn length(length: u64) -> Self {
        match length {
            0 => Self::none(),
            _ => Self { state: State::Length(length) },
        }
    }

    /// A chunked body.
    pub const fn chunked() -> Self {
        let scan = Scan::new();
        Self { state: State::Chunked(Chunked { step: Step::Size, size: 0, digits: 0, overhead: 0, scan }) }
    }

    /// A body that ends with the connection.
    pub const fn until_close() -> Self {
        Self { state: State::UntilClose }
    }

    /// The message is complete.
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Only the end of the connection ends it.
    pub const fn is_until_close(&self) -> bool {
        matches!(self.state, State::UntilClose)
    }

    /// The coding is chunked.
    pub const fn is_chunked(&self) -> bool {
        matches!(self.state, State::Chunked(_))
    }

    /// Bytes of a body of known length that have not come out yet.
    pub const fn length_left(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Length(left) => Some(left),
            State::UntilClose | State::Chunked(_) => None,
        }
    }

    /// Takes the next part of the body from the front of `buffer`. After [`Decoded::End`] it stays at the end.
    ///
    /// # Errors
    /// The peer broke the framing; nothing after this can be trusted.
    pub fn decode(&mut self, buffer: &mut BytesMut, trailers: &Limits) -> Result<Decoded, FramingError> {
        match &mut self.state {
            State::Done => Ok(Decoded::End(Headers::new())),
            _ if buffer.is_empty() => Ok(Decoded::NeedMore),
            State::UntilClose => Ok(Decoded::Data(buffer.split().freeze())),
            State::Length(left) => {
                let data = take(buffer, left);
                if *left == 0 {
                    self.state = State::Done;
                }
                Ok(Decoded::Data(data))
            }
            State::Chunked(chunked) => {
                let decoded = chunked.decode(buffer, trailers)?;
                if matches!(decoded, Decoded::End(_)) {
                    self.state = State::Done;
                }
                Ok(decoded)
            }
        }
    }

    /// The peer has closed its side and the buffer is used up.
    ///
    /// # Errors
    /// The body is not complete.
    pub fn close(&mut self) -> Result<(), FramingError> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Length(_) | State::Chunked(_) => Err(FramingError::Truncated),
        }
    }

    /// The state, to be restored with [`Self::from_bytes`] beside the unread bytes of the buffer.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![STATE_VERSION];
        match &self.state {
            State::Done => bytes.push(0),
            State::Length(left) => {
                bytes.push(1);
                bytes.extend_from_slice(&left.to_be_bytes());
            }
            State::UntilClose => bytes.push(2),
            State::Chunked(chunked) => {
                bytes.extend_from_slice(&[3, chunked.step as u8, chunked.digits]);
                bytes.extend_from_slice(&chunked.size.to_be_bytes());
                bytes.extend_from_slice(&chunked.overhead.to_be_bytes());
            }
        }
        bytes
    }

    /// Restores what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// Another version, or values that the machine cannot have.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let state = match bytes {
            [STATE_VERSION, 0] => State::Done,
            [STATE_VERSION, 1, left @ ..] => match u64::from_be_bytes(left.try_into().map_err(|_| StateError)?) {
                0 => return Err(StateError),
                left => State::Length(left),
            },
            [STATE_VERSION, 2] => State::UntilClose,
            [STATE_VERSION, 3, step, digits, rest @ ..] => State::Chunked(Chunked::restore(*step, *digits, rest)?),
            _ => return Err(StateError),
        };
        Ok(Self { state })
    }
}

impl Chunked {
    fn decode(&mut self, buffer: &mut BytesMut, trailers: &Limits) -> Result<Decoded, FramingError> {
        while let Some(&byte) = buffer.first() {
            match self.step {
                Step::Data => {
                    let data = take(buffer, &mut self.size);
                    if self.size == 0 {
                        self.step = Step::DataEndCr;
                    }
                    return Ok(Decoded::Data(data));
                }
                Step::Trailers => {
                    return match parse_trailers(buffer, &mut self.scan, trailers) {
                        Ok(Some(headers)) => Ok(Decoded::End(headers)),
                        Ok(None) => Ok(Decoded::NeedMore),
                        Err(refusal) => Err(FramingError::Trailers(refusal)),
                    };
                }
                Step::Size => self.size_byte(byte)?,
                Step::Blank => self.blank_byte(byte)?,
                Step::Extension => self.extension_byte(byte)?,
                Step::SizeEnd => self.size_end(byte)?,
                Step::DataEndCr if byte == b'\r' => self.step = Step::DataEndLf,
                Step::DataEndLf if byte == b'\n' => self.step = Step::Size,
                Step::DataEndCr | Step::DataEndLf => return Err(FramingError::ChunkEnd),
            }
            buffer.advance(1);
        }
        Ok(Decoded::NeedMore)
    }

    fn size_byte(&mut self, byte: u8) -> Result<(), FramingError> {
        self.pay(1)?;
        if let Some(digit) = char::from(byte).to_digit(16) {
            if self.digits == MAX_SIZE_DIGITS {
                return Err(FramingError::ChunkSize);
            }
            self.digits += 1;
            self.size = self.size << 4 | u64::from(digit);
            return Ok(());
        }
        if self.digits == 0 {
            return Err(FramingError::ChunkSize);
        }
        self.step = match byte {
            b'\r' => Step::SizeEnd,
            b';' => Step::Extension,
            // White space before an extension, or left by senders that pad the size.
            b' ' | b'\t' => Step::Blank,
            _ => return Err(FramingError::ChunkSize),
        };
        Ok(())
    }

    fn blank_byte(&mut self, byte: u8) -> Result<(), FramingError> {
        self.pay(1)?;
        match byte {
            b' ' | b'\t' => {}
            b';' => self.step = Step::Extension,
            b'\r' => self.step = Step::SizeEnd,
            _ => return Err(FramingError::ChunkSize),
        }
        Ok(())
    }

    fn extension_byte(&mut self, byte: u8) -> Result<(), FramingError> {
        self.pay(1)?;
        match byte {
            b'\r' => self.step = Step::SizeEnd,
            b'\t' | b' '..=b'~' | 0x80.. => {}
            _ => return Err(FramingError::ChunkExtension),
        }
        Ok(())
    }

    fn size_end(&mut self, byte: u8) -> Result<(), FramingError> {
        if byte != b'\n' {
            return Err(FramingError::ChunkEnd);
        }
        // Data pays for the lines between it, so that only lines without data add up.
        let paid = self.size.saturating_mul(2).saturating_add(FREE_OVERHEAD);
        self.overhead = u64::from(self.overhead).saturating_sub(paid) as u32;
        self.digits = 0;
        self.step = if self.size == 0 { Step::Trailers } else { Step::Data };
        Ok(())
    }

    fn pay(&mut self, bytes: u32) -> Result<(), FramingError> {
        self.overhead += bytes;
        if self.overhead > MAX_OVERHEAD { Err(FramingError::ChunkExtension) } else { Ok(()) }
    }

    fn restore(step: u8, digits: u8, rest: &[u8]) -> Result<Self, StateError> {
        let step = match step {
            0 => Step::Size,
            1 => Step::Extension,
            2 => Step::SizeEnd,
            3 => Step::Data,
            4 => Step::DataEndCr,
            5 => Step::DataEndLf,
            6 => Step::Trailers,
            7 => Step::Blank,
            _ => return Err(StateError),
        };
        let (size, overhead) = rest.split_first_chunk::<8>().ok_or(StateError)?;
        let size = u64::from_be_bytes(*size);
        let overhead = u32::from_be_bytes(overhead.try_into().map_err(|_| StateError)?);
        let plausible = match step {
            // Hex digits and their value belong together.
            Step::Size | Step::Blank | Step::Extension | Step::SizeEnd => {
                let bits = u32::from(digits) * 4;
                let fits = bits >= 64 || size >> bits == 0;
                digits <= MAX_SIZE_DIGITS && fits && (digits > 0 || step == Step::Size)
            }
            Step::Data => size > 0 && digits == 0,
            Step::DataEndCr | Step::DataEndLf | Step::Trailers => size == 0 && digits == 0,
        };
        if !plausible || overhead > MAX_OVERHEAD {
            return Err(StateError);
        }
        Ok(Self { step, size, digits, overhead, scan: Scan::new() })
    }
}

/// Cuts up to `left` bytes off and counts them.
fn take(buffer: &mut BytesMut, left: &mut u64) -> Bytes {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= length as u64;
    buffer.split_to(length).freeze()
}
