//! Probes: small configurations with known verdicts, most of them real Envoy 1.40's.
//!
//! - `bad/`: one complete configuration, broken in 22 ways; `EXPECT` has the line of each fault.
//! - `ok/`: the configuration unbroken.
//! - `sem/`: how values are read (booleans, numbers, durations, nulls, lists, keys, JSON); `sem_envoy.txt` has the verdicts.
//! - `pgv/`: constraint rules, a good and a bad value each; `pgv_envoy.txt` has the verdicts.
//!
//! They are judged by the schema and its rules alone ([`validate`]): most use what is not supported yet, and `CERTS/` stands
//! for a folder of certificates that nothing here opens.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a panic is the report")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use heirloom::config::load::{Validated, validate};
use heirloom::config::{Diagnostic, Faults, LoadOptions, Source};

mod mutated;

/// Probes on which Envoy says something else than the schema and its rules, and why that is right.
const DISAGREEMENTS: [(&str, &str); 2] = [
    (
        "s21_any_empty.yaml",
        "an `Any` without a type is refused when the extension is looked up, which is the next stage",
    ),
    ("s43_any_wrong_type.yaml", "a type that is no transport socket is refused when the extension is looked up"),
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probes").join(name)
}

fn judge(path: &Path) -> Result<Validated, Faults> {
    validate(&Source { path: Some(path.to_owned()), yaml: None }, &LoadOptions::default())
}

fn lines(name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(folder(name)).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(name, rest)| (name.to_owned(), rest.trim().to_owned())).collect()
}

#[test]
fn every_fault_is_found_alone_and_on_its_line() {
    let mut wrong = Vec::new();
    let expected = lines("bad/EXPECT");
    assert_eq!(expected.len(), 22);
    for (name, line) in expected {
        let line: u32 = line.parse().unwrap();
        let found: Vec<Diagnostic> = match judge(&folder("bad").join(format!("{name}.yaml"))) {
            Ok(validated) => validated.warnings,
            Err(faults) => faults.errors,
        };
        let places: Vec<u32> = found.iter().filter_map(|one| one.position).map(|at| at.line).collect();
        if places != [line] {
            wrong.push(format!("{name}: expected line {line}, found {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_duplicate_key_is_a_warning_as_envoy_takes_the_last() {
    let validated = judge(&folder("bad/11_dup_key.yaml")).unwrap();
    let warnings: Vec<String> = validated.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].ends_with(
            ":179:5: static_resources.clusters[0].lb_policy: duplicate key, first on line 178: the last value counts"
        ),
        "{warnings:?}"
    );
}

#[test]
fn what_is_sound_is_found_sound() {
    for name in ["front.yaml", "front_strict.yaml"] {
        let validated = judge(&folder("ok").join(name)).unwrap_or_else(|faults| panic!("{name}: {faults}"));
        assert!(validated.warnings.is_empty(), "{name}: {:#?}", validated.warnings);
        assert!(!validated.wire.is_empty());
    }
}

#[test]
fn values_are_read_as_envoy_reads_them() {
    compare("sem", 83, &DISAGREEMENTS);
}

#[test]
fn rules_are_those_of_envoy() {
    compare("pgv", 64, &[]);
}

/// Every probe of a folder has a verdict and the other way round, and ours differ from Envoy's exactly where listed.
fn compare(name: &str, count: usize, disagreements: &[(&str, &str)]) {
    let verdicts: BTreeMap<String, String> = lines(&format!("{name}_envoy.txt")).into_iter().collect();
    let files: Vec<String> = std::fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files.len(), count);
    let mut differing = Vec::new();
    for file in &files {
        let envoy_accepts = verdicts[file].starts_with("OK");
        let ours = judge(&folder(name).join(file));
        if ours.is_ok() != envoy_accepts {
            differing.push((file.as_str(), ours));
        }
    }
    differing.sort_by_key(|(file, _)| *file);
    let names: Vec<&str> = differing.iter().map(|(file, _)| *file).collect();
    let known: Vec<&str> = disagreements.iter().map(|(file, _)| *file).collect();
    assert_eq!(names, known, "{differing:#?}");
}
