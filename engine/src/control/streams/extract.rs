//! Values out of messages that are JSON, by gjson paths (`json_extract_vars` of an endpoint).
//!
//! Messages come from clients: what is not valid JSON, or nested deeper than [`NESTING_MAX`], has no values.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

/// Arrays and objects within each other that are looked into. gjson recurses for some paths; a message of brackets
/// must not exhaust the stack.
const NESTING_MAX: usize = 256;

/// The variables of an endpoint: gjson path by name.
#[derive(Debug, Default)]
pub(super) struct Variables(pub(super) BTreeMap<String, String>);

impl Variables {
    /// The value of a variable in a message that is [`readable`]: strings as they are, objects and arrays as raw JSON,
    /// everything else as it is written. `None` for an unknown variable, a path that leads nowhere, and null.
    pub(super) fn value(&self, name: &str, json: &str) -> Option<String> {
        let value = gjson::get(json, self.0.get(name)?);
        match value.kind() {
            gjson::Kind::Null => None,
            // gjson decodes pairs of escapes beyond U+1FFFF wrongly.
            gjson::Kind::String => serde_json::from_str(value.json()).ok(),
            _ => Some(value.json().to_owned()),
        }
    }
}

/// Whether a message can be looked into: valid JSON, not nested too deeply.
pub(super) fn readable(json: &str) -> bool {
    nesting(json.as_bytes()) <= NESTING_MAX && serde_json::from_str::<IgnoredAny>(json).is_ok()
}

/// How deeply brackets and braces stand within each other, strings left out.
fn nesting(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while bytes.next().is_some_and(|byte| match byte {
                    b'"' => false,
                    b'\\' => bytes.next().is_some(),
                    _ => true,
                }) {}
            }
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(path: &str, json: &str) -> Option<String> {
        let variables = Variables([("name".to_owned(), path.to_owned())].into());
        assert_eq!(variables.value("other", json), None);
        readable(json).then(|| variables.value("name", json)).flatten()
    }

    #[test]
    fn values_are_text() {
        let json =
            r#"{"s": "a\"\u00e9", "n": 1.50, "t": true, "o": {"b": [1, 2]}, "z": null, "list": [{"k": 1}, {"k": 2}]}"#;
        for (path, expected) in [
            ("s", Some("a\"é")),
            ("n", Some("1.50")),
            ("t", Some("true")),
            ("o", Some(r#"{"b": [1, 2]}"#)),
            ("o.b.1", Some("2")),
            ("list.#.k", Some("[1,2]")),
            ("list.#", Some("2")),
            ("z", None),
            ("absent.deep", None),
        ] {
            assert_eq!(value(path, json).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_json_has_no_values() {
        for json in ["", "hello", r#"{"a": "#, r#"{"a": 1} x"#, r#"{"a": 01}"#, "{a: 1}"] {
            assert_eq!(value("a", json), None, "{json}");
        }
        assert_eq!(value("@this", "7").as_deref(), Some("7"));
    }

    #[test]
    fn deep_nesting_is_not_followed() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(readable(&nested(NESTING_MAX)));
        assert!(!readable(&nested(NESTING_MAX + 1)));
        assert!(!readable(&"[".repeat(1 << 20)));
        let in_strings = format!(r#"["{}\"[", 1]"#, "[{".repeat(NESTING_MAX));
        assert!(readable(&in_strings));
        assert_eq!(value("@valid.1", &in_strings).as_deref(), Some("1"));
    }
}
