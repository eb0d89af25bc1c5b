//! Durations (`0.25s`) and timestamps (RFC 3339) as seconds and nanoseconds.

/// Ten thousand years, the most that a `Duration` holds.
const MOST_SECONDS: i64 = 315_576_000_000;

/// Parses `0.25s`: whole seconds, up to nine digits of fraction, the suffix `s`.
pub(super) fn duration(text: &str) -> Result<(i64, i32), &'static str> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'-').count();
    let (whole, rest) = text.split_at_checked(digits).ok_or("not a duration")?;
    if whole.is_empty() {
        return Err("a duration begins with a whole number, for example 0.25s");
    }
    let seconds: i64 = whole.parse().map_err(|_| "not a duration: bad seconds")?;
    if seconds.saturating_abs() > MOST_SECONDS {
        return Err("the duration is out of range");
    }
    let (nanos, rest) = fraction(rest)?;
    if rest != "s" {
        return Err("a duration is seconds with the suffix `s`, for example 0.25s");
    }
    Ok((seconds, if whole.starts_with('-') { -nanos } else { nanos }))
}

/// Parses `2026-01-02T03:04:05.678Z`, or with an offset.
pub(super) fn timestamp(text: &str) -> Result<(i64, i32), &'static str> {
    const BAD: &str = "not an RFC 3339 timestamp";
    let number = |from: usize, to: usize| -> Result<i64, &'static str> {
        let digits = text.get(from..to).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).ok_or(BAD)
    };
    let is = |at: usize, byte: u8| text.as_bytes().get(at) == Some(&byte);
    if !(is(4, b'-') && is(7, b'-') && is(10, b'T') && is(13, b':') && is(16, b':')) {
        return Err(BAD);
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if year == 0 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(BAD);
    }
    let (nanos, rest) = fraction(text.get(19..).ok_or(BAD)?)?;
    let offset = match rest.as_bytes() {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), ..] if rest.len() == 6 && rest.as_bytes().get(3) == Some(&b':') => {
            let at = text.len() - 6;
            let minutes = number(at + 1, at + 3)? * 60 + number(at + 4, at + 6)?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return Err(BAD),
    };
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + (minute - offset) * 60 + second;
    Ok((seconds, nanos))
}

/// Days from 1970-01-01 in the Gregorian calendar, years beginning in March.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468
}

/// `.25` as nanoseconds, and what follows.
fn fraction(text: &str) -> Result<(i32, &str), &'static str> {
    let Some(digits) = text.strip_prefix('.') else { return Ok((0, text)) };
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = digits.split_at_checked(length).ok_or("bad fraction")?;
    if !(1..=9).contains(&length) {
        return Err("a fraction of a second has one to nine digits");
    }
    let nanos: i32 = format!("{digits:0<9}").parse().map_err(|_| "bad fraction")?;
    Ok((nanos, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_with_up_to_nine_digits() {
        let good = [
            ("1s", (1, 0)),
            ("0.25s", (0, 250_000_000)),
            ("1.123456789s", (1, 123_456_789)),
            ("-1.5s", (-1, -500_000_000)),
            ("-0.5s", (0, -500_000_000)),
        ];
        for (text, expected) in good {
            assert_eq!(duration(text), Ok(expected), "{text}");
        }
        for text in ["", "s", "1", "5ms", ".5s", "1.s", "1.1234567890s", "1s ", "1e3s", "--1s", "999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn timestamps_are_rfc_3339() {
        let good = [
            ("1970-01-01T00:00:00Z", (0, 0)),
            ("2000-02-29T12:34:56.789Z", (951_827_696, 789_000_000)),
            ("2000-02-29T14:34:56+02:00", (951_827_696, 0)),
            ("1969-12-31T23:59:59Z", (-1, 0)),
        ];
        for (text, expected) in good {
            assert_eq!(timestamp(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "2000-02-29",
            "2000-13-01T00:00:00Z",
            "2000-01-01T00:00:00",
            "2000-01-01T00:00:00+2:00",
            "2000-01-01T00:00:00é",
        ] {
            assert!(timestamp(text).is_err(), "{text}");
        }
    }
}
