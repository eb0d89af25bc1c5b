//! Whatever is done to a configuration, loading it ends with a verdict.

use heirloom::config::dump::{self, Options};
use heirloom::config::{LoadOptions, Source, load};

use super::folder;

/// A small generator, so that a failure can be had again: xorshift with the seed in the message.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap()
    }
}

const TOKENS: [&str; 26] = [
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "\"",
    "'",
    "\n",
    "  ",
    "&a ",
    "*a",
    "!ignore ",
    "null",
    "1e999",
    "-1",
    "\"@type\": ",
    "\u{e9}",
    "|",
    ">",
    "\t",
    "\\u12",
    "0x",
    "~",
    "\u{0}",
    "? ",
];

fn mutate(text: &str, random: &mut Random) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(4) {
        let at = random.below(letters.len());
        match random.below(4) {
            0 if !letters.is_empty() => {
                letters.remove(at);
            }
            1 => {
                letters.splice(at..at, TOKENS[random.below(TOKENS.len())].chars());
            }
            2 => {
                let to = (at + random.below(40)).min(letters.len());
                letters.drain(at..to);
            }
            _ if !letters.is_empty() => {
                let other = random.below(letters.len());
                letters.swap(at, other);
            }
            _ => {}
        }
    }
    letters.into_iter().collect()
}

fn load_text(text: String) -> Option<Vec<u8>> {
    load(&Source { path: None, yaml: Some(text) }, &LoadOptions::default()).ok().map(|loaded| loaded.wire)
}

#[test]
fn mutated_configurations_get_a_verdict() {
    let mut texts = Vec::new();
    for name in ["ok", "sem", "../../configs"] {
        for entry in std::fs::read_dir(folder(name)).unwrap() {
            texts.push(std::fs::read_to_string(entry.unwrap().path()).unwrap());
        }
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut sound = 0;
    for _ in 0..6000 {
        let text = mutate(&texts[random.below(texts.len())], &mut random);
        if let Some(mut wire) = load_text(text) {
            sound += 1;
            dump::bootstrap(&wire, Options::default());
            // What a broken management server might send.
            for _ in 0..=random.below(6) {
                let at = random.below(wire.len());
                match random.below(3) {
                    0 if !wire.is_empty() => wire[at] = u8::try_from(random.below(256)).unwrap(),
                    1 if !wire.is_empty() => {
                        wire.remove(at);
                    }
                    _ => wire.insert(at, u8::try_from(random.below(256)).unwrap()),
                }
            }
            dump::bootstrap(&wire, Options { pretty: false, redact: true });
        }
    }
    assert!(sound > 0, "no mutation left a sound configuration: nothing was tested");
}

/// Ten lines that stand for a billion values.
fn alias_bomb(leaf: &str) -> String {
    let mut text = format!("!ignore z:\n  a0: &a0 {leaf}\n");
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(",");
        text += &format!("  a{level}: &a{level} [{aliases}]\n");
    }
    text
}

#[test]
fn hostile_texts_are_refused_in_time() {
    let chain: String = (1..20_000).map(|level| format!("  a{level}: &a{level} [*a{}]\n", level - 1)).collect();
    let chain = format!("!ignore z:\n  a0: &a0 [x]\n{chain}");
    let long = "x".repeat(1 << 20);
    let copies = "*a, ".repeat(1000);
    let hostile = [
        ("deep lists", format!("static_resources: {}{}", "[".repeat(5000), "]".repeat(5000))),
        ("deep maps", format!("{}x{}", "{a: ".repeat(5000), "}".repeat(5000))),
        ("deep struct", format!("node: {{metadata: {}1{}}}", "{a: ".repeat(150), "}".repeat(150))),
        ("bomb in a struct", format!("{}node: {{metadata: {{x: *a9}}}}\n", alias_bomb("[x]"))),
        ("bomb in a list", format!("{}static_resources: {{clusters: *a9}}\n", alias_bomb("[{}]"))),
        ("bomb of nothing", format!("{}static_resources: {{clusters: *a9}}\n", alias_bomb("[]"))),
        ("long alias chain", format!("{chain}static_resources: {{clusters: *a19999}}\n")),
        ("long string many times", format!("!ignore z: &a {long}\nnode: {{client_features: [{copies}]}}\n")),
        ("cycle", "node: &a {metadata: {x: *a}}".to_owned()),
        ("unclosed flow", "{".repeat(100_000)),
        ("nothing but dashes", "- ".repeat(100_000)),
    ];
    for (name, text) in hostile {
        let fault = load(&Source { path: None, yaml: Some(text) }, &LoadOptions::default()).unwrap_err();
        assert!(!fault.errors.is_empty() && fault.errors.len() <= 502, "{name}: {} errors", fault.errors.len());
    }
}

#[test]
fn hostile_json_is_refused_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep.json");
    for text in [format!("{}1{}", "{\"node\":".repeat(5000), "}".repeat(5000)), "[".repeat(1 << 20)] {
        std::fs::write(&path, text).unwrap();
        let source = Source { path: Some(path.clone()), yaml: None };
        assert!(load(&source, &LoadOptions::default()).is_err());
    }
}
