//! Keeps the layer table true: reads the sources and fails where a module names something it may not.
//!
//! The table stands in the README too, for people; this one is what counts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a panic is the report")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Module → layer. A module names only modules of lower layers.
const LAYERS: &[(&str, u8)] = &[
    ("fault", 0),
    ("net", 0),
    ("drain", 0),
    ("local", 0),
    ("program", 0),
    ("runtime", 0),
    ("stats", 1),
    ("codec", 1),
    ("config", 1),
    ("matching", 1),
    ("access_log", 2),
    ("route", 2),
    ("tls", 2),
    ("http2", 2),
    ("upstream", 3),
    ("l4", 4),
    ("http", 5),
    ("listener", 6),
    ("admin", 6),
    ("handoff", 6),
    ("server", 7),
    ("cli", 8),
    ("logging", 8),
    ("main", 9),
    ("fuzz", 9),
];

/// Layer 1 reads the shape of settings that the configuration describes; the model is data without a neighbour's behaviour.
const EXCEPTIONS: &[(&str, &str)] =
    &[("stats", "config::model"), ("codec", "config::model"), ("matching", "config::model"), ("logging", "cli::")];

struct Source {
    path: PathBuf,
    /// First component below `src/`.
    module: String,
    /// Without comments and without what follows the first test module.
    code: String,
}

fn sources(root: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&root).unwrap();
                let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
                let module = first.trim_end_matches(".rs").to_owned();
                if relative.file_name().is_some_and(|name| name == "tests.rs") {
                    continue;
                }
                let code = strip(&fs::read_to_string(&path).unwrap());
                found.push(Source { path, module, code });
            }
        }
    }
    assert!(!found.is_empty(), "no sources below {}", root.display());
    found
}

/// Drops comments and everything from the first `#[cfg(test)]` module with a body.
fn strip(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("#[cfg(test)]")
            && lines.peek().is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'))
        {
            break;
        }
        code.push_str(line.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

/// Every `crate::…` path named in the code, `use crate::{a, b}` taken apart.
fn named(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut item = String::new();
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        names.push(std::mem::take(&mut item));
                        continue;
                    }
                    _ => {}
                }
                item.push(letter);
            }
            names.push(item);
        } else {
            names.push(
                rest.chars()
                    .take_while(|letter| letter.is_alphanumeric() || *letter == '_' || *letter == ':')
                    .collect(),
            );
        }
    }
    names.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

#[test]
fn modules_name_only_lower_layers() {
    let layers: BTreeMap<&str, u8> = LAYERS.iter().copied().collect();
    let mut faults = Vec::new();
    for source in sources("src") {
        if source.module == "lib" {
            continue;
        }
        let own =
            *layers.get(source.module.as_str()).unwrap_or_else(|| panic!("{} has no layer", source.path.display()));
        for name in named(&source.code) {
            let module = name.split("::").next().unwrap();
            let Some(&layer) = layers.get(module) else { continue };
            let excused = EXCEPTIONS.iter().any(|(who, what)| *who == source.module && name.starts_with(what));
            if module != source.module && layer >= own && !excused {
                faults.push(format!("{} (layer {own}) names crate::{name} (layer {layer})", source.path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_scanner_sees_what_it_must() {
    assert_eq!(named("use crate::{config::model, net};"), ["config::model", "net"]);
    assert_eq!(named("let x = crate::http::manager::run();"), ["http::manager::run"]);
    assert!(named(&strip("// crate::server\n")).is_empty());
    assert!(named(&strip("#[cfg(test)]\nmod tests {\n    use crate::server;\n}\n")).is_empty());
}

#[test]
fn protobuf_stays_in_the_configuration() {
    // A filter reads its own settings.
    forbid("src", "envoy_types", &["src/config/", "src/http/filters/"]);
}

#[test]
fn unsafe_stays_where_memory_is_mapped_and_descriptors_pass() {
    forbid("src", "unsafe {", &["src/net", "src/program"]);
    forbid("supervisor/src", "unsafe {", &["supervisor/src/shm", "supervisor/src/wire", "supervisor/src/process"]);
}

#[test]
fn nothing_is_wired_through_process_wide_state() {
    for pattern in ["static mut ", "thread_local!", "OnceLock<", "LazyLock<"] {
        // A target of fuzzing keeps what it tries from one input to the next; it is in nothing that is built to be run.
        forbid("src", pattern, &["src/route/fuzz.rs", "src/server/fuzz.rs", "src/stats/fuzz.rs"]);
        forbid("supervisor/src", pattern, &[]);
    }
}

#[test]
fn statistics_are_named_in_one_place() {
    for pattern in [".counter(\"", ".gauge(\"", ".gauge_latest(\"", ".histogram(\""] {
        forbid("src", pattern, &["src/stats"]);
    }
}

#[test]
fn the_proxy_knows_only_what_crosses_the_process_border() {
    for source in sources("src") {
        for (at, _) in source.code.match_indices("heirloom_supervisor::") {
            let rest = &source.code[at + "heirloom_supervisor::".len()..];
            let allowed = ["wire", "shm", "{"].iter().any(|name| rest.starts_with(name));
            assert!(
                allowed,
                "{} uses heirloom_supervisor::{}",
                source.path.display(),
                rest.lines().next().unwrap_or_default()
            );
        }
    }
}

fn forbid(root: &str, pattern: &str, except: &[&str]) {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    for source in sources(root) {
        let relative = source.path.strip_prefix(manifest).unwrap().to_string_lossy().into_owned();
        if except.iter().any(|allowed| relative.starts_with(allowed)) {
            continue;
        }
        assert!(!source.code.contains(pattern), "{relative} contains `{pattern}`");
    }
}
