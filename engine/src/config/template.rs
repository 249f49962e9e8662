//! Names of streams, routing keys and subjects that are filled in for each event.
//!
//! `events-{tag.group:none}` is the text `events-`, then the connection's tag `group`, or `none` where it has no such tag.
//! A placeholder is `{` letters, digits, `_.:-` `}`; other braces are text. It starts with `tag.` or `json.`; what follows
//! the first `:` is the default, possibly empty; without `:` the default is `_`. A placeholder that starts with anything
//! else always gives its default, as in wsgateway.

use super::server::non_empty;

/// A template, in the order of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Never two texts beside each other.
    pub pieces: Vec<Piece>,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// A value, or the default where there is none or it is empty.
    Value {
        /// What to fill in.
        source: Source,
        /// What otherwise.
        default: String,
    },
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The connection's tag of that name.
    Tag(String),
    /// The endpoint's JSON variable of that name (`json_extract_vars`), letters, digits and `_`.
    Json(String),
    /// Nowhere: a name that is neither.
    Unknown(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with a name in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(open) = rest.find('{') {
            literal.push_str(&rest[..open]);
            rest = &rest[open..];
            let inside = rest[1..].find(|c: char| !(c.is_ascii_alphanumeric() || "_.:-".contains(c))).unwrap_or(0);
            if inside == 0 || rest.as_bytes()[1 + inside] != b'}' {
                literal.push('{');
                rest = &rest[1..];
                continue;
            }
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(placeholder(&rest[1..=inside])?);
            rest = &rest[inside + 2..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self { pieces })
    }

    /// The names in it that are neither `tag.` nor `json.`.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Value { source: Source::Unknown(name), .. } => Some(name.as_str()),
            _ => None,
        })
    }
}

/// A name of `json_extract_vars`: letters, digits and `_`, at least one.
pub(super) fn json_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

pub(super) fn check(text: &str) -> Result<(), String> {
    Template::parse(text).map(drop)
}

/// As [`check`], for a name that must be there: not empty, no spaces.
pub(super) fn check_name(text: &str) -> Result<(), String> {
    non_empty(text)?;
    match text.chars().find(|c| c.is_whitespace() || c.is_control()) {
        Some(c) => Err(format!("contains {c:?}")),
        None => check(text),
    }
}

/// What stands between the braces.
fn placeholder(text: &str) -> Result<Piece, String> {
    let (name, default) = text.split_once(':').unwrap_or((text, "_"));
    let source = match name.split_once('.') {
        Some(("tag", tag)) if !tag.is_empty() => Source::Tag(tag.to_owned()),
        Some(("json", variable)) if json_name(variable) => Source::Json(variable.to_owned()),
        Some(("tag", _)) => return Err(format!("{{{text}}} names no tag: it is written like {{tag.NAME:default}}")),
        Some(("json", _)) => {
            return Err(format!(
                "{{{text}}} names no JSON variable: it is written like {{json.NAME:default}}, of letters, digits and _"
            ));
        }
        _ => Source::Unknown(name.to_owned()),
    };
    Ok(Piece::Value { source, default: default.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    fn value(source: Source, default: &str) -> Piece {
        Piece::Value { source, default: default.to_owned() }
    }

    #[test]
    fn placeholders_are_told_from_text() {
        let [tag, json, unknown] =
            [Source::Tag, Source::Json, Source::Unknown].map(|make| move |name: &str| make(name.to_owned()));
        for (template, pieces) in [
            ("", vec![]),
            ("events", vec![text("events")]),
            ("{tag.a}", vec![value(tag("a"), "_")]),
            ("x{tag.a:}y", vec![text("x"), value(tag("a"), ""), text("y")]),
            ("{json.a_1:b:c}{tag.a.b-c}", vec![value(json("a_1"), "b:c"), value(tag("a.b-c"), "_")]),
            ("{command:none}", vec![value(unknown("command"), "none")]),
            ("{tags.a}", vec![value(unknown("tags.a"), "_")]),
            ("{} { {a b} }{", vec![text("{} { {a b} }{")]),
            ("{{tag.a}}", vec![text("{"), value(tag("a"), "_"), text("}")]),
            ("{é}{tag.a", vec![text("{é}{tag.a")]),
        ] {
            assert_eq!(Template::parse(template), Ok(Template { pieces }), "{template}");
        }
        assert_eq!(Template::parse("{a}{tag.b}{c:d}").unwrap().unknown().collect::<Vec<_>>(), ["a", "c"]);
    }

    #[test]
    fn names_that_nothing_can_have_are_refused() {
        for template in ["{tag.}", "{tag.:x}", "a{json.}", "{json.a-b}", "{json.a.b:c}"] {
            let reason = Template::parse(template).unwrap_err();
            assert!(reason.contains("names no"), "{template}: {reason}");
        }
        assert!(check_name("a b").is_err() && check_name(" ").is_err() && check_name("a{tag.b: }").is_err());
    }
}
