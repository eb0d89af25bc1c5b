//! Runs one target of `heirloom::fuzz` under libFuzzer; `HEIRLOOM_FUZZ` names it.

#![no_main]

use std::sync::LazyLock;

type Target = fn(&[u8]);

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("HEIRLOOM_FUZZ").unwrap_or_default();
    let mut all = heirloom::fuzz::TARGETS.iter().chain(heirloom_supervisor::fuzz::TARGETS);
    match all.find(|(known, _)| *known == name) {
        Some((_, target)) => *target,
        None => {
            eprintln!("HEIRLOOM_FUZZ names no target: '{name}'");
            std::process::exit(2);
        }
    }
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
