//! Names of statistics: what tags are in them, and how they are told to others.

use std::cell::OnceCell;

use super::prometheus;
use super::tags::{Rule, RuleValue, Tags};
use super::{Kind, Stat, Value};

thread_local! {
    static TAGS: OnceCell<Tags> = const { OnceCell::new() };
}

fn tags() -> Tags {
    let rules = [
        Rule { name: "fixed".into(), value: RuleValue::Fixed("value".into()) },
        Rule { name: "word".into(), value: RuleValue::Regex(r"^cluster\.((.*?)\.)".into()) },
        Rule { name: "any".into(), value: RuleValue::Regex(r"(_(\d+)x)".into()) },
    ];
    Tags::new(&rules, true).unwrap_or_default()
}

/// A kind, then a name.
pub(crate) fn names(data: &[u8]) {
    let Some((kind, name)) = data.split_first() else { return };
    let Ok(name) = std::str::from_utf8(name) else { return };
    TAGS.with(|known| {
        let known = known.get_or_init(tags);
        let extracted = known.extract(name);
        assert!(extracted.name.len() <= name.len());
        let (kind, value) = match kind & 3 {
            0 => (Kind::Counter, Value::Number(7)),
            1 => (Kind::Gauge, Value::Number(7)),
            2 => (Kind::GaugeLatest, Value::Number(7)),
            _ => (Kind::Histogram, Value::Histogram { sum: 3, bins: Vec::new() }),
        };
        let stat = Stat { name: name.to_owned(), kind, used: true, value };
        let text = prometheus::render(&[stat], known);
        assert!(text.is_ok(), "{:?}", text.err());
        let text = text.unwrap_or_default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let first = line.chars().next().unwrap_or(' ');
            assert!(first.is_ascii_alphabetic() || first == '_' || first == ':', "{line:?}");
        }
    });
}
