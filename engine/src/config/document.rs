//! A YAML file as a tree, and the lines of its keys.
//!
//! The tree is read untyped. Only when something in it is wrong is the text read once more, up to the place in question,
//! to learn its line.

use std::cell::Cell;

use serde::de::{self, Deserialize as _, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_yaml::Value;

/// One step from the root of a document to a place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a mapping, to that key.
    Key(String),
    /// Into a list, to the item of that index.
    Index(usize),
}

/// A parsed file.
#[derive(Debug)]
pub(super) struct Document<'a> {
    text: &'a str,
    /// The tree; [`Value::Null`] for an empty file.
    pub(super) root: Value,
}

impl<'a> Document<'a> {
    /// Parses a text.
    ///
    /// # Errors
    /// The line, from 1, and what is wrong there.
    pub(super) fn parse(text: &'a str) -> Result<Self, (usize, String)> {
        // YAML 1.2 section 5.2 allows a byte order mark; the parser only takes one in front of a mapping.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let failed = |error: serde_yaml::Error| {
            (error.location().map_or_else(|| last_document(text), |at| at.line()), error.to_string())
        };
        let mut root: Value = serde_yaml::from_str(text).map_err(failed)?;
        root.apply_merge().map_err(failed)?;
        Ok(Self { text, root })
    }

    /// The line of a place, from 1: of the key where it is in a mapping. A place that the text lacks has the line of the
    /// nearest place above it.
    pub(super) fn line(&self, steps: &[Step]) -> usize {
        let line = |steps: &[Step]| {
            let deserializer = serde_yaml::Deserializer::from_str(self.text);
            Locate { steps, text: None }.deserialize(deserializer).err()?.location().map(|at| at.line())
        };
        (0..=steps.len()).rev().find_map(|length| line(&steps[..length])).unwrap_or(1)
    }

    /// The text of a scalar as it stands there: `1.10` where the tree has the number 1.1. None where it cannot be found: a
    /// merge key brought it.
    pub(super) fn scalar(&self, steps: &[Step]) -> Option<String> {
        let text = Cell::new(None);
        // The walk ends with an error where it arrives.
        let _ = Locate { steps, text: Some(&text) }.deserialize(serde_yaml::Deserializer::from_str(self.text));
        text.take()
    }
}

/// The line at which the last document begins: the error about a second one has no line of its own.
fn last_document(text: &str) -> usize {
    let mark = |line: &str| line.starts_with("---") || line.starts_with("...");
    text.lines().collect::<Vec<_>>().iter().rposition(|line| mark(line)).map_or(1, |at| at + 1)
}

/// Walks down the steps and fails at their end, so that the error has the place's line; puts the scalar there into `text`.
struct Locate<'s> {
    steps: &'s [Step],
    text: Option<&'s Cell<Option<String>>>,
}

/// The error by which [`Locate`] says that it has arrived; never shown.
fn arrived<E: de::Error>() -> E {
    E::custom("here")
}

impl<'de> DeserializeSeed<'de> for Locate<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if let (Some(text), []) = (self.text, self.steps) {
            text.set(Some(String::deserialize(deserializer)?));
            return Err(arrived());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Locate<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the place")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), rest)) = self.steps.split_first() else { return Err(arrived()) };
        while let Some(found) = map.next_key_seed(IsKey { wanted, last: rest.is_empty() && self.text.is_none() })? {
            match found {
                true => map.next_value_seed(Locate { steps: rest, ..self })?,
                false => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((Step::Index(wanted), rest)) = self.steps.split_first() else { return Err(arrived()) };
        for _ in 0..*wanted {
            seq.next_element::<IgnoredAny>()?;
        }
        seq.next_element_seed(Locate { steps: rest, ..self })?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_enum<A: de::EnumAccess<'de>>(self, _tagged: A) -> Result<(), A::Error> {
        Err(arrived())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Err(arrived())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Err(arrived())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Err(arrived())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Err(arrived())
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Err(arrived())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Err(arrived())
    }
}

/// Reads a key: is it the wanted one? Fails at it if it is the last step.
struct IsKey<'s> {
    wanted: &'s str,
    /// Whether it is the last step and the key, not its value, is the place.
    last: bool,
}

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        match (key == self.wanted, self.last) {
            (true, true) => Err(arrived()),
            (found, _) => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a comment\nserver:\n  port: 1\n  tls:\n\n    enabled: true\nlist:\n  - a: 1\n    b: 2\n  - {a: 3,\n     b: 4}\n  - 5\nlast: ~\n";

    #[test]
    fn every_place_has_its_line() {
        let document = Document::parse(TEXT).unwrap();
        let key = |name: &str| Step::Key(name.to_owned());
        for (steps, line) in [
            (vec![key("server")], 2),
            (vec![key("server"), key("port")], 3),
            (vec![key("server"), key("tls"), key("enabled")], 6),
            (vec![key("list"), Step::Index(0)], 8),
            (vec![key("list"), Step::Index(0), key("b")], 9),
            (vec![key("list"), Step::Index(1), key("a")], 10),
            (vec![key("list"), Step::Index(1), key("b")], 11),
            (vec![key("list"), Step::Index(2)], 12),
            (vec![key("last")], 13),
            (vec![key("list"), Step::Index(1), key("missing")], 10),
            (vec![key("server"), key("missing"), key("deeper")], 2),
        ] {
            assert_eq!(document.line(&steps), line, "{steps:?}");
        }
    }

    #[test]
    fn scalars_keep_their_text() {
        let text = "a: 1.10\nb: [0x10, yes, {c: 1e3}]\nd: &d {e: 007}\nf: *d\ng: {<<: *d}\n";
        let document = Document::parse(text).unwrap();
        let key = |name: &str| Step::Key(name.to_owned());
        for (steps, scalar) in [
            (vec![key("a")], Some("1.10")),
            (vec![key("b"), Step::Index(0)], Some("0x10")),
            (vec![key("b"), Step::Index(2), key("c")], Some("1e3")),
            (vec![key("f"), key("e")], Some("007")),
            (vec![key("g"), key("e")], None),
            (vec![key("x")], None),
        ] {
            assert_eq!(document.scalar(&steps).as_deref(), scalar, "{steps:?}");
        }
    }

    #[test]
    fn a_text_that_is_no_yaml_has_a_line_too() {
        for (text, line) in
            [("a: 1\nb: [1, 2\nc: 3\n", 3), ("a: 1\na: 2\n", 1), ("\tx: 1\n", 1), ("a: 1\n---\nb: 2\n", 2)]
        {
            let (at, reason) = Document::parse(text).unwrap_err();
            assert!(at >= line, "{text:?}: line {at}, {reason}");
        }
    }
}
