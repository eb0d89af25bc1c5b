//! The shared statistics segment.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::memfd::{MFdFlags, memfd_create};

/// How large each part of a segment is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Geometry {}

/// One segment.
#[derive(Debug)]
pub struct Segment {
    file: OwnedFd,
}

impl Segment {
    /// A new segment in anonymous memory.
    ///
    /// # Errors
    /// When the kernel has no memory or no descriptor for it.
    pub fn create(_geometry: Geometry) -> io::Result<Self> {
        let name = CString::new("heirloom-stats").unwrap_or_default();
        let file = memfd_create(name.as_c_str(), MFdFlags::MFD_CLOEXEC)?;
        Ok(Self { file })
    }

    /// A segment that another process made.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub fn attach(file: OwnedFd) -> io::Result<Self> {
        Ok(Self { file })
    }

    /// The descriptor to lend.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Folds the lanes of a dead epoch into the past.
    pub fn fold(&self, _epoch: u64) {}

    /// Folds every lane whose epoch is gone.
    pub fn recover(&self) {}
}
