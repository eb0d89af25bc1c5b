//! Every parser as a function over bytes: what `tests/fuzz` runs under libFuzzer, and what the test below runs over everything that was ever found.
//!
//! A target panics when something is wrong with the parser, and only then. Built for tests and with the feature `fuzzing` alone.

use crate::wire::frame::{Opened, open, seal};
use crate::{run, settings, shm};

/// Tries a parser with some bytes.
pub type Target = fn(&[u8]);

/// Name and function of each target. Its seeds stand in `tests/fuzz/seeds/NAME`.
pub const TARGETS: &[(&str, Target)] = &[
    ("lineage", run::fuzz_lineage),
    ("recipes", run::fuzz_recipes),
    ("segment", shm::fuzz::segment),
    ("settings", settings::fuzz),
    ("wire", wire),
];

/// How many descriptors came along, and a frame.
fn wire(data: &[u8]) {
    let Some((descriptors, frame)) = data.split_first() else { return };
    let descriptors = usize::from(*descriptors);
    let Ok(Opened::Known(message)) = open(frame, descriptors) else { return };
    let again = seal(&message, descriptors);
    let again = again.as_deref().map(|again| open(again, descriptors));
    assert!(matches!(&again, Ok(Ok(Opened::Known(again))) if *again == message), "{again:?} after {message:?}");
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::TARGETS;

    /// Seeds and what was found, through the targets that found it.
    #[test]
    fn every_seed_passes() {
        for (name, target) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds").join(name);
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
}
