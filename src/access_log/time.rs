//! Times as strftime writes them, with Envoy's fractions of a second.

use std::fmt::Write;
use std::time::SystemTime;

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Datelike, Local, Timelike, Utc};

/// A format, parsed.
pub(super) struct TimeFormat {
    /// None: Envoy's default.
    pieces: Vec<Piece>,
}

enum Piece {
    Items(Vec<Item<'static>>),
    /// `%3f`: so many digits of the fraction; `%f` has nine.
    Fraction(usize),
    /// `%s`.
    Epoch,
    /// `%E3S`: seconds with so many digits of the fraction.
    Seconds(usize),
    /// `%E*S`: seconds with as many digits as there are.
    AllSeconds,
}

impl TimeFormat {
    /// Parses a format. What means nothing is shown as it stands.
    pub(super) fn parse(format: &str) -> Self {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            plain.push_str(&rest[..at]);
            rest = &rest[at..];
            let own = own(rest);
            match own {
                Some((piece, length)) => {
                    items(&mut pieces, &mut plain);
                    pieces.push(piece);
                    rest = &rest[length..];
                }
                None => {
                    let length = rest.chars().take(2).map(char::len_utf8).sum();
                    plain.push_str(&rest[..length]);
                    rest = &rest[length..];
                }
            }
        }
        plain.push_str(rest);
        items(&mut pieces, &mut plain);
        Self { pieces }
    }

    /// A time in this format, in UTC or in the zone of this machine.
    pub(super) fn render(&self, time: SystemTime, local: bool) -> String {
        let utc = DateTime::<Utc>::from(time);
        if self.pieces.is_empty() {
            return default(&utc);
        }
        if local { self.write(&utc.with_timezone(&Local)) } else { self.write(&utc) }
    }

    fn write<Z: chrono::TimeZone>(&self, time: &DateTime<Z>) -> String
    where
        Z::Offset: std::fmt::Display,
    {
        let mut text = String::new();
        let nanos = || format!("{:09}", time.nanosecond() % 1_000_000_000);
        for piece in &self.pieces {
            // A string takes everything, and the items have been checked.
            let _ = match piece {
                Piece::Items(items) => write!(text, "{}", time.format_with_items(items.iter())),
                Piece::Fraction(digits) => write!(text, "{}", nanos().get(..*digits).unwrap_or_default()),
                Piece::Epoch => write!(text, "{}", time.timestamp()),
                Piece::Seconds(0) => write!(text, "{:02}", time.second()),
                Piece::Seconds(digits) => {
                    write!(text, "{:02}.{:0<digits$}", time.second(), nanos().get(..*digits).unwrap_or(&nanos()))
                }
                Piece::AllSeconds => {
                    let nanos = nanos();
                    let nanos = nanos.trim_end_matches('0');
                    write!(text, "{:02}{}{nanos}", time.second(), if nanos.is_empty() { "" } else { "." })
                }
            };
        }
        text
    }
}

/// `2026-01-31T23:59:59.123Z`: every line begins so, without the machinery of formats.
fn default(time: &DateTime<Utc>) -> String {
    let mut text = String::with_capacity(24);
    let mut number = |number: u32, digits: u32, behind: &str| {
        for place in (0..digits).rev() {
            text.push(char::from(b'0' + (number / 10u32.pow(place) % 10) as u8));
        }
        text.push_str(behind);
    };
    number(u32::try_from(time.year()).unwrap_or(0), 4, "-");
    number(time.month(), 2, "-");
    number(time.day(), 2, "T");
    number(time.hour(), 2, ":");
    number(time.minute(), 2, ":");
    number(time.second(), 2, ".");
    number(time.timestamp_subsec_millis() % 1000, 3, "Z");
    text
}

/// What strftime does not know, and its length.
fn own(text: &str) -> Option<(Piece, usize)> {
    let bytes = text.as_bytes();
    match bytes.get(1)? {
        b's' => Some((Piece::Epoch, 2)),
        b'f' => Some((Piece::Fraction(9), 2)),
        digit @ b'1'..=b'9' if bytes.get(2) == Some(&b'f') => Some((Piece::Fraction(usize::from(digit - b'0')), 3)),
        b'E' if bytes.get(2..4) == Some(b"*S") => Some((Piece::AllSeconds, 4)),
        b'E' => match (bytes.get(2), bytes.get(3)) {
            (Some(digit @ b'0'..=b'9'), Some(b'S')) => Some((Piece::Seconds(usize::from(digit - b'0')), 4)),
            (Some(b'z'), _) => Some((Piece::Items(StrftimeItems::new("%:z").collect()), 3)),
            _ => None,
        },
        _ => None,
    }
}

fn items(pieces: &mut Vec<Piece>, plain: &mut String) {
    if plain.is_empty() {
        return;
    }
    let plain = std::mem::take(plain);
    let items: Vec<Item<'static>> = match StrftimeItems::new(&plain).parse_to_owned() {
        Ok(items) => items,
        Err(_) => vec![Item::OwnedLiteral(plain.into())],
    };
    pieces.push(Piece::Items(items));
}
