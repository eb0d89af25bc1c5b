//! Values that are no messages, as JSON.

use std::fmt::Write as _;

use crate::config::schema::{Field, Kind};
use crate::config::typed_struct::number;
use crate::config::wire::{self, Raw};

/// Writes a value; absent is the default.
pub(super) fn write(out: &mut String, field: Field, value: Option<Raw<'_>>, redacted: bool) {
    let bits = match value {
        Some(Raw::Varint(bits) | Raw::Fixed64(bits)) => bits,
        Some(Raw::Fixed32(bits)) => bits.into(),
        _ => 0,
    };
    let bytes = if let Some(Raw::Bytes(bytes)) = value { bytes } else { &[] };
    let low = wire::low_32(bits);
    // Writing to a string cannot fail.
    let _ = match field.kind() {
        Kind::String if redacted => write!(out, "\"[redacted]\""),
        Kind::Bytes if redacted => return base64(out, b"[redacted]"),
        Kind::String => return quote(out, &String::from_utf8_lossy(bytes)),
        Kind::Bytes => return base64(out, bytes),
        Kind::Bool => write!(out, "{}", bits != 0),
        Kind::Double => return double(out, f64::from_bits(bits)),
        Kind::Float => {
            let value = f32::from_bits(low.cast_unsigned());
            if value.is_finite() { write!(out, "{value}") } else { return double(out, value.into()) }
        }
        Kind::Int32 | Kind::Sfixed32 => write!(out, "{low}"),
        Kind::Uint32 | Kind::Fixed32 => write!(out, "{}", low.cast_unsigned()),
        Kind::Sint32 => write!(out, "{}", wire::unzigzag(bits)),
        // JSON numbers hold 53 bits: 64-bit integers are strings.
        Kind::Sint64 => write!(out, "\"{}\"", wire::unzigzag(bits)),
        Kind::Int64 | Kind::Sfixed64 => write!(out, "\"{}\"", bits.cast_signed()),
        Kind::Uint64 | Kind::Fixed64 => write!(out, "\"{bits}\""),
        Kind::Enum => return enumeration(out, field, low),
        Kind::Message => Ok(()),
    };
}

fn enumeration(out: &mut String, field: Field, number: i32) {
    let of = field.enumeration();
    if of.is_some_and(|of| of.name() == "google.protobuf.NullValue") {
        return out.push_str("null");
    }
    match of.and_then(|of| of.by_number(number)) {
        Some(value) => quote(out, value.name),
        None => out.push_str(&number.to_string()),
    }
}

/// The key of a map's entry, which JSON has as a string.
pub(super) fn map_key(field: Field, key: Option<Raw<'_>>) -> String {
    match (field.kind(), key) {
        (Kind::String, Some(Raw::Bytes(text))) => String::from_utf8_lossy(text).into_owned(),
        (Kind::String, _) => String::new(),
        (Kind::Bool, key) => (key == Some(Raw::Varint(1))).to_string(),
        (Kind::Uint32 | Kind::Uint64, Some(Raw::Varint(number))) => number.to_string(),
        (_, Some(Raw::Varint(number))) => number.cast_signed().to_string(),
        _ => "0".to_owned(),
    }
}

pub(super) fn double(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("\"NaN\"");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
    } else {
        out.push_str(&number(value));
    }
}

pub(super) fn duration(out: &mut String, (seconds, nanos): (i64, i32)) {
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let _ = write!(out, "\"{sign}{}{}s\"", seconds.unsigned_abs(), fraction(nanos.unsigned_abs()));
}

/// Three, six or nine digits, or none.
fn fraction(nanos: u32) -> String {
    match nanos {
        0 => String::new(),
        nanos if nanos % 1_000_000 == 0 => format!(".{:03}", nanos / 1_000_000),
        nanos if nanos % 1_000 == 0 => format!(".{:06}", nanos / 1_000),
        nanos => format!(".{nanos:09}"),
    }
}

/// RFC 3339 in UTC; the calendar by days since March of year 0.
pub(super) fn timestamp(out: &mut String, (seconds, nanos): (i64, i32)) {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let fraction = fraction(nanos.unsigned_abs());
    let _ = write!(out, "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z\"");
}

pub(super) fn quote(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
}

pub(super) fn base64(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push('"');
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| chunk.get(at).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * at) & 63) as usize).copied().unwrap_or(b'=');
            out.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out.push('"');
}
