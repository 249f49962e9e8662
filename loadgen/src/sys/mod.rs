//! Everything that asks the kernel directly; the only folder with `unsafe`. Absent: any knowledge of WebSockets.

pub(crate) mod clock;
pub(crate) mod epoll;
pub(crate) mod limits;
pub(crate) mod port;
pub(crate) mod procfs;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod terminal;
pub(crate) mod uring;
pub(crate) mod wake;
