//! The waist between sockets and the rest: what a backend reports, whichever it is.

use std::io;

/// One thing that happened to a registered descriptor.
#[derive(Debug)]
pub(crate) enum Ready {
    /// `len` bytes arrived; they stand in the port's buffer until the next call.
    Bytes { slot: u32, len: usize },
    /// The socket takes bytes (again), or its connect has ended.
    Writable { slot: u32 },
    /// No byte will come any more: an orderly end, or the error that broke the connection.
    End { slot: u32, error: Option<io::Error> },
    /// A descriptor that is no stream became readable.
    Readable,
}
