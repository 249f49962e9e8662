//! What an endpoint does with a message. A mode decides about the opening handshake, hears of opened connections,
//! messages and ends, and acts through [`Actions`]; it knows no sockets and nothing in here awaits.
//!
//! A new mode is a file beside these and a line in [`build`]; `net/` does not change.

mod actions;
mod chat;
mod echo;
mod gateway;
mod relay;

use std::any::Any;
use std::net::SocketAddr;

use proto::Message;
use proto::handshake::Head;

use crate::config::{EndpointConfig, Mode as Kind};
use crate::counters::{Ended, Refused};

pub(crate) use actions::Actions;

/// A valid opening handshake, before it is agreed to.
pub(crate) struct Request<'a> {
    pub head: &'a Head<'a>,
    /// The request's path with percent-escapes decoded.
    pub path: &'a str,
    /// The client's address.
    pub peer: SocketAddr,
}

/// A mode's yes to a handshake.
#[derive(Default)]
pub(crate) struct Admission {
    /// The topic that the connection hears from its 101 on.
    pub topic: Option<String>,
    /// The name it wants in the topic; the home gives it that or another. Only for modes with [`Mode::members`].
    pub member: Option<Box<str>>,
    /// What the mode keeps for the connection.
    pub state: Option<Box<dyn Any>>,
}

/// A no to a handshake: an HTTP status, why, and what to count.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub status: u16,
    pub counted: Refused,
    pub text: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, counted: Refused, text: impl Into<String>) -> Self {
        Self { status, counted, text: text.into() }
    }

    pub(crate) fn malformed(text: impl Into<String>) -> Self {
        Self::new(400, Refused::Malformed, text)
    }
}

/// What becomes of a member of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    Joined,
    Left,
}

/// Customs of topics whose subscribers have names. Asked at the topic's home.
pub(crate) trait Members {
    /// True for names that nobody may have.
    fn is_reserved(&self, name: &str) -> bool;

    /// What everybody hears of a member.
    fn notice(&self, name: &str, change: Membership) -> String;
}

/// What a mode is. All calls come from the connection's shard, in the order of the connection's frames.
pub(crate) trait Mode {
    /// Decides about a handshake.
    fn admit(&self, request: &Request<'_>) -> Result<Admission, Refusal>;

    /// The customs among the members of its topics, if they have members.
    fn members(&self) -> Option<&dyn Members> {
        None
    }

    /// The connection has a name in its topic; [`Mode::opened`] follows.
    fn named(&self, _actions: &mut Actions<'_>, _name: &str) {}

    /// The 101 is on its way and the subscription, if any, stands.
    fn opened(&self, _actions: &mut Actions<'_>) {}

    /// A whole valid message.
    fn message(&self, actions: &mut Actions<'_>, message: Message<'_>);

    /// A delayed reply was put into the outbox.
    fn replied(&self, _actions: &mut Actions<'_>) {}

    /// The connection has ended: nothing can be sent to it any more, its state is taken apart after this.
    fn closed(&self, _actions: &mut Actions<'_>, _reason: Ended) {}
}

/// The mode of an endpoint.
pub(crate) fn build(config: &EndpointConfig) -> Box<dyn Mode> {
    match config.mode {
        Kind::Relay => Box::new(relay::Relay),
        Kind::Chat => Box::new(chat::Chat::new(config)),
        Kind::Echo => Box::new(echo::Echo),
        Kind::Gateway => Box::new(gateway::Gateway::new(config)),
    }
}
