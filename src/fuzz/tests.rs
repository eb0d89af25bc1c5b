use std::fs;
use std::path::Path;

use super::TARGETS;

/// Seeds and what was found, through the targets that found it.
#[test]
fn every_seed_passes() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(name);
        let seeds = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut count = 0;
        for seed in seeds {
            let path = seed.unwrap().path();
            // What fails is known by the line before it.
            println!("{}", path.display());
            target(&fs::read(path).unwrap());
            count += 1;
        }
        assert!(count >= 3, "{name} has {count} seeds");
    }
}

/// Any input may be cut short.
#[test]
fn no_target_minds_short_inputs() {
    for (name, target) in TARGETS {
        println!("{name}");
        for length in 0..4 {
            for byte in [0, 1, 7, 0x41, 0xff] {
                target(&vec![byte; length]);
            }
        }
    }
}
