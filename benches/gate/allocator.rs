//! The system's allocator, counting what is asked of it while [`count`] runs. One thread counts at a time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static FREES: AtomicU64 = AtomicU64::new(0);
static HELD_BYTES: AtomicI64 = AtomicI64::new(0);

/// What was asked of the allocator.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked {
    /// A reallocation is one of each.
    pub allocations: u64,
    pub frees: u64,
    /// Bytes allocated and not freed; what was allocated outside and freed inside counts too.
    pub held_bytes: i64,
}

/// Everything that was counted so far.
pub(crate) fn asked() -> Asked {
    Asked { allocations: ALLOCATIONS.load(Relaxed), frees: FREES.load(Relaxed), held_bytes: HELD_BYTES.load(Relaxed) }
}

/// Counts while `work` runs.
pub(crate) fn count(work: impl FnOnce()) {
    IS_COUNTING.store(true, Relaxed);
    work();
    IS_COUNTING.store(false, Relaxed);
}

fn note(allocated: Option<usize>, freed: Option<usize>) {
    if IS_COUNTING.load(Relaxed) {
        ALLOCATIONS.fetch_add(u64::from(allocated.is_some()), Relaxed);
        FREES.fetch_add(u64::from(freed.is_some()), Relaxed);
        HELD_BYTES.fetch_add(allocated.unwrap_or(0) as i64 - freed.unwrap_or(0) as i64, Relaxed);
    }
}

// SAFETY: everything is left to the system's allocator; `note` does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(Some(layout.size()), None);
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(Some(layout.size()), None);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(Some(bytes), Some(layout.size()));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(None, Some(layout.size()));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}
