//! Which versions of the protocol a side speaks, and the one both use.

use std::fmt;

use super::Error;

/// What this code speaks: the current version and the one before it.
pub const PROTOCOL: Versions = Versions { min: 1, max: 2 };

/// A range of protocol versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Oldest.
    pub min: u32,
    /// Newest.
    pub max: u32,
}

impl Versions {
    /// The newest version that both ranges hold.
    ///
    /// # Errors
    /// [`Error::NoCommonVersion`] when they do not overlap (an empty range overlaps nothing).
    pub fn agree(self, theirs: Self) -> Result<u32, Error> {
        let newest = self.max.min(theirs.max);
        let sound = theirs.min <= theirs.max && newest >= self.min.max(theirs.min);
        if sound { Ok(newest) } else { Err(Error::NoCommonVersion { theirs, ours: self }) }
    }

    /// Whether `Ready` carries the configuration's text in this version.
    pub fn carries_configuration(version: u32) -> bool {
        version >= 2
    }

    /// Whether an epoch of this version can be adopted by another supervisor.
    pub fn can_adopt(version: u32) -> bool {
        version >= 2
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}
