//! Mapped memory as atomic words: the only place where a pointer comes from.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64};

use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

/// Bytes in a page, as far as the layout is concerned: what is cleared and given back is a multiple of it.
pub(super) const PAGE: usize = 4096;

/// Zeroed memory that stays where it is until it is dropped. Pages that nobody touched cost nothing.
pub(super) struct Map {
    base: NonNull<u8>,
    len: usize,
    backing: Backing,
}

enum Backing {
    /// A sealed memory file, shared with whoever has the descriptor.
    File(OwnedFd),
    /// Private anonymous memory.
    Anonymous,
    /// The allocator's.
    Heap,
}

#[allow(unsafe_code, reason = "the memory is only ever reached through atomics")]
// SAFETY: a `Map` hands out nothing but shared references to atomics within its own memory, which any thread may use;
// the memory is freed only when the value is dropped, and `munmap` and the allocator may be called from any thread.
unsafe impl Send for Map {}
#[allow(unsafe_code, reason = "the memory is only ever reached through atomics")]
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// A new memory file of `len` bytes that can neither shrink nor grow.
    pub(super) fn file(len: usize) -> io::Result<Self> {
        let file = memfd_create(c"heirloom-stats", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        nix::unistd::ftruncate(&file, i64::try_from(len).map_err(io::Error::other)?)?;
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL))?;
        Self::of_file(file, len)
    }

    /// The memory file of another process. Its size must be sealed: a file that shrinks under a mapping kills whoever
    /// reads it.
    pub(super) fn attach(file: OwnedFd) -> io::Result<Self> {
        let seals = SealFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GET_SEALS)?);
        if !seals.contains(SealFlag::F_SEAL_SHRINK) {
            return Err(io::Error::other("the size of the file is not sealed"));
        }
        let len = usize::try_from(nix::sys::stat::fstat(&file)?.st_size).map_err(io::Error::other)?;
        Self::of_file(file, len)
    }

    fn of_file(file: OwnedFd, len: usize) -> io::Result<Self> {
        #[allow(unsafe_code, reason = "maps memory")]
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing of ours; that other processes
        // write it too is why it is only reached through atomics. Its size is sealed, so no access within `len` can
        // fault.
        let base = unsafe {
            mmap(None, length(len)?, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, &file, 0)?
        };
        Ok(Self { base: base.cast(), len, backing: Backing::File(file) }.advised())
    }

    /// Private memory that reserves nothing.
    pub(super) fn anonymous(len: usize) -> io::Result<Self> {
        #[allow(unsafe_code, reason = "maps memory")]
        // SAFETY: a new private mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe {
            mmap_anonymous(
                None,
                length(len)?,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
            )?
        };
        Ok(Self { base: base.cast(), len, backing: Backing::Anonymous }.advised())
    }

    /// Memory of the allocator, for what is small or must not fail.
    pub(super) fn heap(len: usize) -> Self {
        let words: Box<[u64]> = vec![0; len.div_ceil(8).max(1)].into_boxed_slice();
        let len = words.len() * 8;
        let base = NonNull::from(Box::leak(words)).cast();
        Self { base, len, backing: Backing::Heap }
    }

    /// A huge page for one counter would be a high price; and nobody wants gigabytes of holes in a core file.
    fn advised(self) -> Self {
        for advice in [MmapAdvise::MADV_NOHUGEPAGE, MmapAdvise::MADV_DONTDUMP] {
            #[allow(unsafe_code, reason = "advises on mapped memory")]
            // SAFETY: the range is exactly this mapping, and neither advice changes its contents. A kernel that does
            // not know the advice refuses it, which is no harm.
            let _ = unsafe { madvise(self.base.cast(), self.len, advice) };
        }
        self
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.backing {
            Backing::File(file) => Some(file.as_fd()),
            Backing::Anonymous | Backing::Heap => None,
        }
    }

    /// `count` words from byte `offset` on; `None` where that is not within the memory or not aligned.
    pub(super) fn words(&self, offset: usize, count: usize) -> Option<&[AtomicU64]> {
        let end = count.checked_mul(8)?.checked_add(offset)?;
        if end > self.len || !offset.is_multiple_of(8) {
            return None;
        }
        #[allow(unsafe_code, reason = "the mapped memory as atomic words")]
        // SAFETY: the range was just checked to lie within the mapping, which lives as long as `self`; the base of a
        // mapping is page-aligned and that of the heap 8-aligned, so the words are aligned; every bit pattern is a
        // valid `AtomicU64`, and the words are only ever accessed as such, here and in other processes.
        Some(unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset).cast::<AtomicU64>(), count) })
    }

    /// `count` bytes from `offset` on. Used for the names only, which are never read as words.
    pub(super) fn bytes(&self, offset: usize, count: usize) -> Option<&[AtomicU8]> {
        if offset.checked_add(count)? > self.len {
            return None;
        }
        #[allow(unsafe_code, reason = "the mapped memory as atomic bytes")]
        // SAFETY: as for `words`; bytes need no alignment.
        Some(unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset).cast::<AtomicU8>(), count) })
    }

    /// Zeroes whole pages and gives them back to the system; `false` where that cannot be done and the caller must
    /// write zeroes.
    pub(super) fn discard(&self, offset: usize, len: usize) -> bool {
        if !offset.is_multiple_of(PAGE)
            || !len.is_multiple_of(PAGE)
            || offset.checked_add(len).is_none_or(|end| end > self.len)
        {
            return false;
        }
        match &self.backing {
            Backing::File(file) => {
                let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return false };
                let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                fallocate(file, mode, offset, len).is_ok()
            }
            Backing::Anonymous => {
                #[allow(unsafe_code, reason = "zeroes private memory")]
                // SAFETY: the range lies within this private anonymous mapping, where the advice means that its words
                // become zero: a change that concurrent atomic readers may see like any other store.
                unsafe {
                    madvise(self.base.add(offset).cast(), len, MmapAdvise::MADV_DONTNEED).is_ok()
                }
            }
            Backing::Heap => false,
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        match self.backing {
            Backing::File(_) | Backing::Anonymous => {
                #[allow(unsafe_code, reason = "unmaps memory")]
                // SAFETY: the range is the mapping made by this value, and no reference into it outlives the value.
                let _ = unsafe { munmap(self.base.cast(), self.len) };
            }
            Backing::Heap => {
                let words = std::ptr::slice_from_raw_parts_mut(self.base.as_ptr().cast::<u64>(), self.len / 8);
                #[allow(unsafe_code, reason = "frees what `heap` took")]
                // SAFETY: the pointer and the length are those of the boxed slice that `heap` turned into a raw
                // pointer.
                drop(unsafe { Box::from_raw(words) });
            }
        }
    }
}

fn length(len: usize) -> io::Result<NonZeroUsize> {
    NonZeroUsize::new(len).ok_or_else(|| io::Error::other("an empty mapping"))
}
