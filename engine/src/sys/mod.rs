//! What the machine allows, asked of the kernel: cores, limits, io_uring.
//!
//! The system calls that std does not offer are made in this room only. Nothing in here knows connections or topics.

pub mod affinity;
pub mod limits;
pub mod probe;
pub mod socket;
pub(crate) mod uring;
