//! Rust code in the place of an application: it hears of every event, in this process.

use std::net::SocketAddr;

use bytes::Bytes;
use uuid::Uuid;

use super::{Handle, Tags};

/// Hears what gateway connections do.
///
/// All calls come from the control thread, one at a time, the events of a connection in their order, before they go to the
/// event streams. They must not block: what takes long belongs to a task (`tokio::spawn` works in all of them) or to a
/// thread of one's own, with a clone of the handle.
///
/// ```
/// use engine::gateway::{Connection, Handle, Hooks, Selector};
///
/// /// Greets everybody.
/// #[derive(Default)]
/// struct Greeter(Option<Handle>);
///
/// impl Hooks for Greeter {
///     fn start(&mut self, handle: Handle) {
///         self.0 = Some(handle);
///     }
///
///     fn open(&mut self, connection: &Connection<'_>) {
///         let Some(handle) = self.0.clone() else { return };
///         let id = connection.id;
///         tokio::spawn(async move { handle.send_text(Selector::Ids(vec![id]), "hello").await });
///     }
/// }
/// ```
pub trait Hooks: Send + 'static {
    /// The server starts; the handle works from now on and may be kept.
    fn start(&mut self, _handle: Handle) {}

    /// A connection was opened by a client at `peer`. It can be selected already.
    fn open(&mut self, _connection: &Connection<'_>) {}

    /// It sent a message.
    fn message(&mut self, _connection: &Connection<'_>, _message: &Received) {}

    /// It has ended; these were its tags.
    fn close(&mut self, _connection: &Connection<'_>) {}
}

/// The connection that an event is about.
#[derive(Debug)]
pub struct Connection<'a> {
    /// Its id.
    pub id: Uuid,
    /// Its tags, as of the event.
    pub tags: &'a Tags,
    /// The endpoint's path, as configured.
    pub path: &'a str,
    /// The client's address; known when it is opened.
    pub peer: Option<SocketAddr>,
}

/// A message from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A text message: valid UTF-8.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
}
