//! What the control thread has shards do with their gateway connections.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use uuid::Uuid;

use super::{Selector, Tags};

/// A deed for every connection that a selector means.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub selector: Arc<Selector>,
    pub deed: Deed,
    /// Told how many connections were meant, once it is done.
    pub reply: UnboundedSender<usize>,
}

/// What is done.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    /// Nothing: they are counted.
    Count,
    /// This frame is sent; all of them share it.
    Send(Bytes),
    /// These tags are set; an empty value deletes.
    SetTags(Arc<[(Arc<str>, Arc<str>)]>),
    /// This frame, if any, is sent, then Close 1000 `Closed by server`.
    Close(Option<Bytes>),
}

impl Deed {
    /// What it stands for on its way to a shard, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Count | Self::Close(None) => 0,
            Self::Send(frame) | Self::Close(Some(frame)) => frame.len(),
            Self::SetTags(tags) => tags.iter().map(|(name, value)| name.len() + value.len()).sum(),
        }
    }
}

/// All gateway connections of a shard: their ids and tags.
pub(crate) type Listing = Vec<(Uuid, Tags)>;
