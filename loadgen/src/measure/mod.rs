//! What is known about each message and each delivery. Absent: sockets and time sources; times come in as arguments.

pub(crate) mod ledger;
pub(crate) mod recorder;
mod seen;
pub(crate) mod stamp;
pub(crate) mod tally;
pub(crate) mod track;
