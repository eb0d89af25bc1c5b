//! The protobuf wire format: reading records, writing fields. Everything here takes bytes from outside; nothing panics.

/// The value of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// Reads records one after another; ends at the first that is malformed.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// After the last record: was everything read?
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = self.rest.get(at + 1..)?;
                return Some(value);
            }
        }
        None
    }

    pub(super) fn fixed32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    pub(super) fn fixed64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u64::from_le_bytes(*bytes))
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = (u32, Raw<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Raw::Varint(self.varint()?),
            1 => Raw::Fixed64(self.fixed64()?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                Raw::Bytes(bytes)
            }
            5 => Raw::Fixed32(self.fixed32()?),
            _ => return None,
        };
        Some((u32::try_from(tag >> 3).ok()?, value))
    }
}

/// The last value of a field, which is the one that counts.
pub(super) fn last(bytes: &[u8], number: u32) -> Option<Raw<'_>> {
    Reader::new(bytes).filter(|record| record.0 == number).last().map(|record| record.1)
}

/// The last value of a field of bytes; empty when there is none.
pub(super) fn last_bytes(bytes: &[u8], number: u32) -> &[u8] {
    match last(bytes, number) {
        Some(Raw::Bytes(value)) => value,
        _ => &[],
    }
}

/// Seconds and nanoseconds of an encoded `Duration` or `Timestamp`.
pub(super) fn seconds_and_nanos(bytes: &[u8]) -> (i64, i32) {
    let mut time = (0, 0);
    for record in Reader::new(bytes) {
        match record {
            (1, Raw::Varint(seconds)) => time.0 = seconds.cast_signed(),
            (2, Raw::Varint(nanos)) => time.1 = low_32(nanos),
            _ => {}
        }
    }
    time
}

/// The low half of a varint as the number that was sign-extended to write it.
#[allow(clippy::cast_possible_truncation, reason = "int32 and enum values are written as 64 bits")]
pub(super) fn low_32(value: u64) -> i32 {
    value as i32
}

pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Wire types, as tags carry them.
pub(super) mod kind {
    pub(in super::super) const VARINT: u8 = 0;
    pub(in super::super) const FIXED64: u8 = 1;
    pub(in super::super) const BYTES: u8 = 2;
    pub(in super::super) const FIXED32: u8 = 5;
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

pub(super) fn put_tag(out: &mut Vec<u8>, number: u32, kind: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(kind));
}

pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, kind::BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes whatever `fill` appends as a field, its length before it.
pub(super) fn put_nested(out: &mut Vec<u8>, number: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    put_tag(out, number, kind::BYTES);
    let start = out.len();
    fill(out);
    let mut length = Vec::with_capacity(5);
    put_varint(&mut length, (out.len() - start) as u64);
    out.splice(start..start, length);
}
