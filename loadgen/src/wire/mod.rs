//! The generator's own WebSocket codec. It shares no code with the server's, so that an error in one cannot hide an
//! error in the other. Nothing in here opens a socket.

pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod message;
pub(crate) mod tls;
pub(crate) mod url;
