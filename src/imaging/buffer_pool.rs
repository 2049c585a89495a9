//! A process-wide pool of large pixel buffers.
//!
//! The kernel clears and maps memory page by page on first touch, and unmaps it with the picture.
//! For 12 megapixels this is a third of the decoding time. So the buffers of dropped pictures are
//! kept, up to a limit, and reused after clearing.

use std::sync::{Mutex, PoisonError};

/// Smaller buffers are not pooled; the allocator caches them itself.
const POOLED_BYTES_MIN: usize = 4 << 20;

static POOL: BufferPool = BufferPool(Mutex::new(Vec::new()));

/// Returns a buffer of `len` zeros, from the pool if one fits.
pub(crate) fn zeroed(len: usize) -> Vec<u8> {
    POOL.zeroed(len)
}

/// Returns an empty buffer with room for `len` bytes, from the pool if one fits.
pub(crate) fn empty(len: usize) -> Vec<u8> {
    POOL.take(len).unwrap_or_else(|| Vec::with_capacity(len))
}

/// Returns a buffer to the pool, and frees the oldest ones until at most `bytes_max` are pooled. A
/// small buffer, or one above `bytes_max`, is freed at once.
pub(crate) fn recycle(buffer: Vec<u8>, bytes_max: u64) {
    POOL.recycle(buffer, bytes_max);
}

/// Unused buffers, oldest first.
struct BufferPool(Mutex<Vec<Vec<u8>>>);

impl BufferPool {
    fn zeroed(&self, len: usize) -> Vec<u8> {
        match self.take(len) {
            Some(mut buffer) => {
                buffer.resize(len, 0);
                buffer
            }
            // Fresh memory from the kernel is already zero.
            None => vec![0; len],
        }
    }

    /// Takes an unused buffer of at least this capacity, and empties it.
    fn take(&self, len: usize) -> Option<Vec<u8>> {
        // A picture must not pin a buffer of many times its size.
        let fits = |buffer: &Vec<u8>| (len..=len.saturating_mul(2)).contains(&buffer.capacity());
        let mut unused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = unused.iter().position(fits).map(|index| unused.remove(index))?;
        drop(unused);
        buffer.clear();
        Some(buffer)
    }

    fn recycle(&self, buffer: Vec<u8>, bytes_max: u64) {
        let len = buffer.capacity();
        if len < POOLED_BYTES_MIN || len as u64 > bytes_max {
            return;
        }
        let mut unused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        unused.push(buffer);
        let mut bytes: u64 = unused.iter().map(|buffer| buffer.capacity() as u64).sum();
        while bytes > bytes_max {
            bytes -= unused.remove(0).capacity() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 5 << 20;

    #[test]
    fn a_recycled_buffer_is_cleared() {
        let pool = BufferPool(Mutex::default());
        let first = vec![7; LEN];
        let address = first.as_ptr();
        pool.recycle(first, 1 << 30);
        let again = pool.zeroed(LEN - 1000);
        assert_eq!((again.as_ptr(), again.len()), (address, LEN - 1000));
        assert!(again.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_oldest_buffers_are_freed_beyond_the_limit() {
        let pool = BufferPool(Mutex::default());
        let pooled = || pool.0.lock().unwrap().iter().map(Vec::len).collect::<Vec<_>>();
        for extra in 0..5 {
            pool.recycle(vec![7; LEN + extra], 2 * LEN as u64 + 100);
        }
        assert_eq!(pooled(), [LEN + 3, LEN + 4]);
        pool.recycle(vec![7; LEN + 5], LEN as u64);
        assert_eq!(pooled(), [LEN + 3, LEN + 4], "a buffer above the limit is not pooled");
    }

    #[test]
    fn a_buffer_of_more_than_twice_the_size_is_not_reused() {
        let pool = BufferPool(Mutex::default());
        pool.recycle(vec![7; LEN], 1 << 30);
        assert!(pool.zeroed(LEN / 3).capacity() < LEN);
        assert!(pool.zeroed(LEN + 1).capacity() > LEN, "a smaller buffer does not fit");
    }
}
