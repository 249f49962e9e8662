//! One setting: how a value of each type is read from YAML or text, checked against its range and shown again.
//!
//! In: a YAML value (from a file) or a text (from the environment). Out: the typed value, or the reason why not, in
//! words that name the allowed range. Where the value stood (file, line, path) is added by the caller.

use std::collections::BTreeMap;

use serde_yaml::Value;

/// What is known of a setting besides its value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// The name in the file; the environment has it in capitals.
    pub(crate) name: &'static str,
    /// Its docstring: what it is, in which unit, why.
    pub(crate) doc: &'static str,
    /// Least and greatest value, of numbers and of the numbers in a list.
    pub(crate) range: Option<(u64, u64)>,
    /// Whether a file's numbers and booleans are texts as they stand there (`version: 2`), and an empty value says nothing.
    pub(crate) loose: bool,
}

/// A type that a setting can have.
pub(crate) trait Setting: Sized {
    /// Reads the value from a file.
    ///
    /// # Errors
    /// The reason, with what is allowed instead.
    fn from_yaml(value: &Value, key: &Key) -> Result<Self, String>;

    /// Reads the value from an environment variable: the same as in a file unless the type says otherwise.
    ///
    /// # Errors
    /// As [`Setting::from_yaml`].
    fn from_text(text: &str, key: &Key) -> Result<Self, String> {
        Self::from_yaml(&serde_yaml::from_str(text).unwrap_or_else(|_| Value::from(text)), key)
    }

    /// The value as YAML on one line.
    fn to_yaml(&self) -> String;
}

macro_rules! integers {
    ($($integer:ty),+) => {$(
        impl Setting for $integer {
            fn from_yaml(value: &Value, key: &Key) -> Result<Self, String> {
                integer(value, key).and_then(|n| Self::try_from(n).map_err(|_| out_of_range(value, key)))
            }

            fn to_yaml(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

integers!(u16, u32, u64, usize);

impl Setting for bool {
    /// Also `yes`, `no`, `on` and `off`: files written for YAML 1.1 readers use them.
    fn from_yaml(value: &Value, _key: &Key) -> Result<Self, String> {
        match value {
            Value::Bool(on) => Ok(*on),
            Value::String(word) if matches!(word.to_ascii_lowercase().as_str(), "yes" | "on") => Ok(true),
            Value::String(word) if matches!(word.to_ascii_lowercase().as_str(), "no" | "off") => Ok(false),
            _ => Err(format!("{} is not true or false", describe(value))),
        }
    }

    fn to_yaml(&self) -> String {
        self.to_string()
    }
}

impl Setting for String {
    fn from_yaml(value: &Value, key: &Key) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(text.clone()),
            Value::Bool(_) | Value::Number(_) if key.loose => Ok(describe(value)),
            Value::Bool(_) | Value::Number(_) => Err(format!("{} is not a text; quote it", describe(value))),
            _ => Err(format!("{} is not a text", describe(value))),
        }
    }

    fn from_text(text: &str, _key: &Key) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn to_yaml(&self) -> String {
        scalar(self)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn from_yaml(value: &Value, key: &Key) -> Result<Self, String> {
        let items = value.as_sequence().ok_or_else(|| format!("{} is not a list", describe(value)))?;
        items.iter().map(|item| T::from_yaml(item, key)).collect()
    }

    /// `[a, b]` as in a file, or `a,b`.
    fn from_text(text: &str, key: &Key) -> Result<Self, String> {
        if text.trim_start().starts_with('[') {
            let value = serde_yaml::from_str(text).map_err(|error| format!("not a list: {error}"))?;
            return Self::from_yaml(&value, key);
        }
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(|item| T::from_text(item, key)).collect()
    }

    fn to_yaml(&self) -> String {
        format!("[{}]", self.iter().map(T::to_yaml).collect::<Vec<_>>().join(", "))
    }
}

/// Anything: a key that is accepted and has no effect.
impl Setting for Value {
    fn from_yaml(value: &Value, _key: &Key) -> Result<Self, String> {
        Ok(value.clone())
    }

    fn to_yaml(&self) -> String {
        // JSON is YAML on one line.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

impl Setting for BTreeMap<String, String> {
    fn from_yaml(value: &Value, key: &Key) -> Result<Self, String> {
        let map =
            value.as_mapping().ok_or_else(|| format!("{} is not a mapping of names to texts", describe(value)))?;
        let text = |value: &Value| String::from_yaml(value, key);
        map.iter().map(|(name, value)| Ok((text(name)?, text(value)?))).collect()
    }

    /// `{a: b, c: d}` as in a file, or `a=b,c=d`.
    fn from_text(text: &str, key: &Key) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            let value = serde_yaml::from_str(text).map_err(|error| format!("not a mapping: {error}"))?;
            return Self::from_yaml(&value, key);
        }
        let pair = |item: &str| {
            let (name, value) = item.split_once('=').ok_or_else(|| format!("{item:?} is not NAME=TEXT"))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        };
        text.split(',').filter(|item| !item.trim().is_empty()).map(pair).collect()
    }

    fn to_yaml(&self) -> String {
        let pairs = self.iter().map(|(name, value)| format!("{}: {}", scalar(name), scalar(value)));
        format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
    }
}

/// Defines an enum whose variants are words in the file, on the command line and in the logs.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
        pub enum $name { $($(#[$vmeta])* #[value(name = $word)] $variant),+ }

        impl $name {
            /// The word for it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::config::setting::Setting for $name {
            fn from_yaml(value: &serde_yaml::Value, _key: &$crate::config::setting::Key) -> Result<Self, String> {
                match value.as_str() {
                    $(Some($word) => Ok(Self::$variant),)+
                    _ => Err($crate::config::setting::not_one_of(value, &[$($word),+])),
                }
            }

            fn to_yaml(&self) -> String {
                self.as_str().to_owned()
            }
        }
    };
}
pub(crate) use words;

/// The reason for a word that is not among `words`.
pub(crate) fn not_one_of(value: &Value, words: &[&str]) -> String {
    let nearest = value.as_str().and_then(|word| super::error::nearest(word, words.iter().copied()));
    let hint = nearest.map_or_else(String::new, |word| format!("; did you mean {word}?"));
    format!("{} is not one of {}{hint}", describe(value), words.join(", "))
}

/// A value in the words of an error: its kind and, where it is short, itself.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "an empty value".to_owned(),
        Value::Bool(on) => on.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.chars().count() <= 64 => format!("{text:?}"),
        Value::String(_) => "a long text".to_owned(),
        Value::Sequence(items) if items.is_empty() => "an empty list".to_owned(),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Tagged(_) => "a tagged value".to_owned(),
    }
}

/// The reason for a number outside its range.
pub(crate) fn out_of_range(value: &Value, key: &Key) -> String {
    match key.range {
        Some((least, most)) => format!("{} is out of range: allowed are {least} to {most}", describe(value)),
        None => format!("{} is out of range", describe(value)),
    }
}

fn integer(value: &Value, key: &Key) -> Result<u64, String> {
    let (least, most) = key.range.unwrap_or((0, u64::MAX));
    match value.as_u64() {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        Some(_) => Err(out_of_range(value, key)),
        None if value.as_i64().is_some() => Err(out_of_range(value, key)),
        None => Err(format!("{} is not a whole number; allowed are {least} to {most}", describe(value))),
    }
}

/// A text as a YAML scalar on one line: plain where nothing can be misread, else in double quotes.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c))
        && serde_yaml::from_str::<Value>(text).is_ok_and(|value| value.as_str() == Some(text))
        && !matches!(text.to_ascii_lowercase().as_str(), "yes" | "no" | "on" | "off" | "y" | "n");
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                quoted.push_str(&format!("\\u{:04X}", c as u32));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Key = Key { name: "port", doc: "", range: Some((0, 65_535)), loose: false };
    const TAGS: Key = Key { name: "tags", doc: "", range: None, loose: true };

    fn yaml(text: &str) -> Value {
        serde_yaml::from_str(text).unwrap()
    }

    #[test]
    fn numbers_outside_the_range_name_the_range() {
        for (text, expected) in [
            ("70000", "70000 is out of range: allowed are 0 to 65535"),
            ("-1", "-1 is out of range: allowed are 0 to 65535"),
            ("80.5", "80.5 is not a whole number; allowed are 0 to 65535"),
            ("\"80\"", "\"80\" is not a whole number; allowed are 0 to 65535"),
            ("~", "an empty value is not a whole number; allowed are 0 to 65535"),
        ] {
            assert_eq!(u16::from_yaml(&yaml(text), &PORT), Err(expected.to_owned()), "{text}");
        }
        assert_eq!(u16::from_yaml(&yaml("8443"), &PORT), Ok(8443));
        assert_eq!(u16::from_text("8443", &PORT), Ok(8443));
    }

    #[test]
    fn lists_from_the_environment_take_both_spellings() {
        let key = Key { name: "cpus", range: Some((0, 7)), ..PORT };
        assert_eq!(Vec::<usize>::from_text("[0, 2]", &key), Ok(vec![0, 2]));
        assert_eq!(Vec::<usize>::from_text("0, 2", &key), Ok(vec![0, 2]));
        assert_eq!(Vec::<usize>::from_text("", &key), Ok(vec![]));
        assert!(Vec::<usize>::from_text("0,9", &key).unwrap_err().contains("allowed are 0 to 7"));
    }

    #[test]
    fn mappings_from_the_environment_take_both_spellings() {
        let expected =
            BTreeMap::from([("a", "b=c"), ("d", "2")].map(|(name, value)| (name.to_owned(), value.to_owned())));
        for text in ["a=b=c, d = 2,", "{a: b=c, d: 2}", "{\"d\": \"2\", a: 'b=c'}"] {
            assert_eq!(BTreeMap::from_text(text, &TAGS), Ok(expected.clone()), "{text}");
        }
        assert_eq!(BTreeMap::from_text("a", &TAGS), Err("\"a\" is not NAME=TEXT".to_owned()));
        assert!(BTreeMap::from_text("{a: [b]}", &TAGS).unwrap_err().contains("a list is not a text"));
    }

    #[test]
    fn every_text_survives_being_shown_and_read_again() {
        let long = "x".repeat(300);
        for text in [
            "",
            "a",
            "/rooms/{topic}",
            "yes",
            "12",
            "1.5",
            "null",
            "~",
            "*",
            "a: b",
            "# c",
            "a\"b\\c",
            "\n\t\u{1b}\u{7f}",
            "\u{85}\u{2028}",
            "é€🦀",
            " x ",
            &long,
            "0x10",
            "1e3",
            "- a",
            "2026-01-01",
        ] {
            let shown = text.to_owned().to_yaml();
            assert!(!shown.contains('\n'));
            let read: Value = serde_yaml::from_str(&format!("key: {shown} # comment")).unwrap();
            assert_eq!(read["key"], Value::from(text), "{shown}");
        }
    }
}
