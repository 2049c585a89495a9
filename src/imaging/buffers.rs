//! Large pixel buffers, kept for the next picture.
//!
//! The kernel hands out the memory of a 12-megapixel picture page by page, each cleared and mapped
//! on first touch, and takes it all back with the picture: a third of the time of decoding. So the
//! buffers of dropped pictures are kept, up to a limit, and handed out again, cleared.

use std::sync::{Mutex, PoisonError};

/// Smaller buffers stay in the allocator's own hands, which keeps them as well.
const WORTH_KEEPING_BYTES: usize = 4 << 20;

/// The buffers of the whole process.
static SPARE: Spare = Spare(Mutex::new(Vec::new()));

/// A buffer of `len` zeros, one that was kept where one fits.
pub(super) fn zeroed(len: usize) -> Vec<u8> {
    SPARE.zeroed(len)
}

/// Keeps a buffer for the next picture, in place of those that wait longest; what is beyond
/// `bytes_max` goes back to the allocator.
pub(super) fn keep(buffer: Vec<u8>, bytes_max: u64) {
    SPARE.keep(buffer, bytes_max);
}

/// Buffers that wait for a picture, the longest waiting first.
struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    fn zeroed(&self, len: usize) -> Vec<u8> {
        // A picture must not pin a buffer of many times its size.
        let fits = |buffer: &Vec<u8>| (len..=len.saturating_mul(2)).contains(&buffer.capacity());
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = waiting.iter().position(fits).map(|index| waiting.remove(index));
        drop(waiting);
        match found {
            Some(mut buffer) => {
                buffer.clear();
                buffer.resize(len, 0);
                buffer
            }
            // Memory from the kernel is zero already.
            None => vec![0; len],
        }
    }

    fn keep(&self, buffer: Vec<u8>, bytes_max: u64) {
        let len = buffer.capacity();
        if len < WORTH_KEEPING_BYTES || len as u64 > bytes_max {
            return;
        }
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(buffer);
        let mut bytes: u64 = waiting.iter().map(|buffer| buffer.capacity() as u64).sum();
        while bytes > bytes_max {
            bytes -= waiting.remove(0).capacity() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 5 << 20;

    #[test]
    fn a_kept_buffer_comes_back_cleared() {
        let spare = Spare(Mutex::default());
        let first = vec![7; LEN];
        let address = first.as_ptr();
        spare.keep(first, 1 << 30);
        let again = spare.zeroed(LEN - 1000);
        assert_eq!((again.as_ptr(), again.len()), (address, LEN - 1000));
        assert!(again.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_longest_waiting_make_room_and_the_limit_holds() {
        let spare = Spare(Mutex::default());
        let kept = || spare.0.lock().unwrap().iter().map(Vec::len).collect::<Vec<_>>();
        for extra in 0..5 {
            spare.keep(vec![7; LEN + extra], 2 * LEN as u64 + 100);
        }
        assert_eq!(kept(), [LEN + 3, LEN + 4]);
        spare.keep(vec![7; LEN + 5], LEN as u64);
        assert_eq!(kept(), [LEN + 3, LEN + 4], "what is larger than the limit is not kept at all");
    }

    #[test]
    fn a_large_buffer_is_not_spent_on_a_small_picture() {
        let spare = Spare(Mutex::default());
        spare.keep(vec![7; LEN], 1 << 30);
        assert!(spare.zeroed(LEN / 3).capacity() < LEN);
        assert!(spare.zeroed(LEN + 1).capacity() > LEN, "and a small one cannot hold a large");
    }
}
