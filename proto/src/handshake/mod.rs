//! The opening handshake (RFC 6455 section 4) over HTTP/1.1 (RFC 9110, RFC 9112), sans-IO, for both sides.
//!
//! `head` reads a request's head and refuses what could be read in two ways; `upgrade` decides whether it asks for a
//! WebSocket; `response` agrees. `client` is the other side. `field` holds the list and token rules that they share.
//! `body` reads what follows the head of a plain request. Absent: routing, origins, and answers other than the 101; these are the server's.

mod body;
mod client;
mod field;
mod head;
mod response;
mod upgrade;

pub use body::{BodyDecoder, BodyError};
pub use client::{Accepted, ClientRequest, RequestError, ResponseError, check_response};
pub use head::{BodyLength, Head, HeadError, HeadLimits, parse_head};
pub use response::accept_response;
pub use upgrade::{Upgrade, UpgradeError, accept_of, check_upgrade};
