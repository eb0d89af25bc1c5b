//! The pages of the program itself.
//!
//! Reading a configuration runs through more than half of the program's text, and the kernel maps sixteen pages around each one that is touched.
//! Hardly any of it runs again. [`release`] unmaps it all: what is needed after all comes back from the page cache with a minor fault.
//! `server` calls it each time an epoch begins to accept; on reload and on drain nothing happens here.

use std::ffi::c_void;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise};

/// Unmaps the pages of text and constants; returns how many bytes of address space those are (at least a part of which was in memory).
///
/// # Errors
/// If `/proc` is not there, or the kernel refuses: then the pages stay, and nothing else is different.
pub fn release() -> io::Result<usize> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read("/proc/self/maps")?;
    let mut released = 0;
    for range in maps.split(|byte| *byte == b'\n').filter_map(|line| unwritten(line, &program)) {
        let Some(start) = NonNull::new(range.start as *mut c_void) else { continue };
        #[allow(unsafe_code, reason = "advises on mapped memory")]
        // SAFETY: the range is a mapping of this process that the kernel has just named: private, of the program's file, and
        // never writable, so that no page of it differs from the file. Unmapped pages are read from that file again at the
        // next touch, whoever touches them: no reference into them sees other bytes.
        unsafe { madvise(start, range.len(), MmapAdvise::MADV_DONTNEED) }?;
        released += range.len();
    }
    Ok(released)
}

/// The address range of a line of `maps`, if it maps text or constants of `program` that nobody has ever written to. Constants
/// that the loader has relocated are read-only by then, but do not stand at the beginning of the file.
fn unwritten(line: &[u8], program: &Path) -> Option<Range<usize>> {
    let line = line.strip_suffix(program.as_os_str().as_bytes())?;
    let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (range, rights, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let is_ours = rights == "r-xp" || (rights == "r--p" && usize::from_str_radix(offset, 16) == Ok(0));
    // Device and file number follow, and nothing else: a path that merely ends like ours is another.
    if !is_ours || fields.count() != 2 {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_written_to_is_given_back() {
        let program = Path::new("/usr/bin/proxy");
        let line = |text: &str| unwritten(text.as_bytes(), program);
        assert_eq!(line("1000-3000 r--p 00000000 fe:00 77                 /usr/bin/proxy"), Some(0x1000..0x3000));
        assert_eq!(line("3000-9000 r-xp 00002000 fe:00 77                 /usr/bin/proxy"), Some(0x3000..0x9000));
        for other in [
            "9000-a000 r--p 00008000 fe:00 77                 /usr/bin/proxy",
            "a000-b000 rw-p 00009000 fe:00 77                 /usr/bin/proxy",
            "3000-9000 r-xp 00002000 fe:00 77                 /lib/usr/bin/proxy",
            "3000-9000 r-xp 00002000 fe:00 77                 /usr/bin/proxy (deleted)",
            "9000-3000 r-xp 00002000 fe:00 77                 /usr/bin/proxy",
            "3000 r-xp 00002000 fe:00 77                 /usr/bin/proxy",
            "7ffe-8000 r-xp 00000000 00:00 0                  [vdso]",
            "",
        ] {
            assert_eq!(line(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_given_back_still_runs() {
        assert!(release().unwrap() > 0);
        assert!(release().unwrap() > 0, "and again");
    }
}
