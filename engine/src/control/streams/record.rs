//! An event as the targets share it: once in memory, however many of them wait to write it.

use std::cell::OnceCell;
use std::rc::Rc;

use uuid::Uuid;

use super::encode;
use super::extract::{self, Variables};
use super::state::{Removal, Ticket};
use crate::gateway::Tags;
use crate::gateway::event::{Action, Event};

/// Bytes that a record takes beside its body and its form, rounded up.
const RECORD_BYTES: usize = 256;

/// What of an endpoint matters to its events.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Names of the tags that events show.
    pub include: Vec<String>,
    pub variables: Variables,
}

/// An event on its way. When the last target lets a close go, the connection's state may be removed.
#[derive(Debug)]
pub(super) struct Record {
    pub connection: Uuid,
    pub action: Action,
    /// All of them, for templates.
    pub tags: Tags,
    /// Those that events show, form-encoded.
    pub form: String,
    source: Rc<Source>,
    /// Whether the body can be looked into, once somebody asked.
    readable: OnceCell<bool>,
    /// Not to be handed to a target before the connection's state is written.
    pub ticket: Option<Ticket>,
    /// Does its work when dropped.
    _removal: Option<Removal>,
}

impl Record {
    pub(super) fn new(event: Event, source: &Rc<Source>, ticket: Option<Ticket>, removal: Option<Removal>) -> Self {
        Self {
            connection: event.connection,
            action: event.action,
            form: encode::form(&event.tags, &source.include),
            tags: event.tags,
            source: Rc::clone(source),
            readable: OnceCell::new(),
            ticket,
            _removal: removal,
        }
    }

    /// Bytes that it counts for where a buffer is bounded.
    pub(super) fn bytes(&self) -> usize {
        let body = match &self.action {
            Action::Message { body, .. } => body.len(),
            Action::Open { .. } | Action::Close => 0,
        };
        RECORD_BYTES + self.form.len() + body
    }

    /// The value of one of the endpoint's `json_extract_vars`; only messages have any.
    pub(super) fn json_value(&self, name: &str) -> Option<String> {
        let Action::Message { body, .. } = &self.action else { return None };
        let json = std::str::from_utf8(body).ok()?;
        let readable = self.readable.get_or_init(|| extract::readable(json));
        readable.then(|| self.source.variables.value(name, json)).flatten()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use proto::Opcode;

    use super::*;

    fn record<'t>(id: u128, tags: impl IntoIterator<Item = (&'t str, &'t str)>, action: Action) -> Record {
        let tags = Tags::from_iter(tags);
        let include = tags.iter().map(|(name, _)| name.to_owned()).collect();
        let event = Event { connection: Uuid::from_u128(id), endpoint: 0, tags, action };
        Record::new(event, &Rc::new(Source { include, variables: Variables::default() }), None, None)
    }

    /// The open of a connection.
    pub(crate) fn opened<'t>(id: u128, tags: impl IntoIterator<Item = (&'t str, &'t str)>) -> Record {
        record(id, tags, Action::Open { peer: ([127, 0, 0, 1], 50_000).into() })
    }

    /// A message of a connection, all its tags shown.
    pub(crate) fn message<'t>(
        id: u128,
        tags: impl IntoIterator<Item = (&'t str, &'t str)>,
        opcode: Opcode,
        body: impl Into<Bytes>,
    ) -> Record {
        record(id, tags, Action::Message { opcode, body: body.into() })
    }

    /// The close of a connection.
    pub(crate) fn closed<'t>(id: u128, tags: impl IntoIterator<Item = (&'t str, &'t str)>) -> Record {
        record(id, tags, Action::Close)
    }

    /// The record with these JSON variables.
    pub(crate) fn with_variables<const N: usize>(record: Record, variables: [(&str, &str); N]) -> Record {
        let variables = Variables(variables.map(|(name, path)| (name.to_owned(), path.to_owned())).into());
        let source = Rc::new(Source { include: record.source.include.clone(), variables });
        Record { source, ..record }
    }

    #[test]
    fn a_record_counts_what_it_holds() {
        assert_eq!(opened(1, []).bytes(), RECORD_BYTES);
        assert_eq!(message(1, [("a", "b")], Opcode::Text, "12345").bytes(), RECORD_BYTES + 5 + "a=b".len());
    }
}
