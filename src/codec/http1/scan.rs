//! Finding the end of a head in a buffer that grows, looking at each byte once.

use memchr::memchr_iter;

use super::{Limits, Refusal};

/// Where the search for the end of a head stands. Belongs to one read buffer from which nothing is taken meanwhile; a fresh
/// one begins again at the start of the buffer, so it need not be written down when a connection moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Bytes that hold no further line end. (Four bytes are enough for what [`Limits`] allow, and a scan waits in every
    /// connection.)
    scanned: u32,
    /// Where the line that is not complete begins.
    line: u32,
    /// Complete lines.
    lines: u32,
    /// Up to where lines have been judged by [`Scan::unjudged`].
    judged: u32,
    /// The incomplete line has been judged once.
    peeked: bool,
    /// Empty lines dropped before the head.
    pub(super) blanks: u8,
}

impl Scan {
    /// At the start of a buffer.
    pub const fn new() -> Self {
        Self { scanned: 0, line: 0, lines: 0, judged: 0, peeked: false, blanks: 0 }
    }

    /// The length of the head including its empty line, once it is there. `first` says that line 0 is a request or status
    /// line (trailers have none) and is not counted as a field.
    ///
    /// # Errors
    /// A line that does not end in CR LF, too many lines, too many bytes.
    pub(super) fn find_end(&mut self, buffer: &[u8], first: bool, limits: &Limits) -> Result<Option<usize>, Stop> {
        let limit = limits.bytes.min(u32::MAX as usize);
        let from = self.scanned as usize;
        let mut line = self.line as usize;
        for offset in memchr_iter(b'\n', &buffer[from..]) {
            let at = from + offset;
            if at >= limit {
                return Err(Stop { refusal: Refusal::HEADERS_TOO_LARGE, at: limit });
            }
            if at == line || buffer[at - 1] != b'\r' {
                return Err(Stop { refusal: Refusal::CODEC_ERROR, at });
            }
            if at - 1 == line {
                // An empty line where the first line should be: tolerated ones have been dropped before.
                let headless = self.lines == 0 && first;
                return if headless { Err(Stop { refusal: Refusal::CODEC_ERROR, at }) } else { Ok(Some(at + 1)) };
            }
            self.lines += 1;
            if self.lines as usize - usize::from(first) > limits.count {
                return Err(Stop { refusal: Refusal::TOO_MANY_HEADERS, at: at + 1 });
            }
            line = at + 1;
            self.line = line as u32;
            self.peeked = false;
        }
        if buffer.len() > limit {
            return Err(Stop { refusal: Refusal::HEADERS_TOO_LARGE, at: limit });
        }
        self.scanned = buffer.len() as u32;
        Ok(None)
    }

    /// The buffer lost an empty line at its front.
    pub(super) fn drop_blank_line(&mut self) {
        *self = Self { blanks: self.blanks + 1, ..Self::new() };
    }

    /// How many complete lines the buffer holds.
    pub(super) fn lines(&self) -> usize {
        self.lines as usize
    }

    /// Where the part begins that [`Self::unjudged`] has not given out as complete lines.
    pub(super) fn judged(&self) -> usize {
        self.judged as usize
    }

    /// The part of an incomplete head that has not been judged, and whether it begins with the first line. Every line comes
    /// out at most twice: as far as it is there when first seen, and once complete.
    pub(super) fn unjudged<'a>(&mut self, buffer: &'a [u8]) -> Option<(&'a [u8], bool)> {
        let from = self.judged;
        let rest = (self.line as usize) < buffer.len();
        if from == self.line && (self.peeked || !rest) {
            return None;
        }
        self.judged = self.line;
        self.peeked = rest;
        Some((&buffer[from as usize..], from == 0))
    }
}

/// The search ended in a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    /// What is wrong.
    pub(super) refusal: Refusal,
    /// Where: what stands before may be wrong in another way, and then that came first.
    pub(super) at: usize,
}
