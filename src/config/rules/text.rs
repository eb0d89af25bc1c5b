//! Rules of strings and bytes: lengths, patterns, formats.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Judge, is_on};
use crate::config::wire::{Raw, Reader};

/// Fields of `validate.StringRules` that are looked up out of order.
const IGNORE_EMPTY: u32 = 26;
const STRICT: u32 = 25;

pub(super) fn judge(judge: &Judge, rules: &'static [u8], text: &str, broken: &mut Vec<String>) {
    if text.is_empty() && is_on(rules, IGNORE_EMPTY) {
        return;
    }
    let is_strict = !Reader::new(rules).any(|record| record == (STRICT, Raw::Varint(0)));
    let (mut within, mut not_within) = (Vec::new(), Vec::new());
    for (number, raw) in Reader::new(rules) {
        match raw {
            Raw::Varint(value) => broken.extend(length(number, value, text)),
            Raw::Bytes(bytes) => match number {
                10 => within.push(utf8(bytes)),
                11 => not_within.push(utf8(bytes)),
                6 if !judge.matches(utf8(bytes), text) => {
                    broken.push(format!("{text:?} does not match the pattern {}", utf8(bytes)));
                }
                _ => broken.extend(part(number, utf8(bytes), text)),
            },
            Raw::Fixed32(_) | Raw::Fixed64(_) => {}
        }
        if let Raw::Varint(value) = raw {
            broken.extend(format_of(number, value, is_strict, text));
        }
    }
    if !within.is_empty() && !within.contains(&text) {
        broken.push(format!("must be one of {within:?}, is {text:?}"));
    }
    if not_within.contains(&text) {
        broken.push(format!("must not be {text:?}"));
    }
}

fn length(number: u32, limit: u64, text: &str) -> Option<String> {
    let (chars, bytes) = (text.chars().count() as u64, text.len() as u64);
    match number {
        2 | 4 if limit == 1 && text.is_empty() => Some("must not be empty".to_owned()),
        2 if chars < limit => Some(format!("must have at least {limit} characters, has {chars}")),
        3 if chars > limit => Some(format!("must have at most {limit} characters, has {chars}")),
        19 if chars != limit => Some(format!("must have {limit} characters, has {chars}")),
        4 if bytes < limit => Some(format!("must have at least {limit} bytes, has {bytes}")),
        5 if bytes > limit => Some(format!("must have at most {limit} bytes, has {bytes}")),
        20 if bytes != limit => Some(format!("must have {limit} bytes, has {bytes}")),
        _ => None,
    }
}

fn part(number: u32, wanted: &str, text: &str) -> Option<String> {
    match number {
        1 if text != wanted => Some(format!("must be {wanted:?}")),
        7 if !text.starts_with(wanted) => Some(format!("must begin with {wanted:?}")),
        8 if !text.ends_with(wanted) => Some(format!("must end with {wanted:?}")),
        9 if !text.contains(wanted) => Some(format!("must contain {wanted:?}")),
        23 if text.contains(wanted) => Some(format!("must not contain {wanted:?}")),
        _ => None,
    }
}

fn format_of(number: u32, value: u64, is_strict: bool, text: &str) -> Option<String> {
    let is_address = text.parse::<IpAddr>().is_ok();
    let (is_right, what) = match (number, value) {
        (13, 1) => (is_host_name(text), "a host name"),
        (14, 1) => (is_address, "an IP address"),
        (15, 1) => (text.parse::<Ipv4Addr>().is_ok(), "an IPv4 address"),
        (16, 1) => (text.parse::<Ipv6Addr>().is_ok(), "an IPv6 address"),
        (17, 1) => (is_absolute_uri(text), "an absolute URI"),
        (21, 1) => (is_address || is_host_name(text), "a host name or IP address"),
        (24, 1) => (is_header_name(text, is_strict), "a valid HTTP header name"),
        (24, 2) => (is_header_value(text, is_strict), "a valid HTTP header value"),
        _ => return None,
    };
    (!is_right).then(|| format!("{text:?} is not {what}"))
}

fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_absolute_uri(text: &str) -> bool {
    let is_scheme = |scheme: &str| {
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    text.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme))
}

fn is_header_name(text: &str, is_strict: bool) -> bool {
    if !is_strict {
        return is_header_value(text, false);
    }
    let name = text.strip_prefix(':').unwrap_or(text);
    // The comma is no token character, but in the original's character class `+-.` is a range that holds it.
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+,-.^_|~`".contains(&byte))
}

fn is_header_value(text: &str, is_strict: bool) -> bool {
    if is_strict {
        text.bytes().all(|byte| byte == b'\t' || byte >= b' ' && byte != 127)
    } else {
        !text.bytes().any(|byte| matches!(byte, 0 | b'\n' | b'\r'))
    }
}

pub(super) fn judge_bytes(rules: &[u8], value: &[u8], broken: &mut Vec<String>) {
    if value.is_empty() && is_on(rules, 14) {
        return;
    }
    let length = value.len() as u64;
    for record in Reader::new(rules) {
        broken.extend(match record {
            (2, Raw::Varint(limit)) if length < limit => {
                Some(format!("must have at least {limit} bytes, has {length}"))
            }
            (3, Raw::Varint(limit)) if length > limit => Some(format!("must have at most {limit} bytes, has {length}")),
            (13, Raw::Varint(limit)) if length != limit => Some(format!("must have {limit} bytes, has {length}")),
            (5, Raw::Bytes(prefix)) if !value.starts_with(prefix) => Some("has the wrong prefix".to_owned()),
            (6, Raw::Bytes(suffix)) if !value.ends_with(suffix) => Some("has the wrong suffix".to_owned()),
            (10, Raw::Varint(1)) if ![4, 16].contains(&length) => Some("is not an IP address".to_owned()),
            (11, Raw::Varint(1)) if length != 4 => Some("is not an IPv4 address".to_owned()),
            (12, Raw::Varint(1)) if length != 16 => Some("is not an IPv6 address".to_owned()),
            _ => None,
        });
    }
}

fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
