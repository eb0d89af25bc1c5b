//! Messages in a body (gRPC over HTTP/2, Length-Prefixed-Message): a byte of flags, four of length, the message. Found as the bytes pass by,
//! in whatever pieces they come; of them nothing is held.

/// How far the message has come that is passing by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http::filters) struct Frames {
    /// Bytes of the prefix that have passed.
    prefix: u8,
    /// Of the message, once the prefix has passed; its length until then.
    left: u32,
}

/// The bytes of a message before its content.
pub(in crate::http::filters) const PREFIX: usize = 5;

/// A piece of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http::filters) struct Piece {
    /// How many bytes it has.
    pub(in crate::http::filters) length: usize,
    /// It is the first of its message.
    pub(in crate::http::filters) begins: bool,
    /// It is the last.
    pub(in crate::http::filters) ends: bool,
}

impl Frames {
    /// The piece of one message that data begins with; data is not empty.
    pub(in crate::http::filters) fn take(&mut self, data: &[u8]) -> Piece {
        let begins = self.prefix == 0;
        let mut length = 0;
        for byte in data.iter().take(PREFIX - usize::from(self.prefix)) {
            if self.prefix > 0 {
                self.left = self.left << 8 | u32::from(*byte);
            }
            self.prefix += 1;
            length += 1;
        }
        if usize::from(self.prefix) < PREFIX {
            return Piece { length, begins, ends: false };
        }
        let content = (data.len() - length).min(usize::try_from(self.left).unwrap_or(usize::MAX));
        // No more than is left.
        self.left -= u32::try_from(content).unwrap_or(self.left);
        let ends = self.left == 0;
        if ends {
            *self = Self::default();
        }
        Piece { length: length + content, begins, ends }
    }

    /// How many messages begin in data.
    pub(in crate::http::filters) fn count(&mut self, mut data: &[u8]) -> u64 {
        let mut begun = 0;
        while !data.is_empty() {
            let piece = self.take(data);
            begun += u64::from(piece.begins);
            data = data.get(piece.length..).unwrap_or_default();
        }
        begun
    }
}

/// The prefix of a message of this length that is not compressed. Longer ones than four bytes can tell are not ours to send.
pub(in crate::http::filters) fn prefix(flags: u8, length: usize) -> Option<[u8; PREFIX]> {
    let [a, b, c, d] = u32::try_from(length).ok()?.to_be_bytes();
    Some([flags, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_however_they_are_cut() {
        let mut wire = Vec::new();
        for message in [&b""[..], b"abc", &[7; 300], b""] {
            wire.extend(prefix(0, message.len()).unwrap());
            wire.extend(message);
        }
        for step in 1..=wire.len() {
            let mut frames = Frames::default();
            let begun: u64 = wire.chunks(step).map(|data| frames.count(data)).sum();
            assert_eq!((begun, frames), (4, Frames::default()), "in steps of {step}");
        }
        // The flags alone are a message that has begun.
        assert_eq!(Frames::default().count(b"\0"), 1);
        let mut frames = Frames::default();
        assert_eq!(frames.take(b"\0\0\0\0\x02ab\0"), Piece { length: 7, begins: true, ends: true });
        assert_eq!(frames.take(b"\0"), Piece { length: 1, begins: true, ends: false });
    }

    #[test]
    fn the_greatest_length_is_one() {
        let mut frames = Frames::default();
        assert_eq!(frames.take(b"\0\xff\xff\xff\xffx"), Piece { length: 6, begins: true, ends: false });
        assert_eq!(frames.left, u32::MAX - 1);
        assert_eq!(prefix(0, usize::MAX), None);
    }
}
