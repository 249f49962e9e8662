//! The atomics of the lock-free code: std's in a build, loom's under the feature `loom`.
//!
//! The cfg is our own and not `loom`, because tokio and others change their API under that one. loom sees atomics but
//! not plain memory, so whoever shares plain memory declares its accesses to a [`Touched`].

use std::ops::Range;

#[cfg(feature = "loom")]
pub(crate) use loom::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, fence},
};
#[cfg(not(feature = "loom"))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, fence},
};

/// Stands for shared plain memory, cell by cell: under loom, two accesses to a cell of which one is a write fail the
/// model unless one happens before the other. Nothing at all in a build.
pub(crate) struct Touched {
    #[cfg(feature = "loom")]
    cells: Vec<loom::cell::UnsafeCell<()>>,
}

#[cfg(not(feature = "loom"))]
impl Touched {
    /// Memory of that many cells, untouched.
    #[inline]
    pub(crate) fn new(_cells: usize) -> Self {
        Self {}
    }

    /// The calling thread reads these cells now.
    #[inline]
    pub(crate) fn read(&self, _cells: Range<usize>) {}

    /// The calling thread writes these cells now.
    #[inline]
    pub(crate) fn write(&self, _cells: Range<usize>) {}
}

#[cfg(feature = "loom")]
impl Touched {
    pub(crate) fn new(cells: usize) -> Self {
        Self { cells: (0..cells).map(|_| loom::cell::UnsafeCell::new(())).collect() }
    }

    pub(crate) fn read(&self, cells: Range<usize>) {
        for cell in &self.cells[cells] {
            cell.with(|_| ());
        }
    }

    pub(crate) fn write(&self, cells: Range<usize>) {
        for cell in &self.cells[cells] {
            cell.with_mut(|_| ());
        }
    }
}
