//! Relay: every message goes to every connection of the same topic, opcode kept, payload untouched.
//!
//! The topic is the path with its captures filled in; the query does not matter (CONTRACT: topics by path).

use proto::Message;

use super::{Actions, Admission, Mode, Refusal, Request};

pub(super) struct Relay;

impl Mode for Relay {
    fn admit(&self, request: &Request<'_>) -> Result<Admission, Refusal> {
        Ok(Admission { topic: Some(request.path.to_owned()), ..Admission::default() })
    }

    fn message(&self, actions: &mut Actions<'_>, message: Message<'_>) {
        actions.publish(message.opcode, message.payload);
    }
}
