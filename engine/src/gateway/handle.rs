//! What hooks and control routes do to connections: select them, count them, send, set tags, close.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use proto::{Opcode, encode};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::order::{Deed, Listing};
use super::{Selector, Tags};
use crate::control::conductor::Command;

/// Reaches every gateway connection of the server, from any thread, at any time; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle(UnboundedSender<Command>);

impl Handle {
    pub(crate) fn new(commands: UnboundedSender<Command>) -> Self {
        Self(commands)
    }

    /// Counts the connections that the selector means.
    pub fn count(&self, selector: Selector) -> Answer<usize> {
        self.order(selector, Deed::Count)
    }

    /// Sends a text message to them. Gives their number; those that do not read what they are sent may still be cut off.
    pub fn send_text(&self, selector: Selector, text: &str) -> Answer<usize> {
        self.order(selector, Deed::Send(frame(Opcode::Text, text.as_bytes())))
    }

    /// Sends a binary message to them. Gives their number.
    pub fn send_binary(&self, selector: Selector, body: &[u8]) -> Answer<usize> {
        self.order(selector, Deed::Send(frame(Opcode::Binary, body)))
    }

    /// Sets tags of theirs; an empty value deletes one. Gives their number, once every later selector and event sees it.
    ///
    /// # Errors
    /// A tag called `id`, or one without a name.
    pub fn set_tags(&self, selector: Selector, tags: &[(&str, &str)]) -> Result<Answer<usize>, BadTag> {
        if let Some((name, _)) = tags.iter().find(|(name, _)| name.is_empty() || *name == "id") {
            return Err(if name.is_empty() { BadTag::Nameless } else { BadTag::Id });
        }
        let tags: Vec<_> = tags.iter().map(|(name, value)| (Arc::from(*name), Arc::from(*value))).collect();
        Ok(self.order(selector, Deed::SetTags(tags.into())))
    }

    /// Closes them with 1000 `Closed by server`, after a last text message if one is given. Gives their number.
    pub fn close(&self, selector: Selector, last: Option<&str>) -> Answer<usize> {
        self.order(selector, Deed::Close(last.map(|text| frame(Opcode::Text, text.as_bytes()))))
    }

    /// All connections with their tags, in no order.
    pub fn list(&self) -> Answer<Vec<(Uuid, Tags)>> {
        let (reply, answer) = oneshot::channel::<Listing>();
        // Failure is what the answer then says.
        let _ = self.0.send(Command::List(reply));
        Answer(answer)
    }

    pub(crate) fn order(&self, selector: Selector, deed: Deed) -> Answer<usize> {
        let (reply, answer) = oneshot::channel();
        let _ = self.0.send(Command::Order { selector: Arc::new(selector), deed, reply });
        Answer(answer)
    }
}

/// A message as the one frame that all its receivers share.
pub(crate) fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(payload.len() + proto::HEADER_BYTES_MAX);
    encode::server_frame(&mut frame, opcode, payload);
    frame.into()
}

/// Comes when all shards have answered: await it, or, on a thread of one's own, [`Answer::wait`].
#[derive(Debug)]
#[must_use = "without it nobody knows whether it was done"]
pub struct Answer<T>(oneshot::Receiver<T>);

impl<T> Answer<T> {
    /// Blocks until the answer is there.
    ///
    /// # Errors
    /// The server is shutting down, or a shard did not answer within 5 s.
    ///
    /// # Panics
    /// In asynchronous code, hooks included: these await it.
    pub fn wait(self) -> Result<T, Unanswered> {
        self.0.blocking_recv().map_err(|_| Unanswered)
    }
}

impl<T> Future for Answer<T> {
    type Output = Result<T, Unanswered>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| Unanswered)
    }
}

/// The server is shutting down, or a shard did not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unanswered;

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server is shutting down or overloaded")
    }
}

impl std::error::Error for Unanswered {}

/// Why tags cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadTag {
    /// `id` selects by id; no tag can have this name.
    Id,
    /// The name is empty.
    Nameless,
}

impl fmt::Display for BadTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Id => "a tag cannot be called id",
            Self::Nameless => "a tag needs a name",
        })
    }
}

impl std::error::Error for BadTag {}
