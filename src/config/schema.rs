//! The schema of the v3 API: a read-only view of the table that the build makes (layout: `schema_build/table.rs`).
//!
//! The table lies in the binary's read-only data; nothing is parsed or allocated at start, and only the pages that are looked
//! at become resident. Reads are bounds-checked and yield nothing beyond the table.

use std::cmp::Ordering;

static TABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/schema.bin"));

/// Sections, in the order of the table.
mod section {
    pub(super) const MESSAGES: usize = 0;
    pub(super) const FIELDS: usize = 1;
    pub(super) const ONEOFS: usize = 2;
    pub(super) const ENUMS: usize = 3;
    pub(super) const VALUES: usize = 4;
    pub(super) const STRINGS: usize = 5;
    pub(super) const RULES: usize = 6;
}

const MESSAGE_SIZE: usize = 16;
const FIELD_SIZE: usize = 20;
const ONEOF_SIZE: usize = 8;
const ENUM_SIZE: usize = 12;
const VALUE_SIZE: usize = 12;
const NONE_8: u8 = 0xff;
const NONE_16: u16 = 0xffff;

fn u8_at(at: usize) -> u8 {
    TABLE.get(at).copied().unwrap_or_default()
}

fn u16_at(at: usize) -> u16 {
    TABLE.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(at: usize) -> u32 {
    TABLE.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn start(section: usize) -> usize {
    u32_at(section * 8) as usize
}

fn string(reference: u32) -> &'static str {
    let from = start(section::STRINGS) + (reference >> 10) as usize;
    let bytes = TABLE.get(from..from + (reference & 1023) as usize).unwrap_or_default();
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Types that the JSON form writes in a way of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WellKnown {
    /// A message like any other.
    No,
    Any,
    Duration,
    Timestamp,
    Struct,
    Value,
    List,
    FieldMask,
    /// `BoolValue` and its kin.
    Wrapper,
    Empty,
}

/// The type of a field's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Double,
    Float,
    Int64,
    Uint64,
    Int32,
    Fixed64,
    Fixed32,
    Bool,
    String,
    Message,
    Bytes,
    Uint32,
    Enum,
    Sfixed32,
    Sfixed64,
    Sint32,
    Sint64,
}

/// A message type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    at: usize,
}

impl Message {
    /// The type of that full name, such as `envoy.config.cluster.v3.Cluster`.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        let (mut low, mut high) = (0, Self::count());
        while low < high {
            let middle = usize::midpoint(low, high);
            let message = Self::nth(middle);
            match message.name().cmp(name) {
                Ordering::Equal => return Some(message),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// The type that an `Any`'s URL names: what stands after the last slash.
    pub(super) fn by_url(url: &str) -> Option<Self> {
        Self::by_name(url.rsplit('/').next().unwrap_or_default())
    }

    /// The names of all types.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        (0..Self::count()).map(|at| Self::nth(at).name())
    }

    pub(super) fn name(self) -> &'static str {
        string(u32_at(self.at))
    }

    /// In order of their numbers.
    pub(super) fn fields(self) -> impl Iterator<Item = Field> {
        let first = start(section::FIELDS) + u32_at(self.at + 4) as usize * FIELD_SIZE;
        (0..usize::from(u16_at(self.at + 8))).map(move |at| Field { at: first + at * FIELD_SIZE })
    }

    pub(super) fn field_numbered(self, number: u32) -> Option<Field> {
        self.fields().find(|field| field.number() == number)
    }

    /// By proto name or by JSON (camel case) name.
    pub(super) fn field_named(self, name: &str) -> Option<Field> {
        self.fields()
            .find(|field| field.name() == name)
            .or_else(|| self.fields().find(|field| is_camel(name, field.name())))
    }

    pub(super) fn oneofs(self) -> impl Iterator<Item = Oneof> {
        let first = start(section::ONEOFS) + usize::from(u16_at(self.at + 10)) * ONEOF_SIZE;
        (0..u8_at(self.at + 12)).map(move |index| {
            let at = first + usize::from(index) * ONEOF_SIZE;
            Oneof { index, name: string(u32_at(at)), required: u32_at(at + 4) != 0 }
        })
    }

    pub(super) fn well_known(self) -> WellKnown {
        match u8_at(self.at + 13) {
            1 => WellKnown::Any,
            2 => WellKnown::Duration,
            3 => WellKnown::Timestamp,
            4 => WellKnown::Struct,
            5 => WellKnown::Value,
            6 => WellKnown::List,
            7 => WellKnown::FieldMask,
            8 => WellKnown::Wrapper,
            9 => WellKnown::Empty,
            _ => WellKnown::No,
        }
    }

    /// `TypedStruct` in either of its packages: a message of another type, written as a `Struct`.
    pub(super) fn is_typed_struct(self) -> bool {
        matches!(self.name(), "xds.type.v3.TypedStruct" | "udpa.type.v1.TypedStruct")
    }

    fn count() -> usize {
        u32_at(section::MESSAGES * 8 + 4) as usize / MESSAGE_SIZE
    }

    fn nth(index: usize) -> Self {
        Self { at: start(section::MESSAGES) + index * MESSAGE_SIZE }
    }
}

/// A oneof of a message.
#[derive(Clone, Copy)]
pub(super) struct Oneof {
    pub(super) index: u8,
    pub(super) name: &'static str,
    /// `validate.required`: one member must be set.
    pub(super) required: bool,
}

/// A field of a message.
#[derive(Clone, Copy)]
pub(super) struct Field {
    at: usize,
}

impl Field {
    pub(super) fn number(self) -> u32 {
        u32_at(self.at)
    }

    pub(super) fn name(self) -> &'static str {
        string(u32_at(self.at + 4))
    }

    pub(super) fn kind(self) -> Kind {
        match u8_at(self.at + 8) {
            1 => Kind::Double,
            2 => Kind::Float,
            3 => Kind::Int64,
            4 => Kind::Uint64,
            5 => Kind::Int32,
            6 => Kind::Fixed64,
            7 => Kind::Fixed32,
            8 => Kind::Bool,
            9 => Kind::String,
            11 => Kind::Message,
            12 => Kind::Bytes,
            13 => Kind::Uint32,
            14 => Kind::Enum,
            15 => Kind::Sfixed32,
            16 => Kind::Sfixed64,
            17 => Kind::Sint32,
            _ => Kind::Sint64,
        }
    }

    /// Index of the oneof that it belongs to.
    pub(super) fn oneof(self) -> Option<u8> {
        Some(u8_at(self.at + 9)).filter(|index| *index != NONE_8)
    }

    fn has(self, flag: u16) -> bool {
        u16_at(self.at + 10) & flag != 0
    }

    /// A list, or a map.
    pub(super) fn is_repeated(self) -> bool {
        self.has(1)
    }

    pub(super) fn is_map(self) -> bool {
        self.has(2)
    }

    pub(super) fn is_packed(self) -> bool {
        self.has(4)
    }

    /// Absent and zero are two things.
    pub(super) fn has_presence(self) -> bool {
        self.has(8)
    }

    pub(super) fn is_deprecated(self) -> bool {
        self.has(16)
    }

    /// Deprecated so far that Envoy refuses it.
    pub(super) fn is_disallowed(self) -> bool {
        self.has(32)
    }

    /// Not to be shown.
    pub(super) fn is_sensitive(self) -> bool {
        self.has(64)
    }

    pub(super) fn is_work_in_progress(self) -> bool {
        self.has(128)
    }

    pub(super) fn message(self) -> Option<Message> {
        let index = u16_at(self.at + 12);
        (self.kind() == Kind::Message && index != NONE_16).then(|| Message::nth(usize::from(index)))
    }

    pub(super) fn enumeration(self) -> Option<Enum> {
        let index = usize::from(u16_at(self.at + 12));
        let known = self.kind() == Kind::Enum && index != usize::from(NONE_16);
        known.then(|| Enum { at: start(section::ENUMS) + index * ENUM_SIZE })
    }

    /// An encoded `validate.FieldRules`.
    pub(super) fn rules(self) -> Option<&'static [u8]> {
        let reference = u32_at(self.at + 16) as usize;
        let at = start(section::RULES) + reference;
        if reference == 0 {
            return None;
        }
        TABLE.get(at + 2..at + 2 + usize::from(u16_at(at)))
    }

    /// The two fields of a map's entries.
    pub(super) fn key_and_value(self) -> Option<(Field, Field)> {
        let entry = self.message()?;
        Some((entry.field_numbered(1)?, entry.field_numbered(2)?))
    }
}

/// An enum type.
#[derive(Clone, Copy)]
pub(super) struct Enum {
    at: usize,
}

/// A value of an enum.
#[derive(Clone, Copy)]
pub(super) struct EnumValue {
    pub(super) number: i32,
    pub(super) name: &'static str,
    flags: u32,
}

impl EnumValue {
    pub(super) fn is_deprecated(self) -> bool {
        self.flags & 1 != 0
    }
}

impl Enum {
    pub(super) fn name(self) -> &'static str {
        string(u32_at(self.at))
    }

    pub(super) fn values(self) -> impl Iterator<Item = EnumValue> {
        let first = start(section::VALUES) + u32_at(self.at + 4) as usize * VALUE_SIZE;
        (0..u32_at(self.at + 8) as usize).map(move |index| {
            let at = first + index * VALUE_SIZE;
            EnumValue { number: u32_at(at).cast_signed(), name: string(u32_at(at + 4)), flags: u32_at(at + 8) }
        })
    }

    pub(super) fn by_number(self, number: i32) -> Option<EnumValue> {
        self.values().find(|value| value.number == number)
    }

    /// In any case, as Envoy reads them.
    pub(super) fn by_name(self, name: &str) -> Option<i32> {
        let exact = self.values().find(|value| value.name == name);
        exact.or_else(|| self.values().find(|value| value.name.eq_ignore_ascii_case(name))).map(|value| value.number)
    }
}

/// Is `name` the camel case of the proto name `snake`?
pub(super) fn is_camel(name: &str, snake: &str) -> bool {
    let mut letters = name.bytes();
    let mut upper = false;
    for byte in snake.bytes() {
        if byte == b'_' {
            upper = true;
            continue;
        }
        let wanted = if upper { byte.to_ascii_uppercase() } else { byte };
        upper = false;
        if letters.next() != Some(wanted) {
            return false;
        }
    }
    letters.next().is_none()
}
