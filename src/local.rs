//! What a worker has exactly one of: a timer wheel and read blocks.
//!
//! Connections borrow from here instead of owning: a parked connection has no timer of the runtime and no buffer, a busy one holds a
//! block only while there are bytes in it. All of it is single-threaded; [`Local`] is cloned into whatever a worker builds.
//! Nothing here outlives the worker, so neither a reload nor a drain touches it.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

pub mod timer;

pub use timer::{Deadline, Timer, Timers};

/// Capacity of a read block in bytes: a whole head of common size, or a fair slice of a body.
pub const BLOCK: usize = 32 * 1024;

/// Free blocks that are kept; between two waits a task uses one or two, so more are seldom free.
const FREE_BLOCKS: usize = 16;
/// Blocks that are kept although slices still share them: most often the head of a message, which is gone before the next
/// block is wanted.
const SHARED_BLOCKS: usize = 4;

/// The worker's one of each. Clones are the same.
#[derive(Clone)]
pub struct Local {
    inner: Rc<Inner>,
}

struct Inner {
    timers: Timers,
    blocks: RefCell<Blocks>,
}

#[derive(Default)]
struct Blocks {
    free: Vec<BytesMut>,
    /// Given back while slices of them were in use.
    shared: Vec<BytesMut>,
}

impl Default for Local {
    fn default() -> Self {
        Self::new()
    }
}

impl Local {
    /// For one worker; whoever makes it also spawns [`Timers::run`].
    pub fn new() -> Self {
        Self { inner: Rc::new(Inner { timers: Timers::new(), blocks: RefCell::default() }) }
    }

    /// The timer wheel.
    pub fn timers(&self) -> &Timers {
        &self.inner.timers
    }

    /// An empty buffer of [`BLOCK`] bytes to read into.
    pub fn block(&self) -> BytesMut {
        let mut blocks = self.inner.blocks.borrow_mut();
        blocks.take().unwrap_or_else(|| BytesMut::with_capacity(BLOCK))
    }

    /// Takes a buffer's memory back. What is still in it is forgotten; memory that slices share is used again when they are
    /// gone, or left to them where there is much of it.
    pub fn give(&self, mut buffer: BytesMut) {
        buffer.clear();
        self.inner.blocks.borrow_mut().give(buffer);
    }

    /// Reads into `buffer`, lending it a block where it has no room. `Ready(Ok(0))` is the end of the stream. Before it waits
    /// the buffer is settled ([`Self::settle`]).
    pub fn poll_fill(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        if buffer.is_empty() && buffer.capacity() < BLOCK / 2 {
            *buffer = self.block();
        } else if buffer.capacity() - buffer.len() < BLOCK / 4 {
            buffer.reserve(BLOCK / 2);
        }
        let filled = pin!(stream.read_buf(buffer)).poll(context);
        if filled.is_pending() {
            self.settle(buffer);
        }
        filled
    }

    /// Before a wait: an empty buffer goes back, and a few bytes in a large block move to a small one, so that a peer which
    /// sends a byte and stops does not hold a block.
    pub fn settle(&self, buffer: &mut BytesMut) {
        if buffer.is_empty() {
            if buffer.capacity() > 0 {
                self.give(std::mem::take(buffer));
            }
        } else if buffer.capacity() >= BLOCK / 2 && buffer.len() < BLOCK / 8 {
            let small = BytesMut::from(&buffer[..]);
            self.give(std::mem::replace(buffer, small));
        }
    }
}

impl Blocks {
    fn take(&mut self) -> Option<BytesMut> {
        self.free.pop().or_else(|| {
            let at = self.shared.iter_mut().rposition(|block| block.try_reclaim(BLOCK))?;
            Some(self.shared.swap_remove(at))
        })
    }

    fn give(&mut self, mut buffer: BytesMut) {
        if buffer.try_reclaim(BLOCK) {
            if self.free.len() < FREE_BLOCKS {
                self.free.push(buffer);
            }
        } else if buffer.capacity() >= BLOCK / 2 {
            // The oldest is the one whose slices last long.
            if self.shared.len() == SHARED_BLOCKS {
                self.shared.remove(0);
            }
            self.shared.push(buffer);
        }
    }
}

/// A value that is handed on once: what a task leaves for another one of the same thread, which waits for it.
pub struct Slot<T> {
    value: Cell<Option<T>>,
    waker: Cell<Option<Waker>>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { value: Cell::new(None), waker: Cell::new(None) }
    }
}

impl<T> Slot<T> {
    /// Leaves a value and wakes whoever waits.
    pub fn put(&self, value: T) {
        self.value.set(Some(value));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Takes the value, or waits for it.
    pub fn poll_take(&self, context: &mut Context<'_>) -> Poll<T> {
        match self.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                self.waker.set(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }

    /// Takes the value if it is there.
    pub fn take(&self) -> Option<T> {
        self.value.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_comes_back_whole() {
        let local = Local::new();
        let mut block = local.block();
        block.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
        let head = block.split_to(10).freeze();
        drop(head);
        local.settle(&mut block);
        assert!(block.capacity() < 64, "a few bytes moved to a small buffer");
        assert_eq!(local.inner.blocks.borrow().free.len(), 1);
        assert!(local.block().capacity() >= BLOCK);
        assert!(local.inner.blocks.borrow().free.is_empty());
    }

    #[test]
    fn a_shared_block_is_used_again_when_its_slices_are_gone() {
        let local = Local::new();
        let mut block = local.block();
        block.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
        let memory = block.as_ptr();
        let head = block.split_to(10).freeze();
        local.give(block);
        assert_ne!(local.block().as_ptr(), memory);
        assert_eq!(&head[..], b"GET / HTTP");
        drop(head);
        let again = local.block();
        assert_eq!(again.as_ptr(), memory);
        assert!(again.is_empty() && again.capacity() >= BLOCK);
    }

    #[test]
    fn shared_blocks_are_not_hoarded() {
        let local = Local::new();
        let heads: Vec<_> = (0..2 * SHARED_BLOCKS)
            .map(|_| {
                let mut block = local.block();
                block.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
                let head = block.split_to(10).freeze();
                local.give(block);
                head
            })
            .collect();
        assert_eq!(local.inner.blocks.borrow().shared.len(), SHARED_BLOCKS);
        assert!(heads.iter().all(|head| head == "GET / HTTP"));
    }
}
