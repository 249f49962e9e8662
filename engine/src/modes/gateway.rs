//! Gateway: what clients do becomes events for the applications behind; these answer through the control routes.

use proto::{Message, Payload};

use super::{Actions, Admission, Mode, Refusal, Request};
use crate::config::EndpointConfig;
use crate::counters::Ended;
use crate::gateway::Tags;

pub(super) struct Gateway {
    /// What every connection begins with; shared until one's are changed.
    tags: Tags,
}

impl Gateway {
    pub(super) fn new(config: &EndpointConfig) -> Self {
        Self { tags: config.set_tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect() }
    }
}

impl Mode for Gateway {
    fn admit(&self, _request: &Request<'_>) -> Result<Admission, Refusal> {
        Ok(Admission::default())
    }

    fn opened(&self, actions: &mut Actions<'_>) {
        actions.enter_gateway(self.tags.clone());
    }

    fn message(&self, actions: &mut Actions<'_>, message: Message<'_>) {
        let body = match message.payload {
            Payload::Slice(bytes) => bytes::Bytes::copy_from_slice(bytes),
            Payload::Owned(owned) => owned.into_payload(),
        };
        actions.tell(message.opcode, body);
    }

    fn closed(&self, actions: &mut Actions<'_>, _reason: Ended) {
        actions.leave_gateway();
    }
}
