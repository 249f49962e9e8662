//! The shapes in which events leave: tags as a form, a message as text, the whole as JSON.
//!
//! The formats are a contract with the applications that read them. A record comes in, text goes out.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::Opcode;
use serde::Serialize;

use super::record::Record;
use crate::gateway::Tags;
use crate::gateway::event::Action;

/// The tags that `include` names, as `application/x-www-form-urlencoded`, sorted by name; a space is `+`.
///
/// `include` may hold names that the connection does not have.
pub(super) fn form(tags: &Tags, include: &[String]) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    // Tags are sorted by name.
    for (name, value) in tags.iter().filter(|(name, _)| include.iter().any(|included| included == name)) {
        form.append_pair(name, value);
    }
    form.finish()
}

/// `open`, `message` or `close`.
pub(super) fn action(action: &Action) -> &'static str {
    match action {
        Action::Open { .. } => "open",
        Action::Message { .. } => "message",
        Action::Close => "close",
    }
}

/// `text` or `binary`.
pub(super) fn kind(opcode: Opcode) -> &'static str {
    if opcode == Opcode::Text { "text" } else { "binary" }
}

/// An event as one JSON object whose values are all strings.
#[derive(Serialize)]
struct Json<'r> {
    connection: &'r str,
    action: &'static str,
    tags: &'r str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Cow<'r, str>>,
    /// Says that `message` is not the body itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
}

/// The JSON of an event. A binary body that is not UTF-8 is base64, and `encoding` says so.
pub(super) fn json(record: &Record) -> Vec<u8> {
    let mut id = [0; 36];
    let mut json = Json {
        connection: record.connection.hyphenated().encode_lower(&mut id),
        action: action(&record.action),
        tags: &record.form,
        kind: None,
        message: None,
        encoding: None,
    };
    let mut bytes_expected = 128 + record.form.len();
    if let Action::Message { opcode, body } = &record.action {
        json.kind = Some(kind(*opcode));
        match std::str::from_utf8(body) {
            Ok(text) => json.message = Some(text.into()),
            Err(_) => {
                json.message = Some(STANDARD.encode(body).into());
                json.encoding = Some("base64");
            }
        }
        bytes_expected += body.len() + body.len() / 2;
    }
    let mut bytes = Vec::with_capacity(bytes_expected);
    serde_json::to_writer(&mut bytes, &json).expect("strings into memory cannot fail");
    bytes
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::control::streams::record::tests::{closed, message, opened};

    #[test]
    fn tags_are_sorted_chosen_and_escaped() {
        let tags = Tags::from_iter([("zoë", "a b"), ("a", "1&2=3"), ("hidden", "x"), ("line", "\n%+")]);
        let include = ["zoë", "line", "a", "absent"].map(str::to_owned);
        assert_eq!(form(&tags, &include), "a=1%262%3D3&line=%0A%25%2B&zo%C3%AB=a+b");
        assert_eq!(form(&tags, &[]), "");
        assert_eq!(form(&Tags::default(), &include), "");
    }

    #[test]
    fn json_has_the_fields_of_its_action_and_strings_only() {
        let id = "00000000-0000-0000-0000-000000000007";
        let tags = [("a", "b c")];
        for (record, expected) in [
            (opened(7, tags), format!(r#"{{"connection":"{id}","action":"open","tags":"a=b+c"}}"#)),
            (closed(7, tags), format!(r#"{{"connection":"{id}","action":"close","tags":"a=b+c"}}"#)),
            (
                message(7, tags, Opcode::Text, "é\"\n"),
                format!(r#"{{"connection":"{id}","action":"message","tags":"a=b+c","type":"text","message":"é\"\n"}}"#),
            ),
            (
                message(7, tags, Opcode::Binary, "UTF-8"),
                format!(
                    r#"{{"connection":"{id}","action":"message","tags":"a=b+c","type":"binary","message":"UTF-8"}}"#
                ),
            ),
            (
                message(7, tags, Opcode::Binary, Bytes::from_static(b"\xff\x00")),
                format!(
                    r#"{{"connection":"{id}","action":"message","tags":"a=b+c","type":"binary","message":"/wA=","encoding":"base64"}}"#
                ),
            ),
        ] {
            assert_eq!(String::from_utf8(json(&record)).unwrap(), expected);
        }
    }
}
