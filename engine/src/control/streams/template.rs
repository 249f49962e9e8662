//! Names of streams, routing keys and subjects, filled in for one event.

use std::borrow::Cow;

use super::record::Record;
use crate::config::template::{Piece, Source, Template};

/// The name for an event. What is unknown, missing or empty gives the default of its place.
pub(super) fn fill<'t>(template: &'t Template, record: &Record) -> Cow<'t, str> {
    match &template.pieces[..] {
        [] => "".into(),
        [Piece::Text(text)] => text.into(),
        pieces => pieces.iter().fold(String::new(), |filled, piece| filled + &fill_piece(piece, record)).into(),
    }
}

fn fill_piece<'t>(piece: &'t Piece, record: &'t Record) -> Cow<'t, str> {
    match piece {
        Piece::Text(text) => text.into(),
        Piece::Value { source, default } => {
            let value = match source {
                Source::Tag(name) => record.tags.get(name).map(Cow::from),
                Source::Json(name) => record.json_value(name).map(Cow::from),
                Source::Unknown(_) => None,
            };
            value.filter(|value| !value.is_empty()).unwrap_or(default.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::Opcode;

    use super::*;
    use crate::control::streams::record::tests::{closed, message, with_variables};

    fn filled(template: &str) -> String {
        let tags = [("group", "a b"), ("x-y.z", "dotted")];
        let record = message(1, tags, Opcode::Text, r#"{"command": "go", "deep": {"n": 7}, "none": null, "no": ""}"#);
        let record = with_variables(record, [("command", "command"), ("n", "deep.n"), ("none", "none"), ("no", "no")]);
        fill(&Template::parse(template).unwrap(), &record).into_owned()
    }

    #[test]
    fn places_take_tags_and_json_values() {
        for (template, expected) in [
            ("connectionevents", "connectionevents"),
            ("", ""),
            ("e.{tag.group}.{json.command}.{json.n}", "e.a b.go.7"),
            ("{tag.x-y.z}{tag.x-y.z:d}", "dotteddotted"),
            ("{{tag.group}}{", "{a b}{"),
        ] {
            assert_eq!(filled(template), expected);
        }
    }

    #[test]
    fn what_is_missing_empty_or_unknown_gives_the_default() {
        assert_eq!(filled("{tag.absent}|{tag.absent:}|{tag.absent:d:e}"), "_||d:e");
        assert_eq!(filled("{json.absent:d}|{json.none:d}|{json.no:d}|{json.none}"), "d|d|d|_");
        assert_eq!(filled("{user.name:d}|{group}|{:d}|{:}"), "d|_|d|");
    }

    #[test]
    fn only_messages_have_json() {
        let template = Template::parse("{json.command:none}").unwrap();
        let record = with_variables(closed(1, []), [("command", "command")]);
        assert_eq!(fill(&template, &record), "none");
        for body in [&b"no json"[..], b"\xff", br#"{"command": "go""#] {
            let record = with_variables(message(1, [], Opcode::Binary, body), [("command", "command")]);
            assert_eq!(fill(&template, &record), "none");
        }
    }
}
