//! Which connections a control request means: its query.
//!
//! `?id=a,b,c` names them and ignores all else; otherwise all `name=value` must hold. Nothing selects everything.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::net::router::has_whole_escapes;

/// Some connections of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// Those with these ids; unknown ones are skipped, one named twice counts once.
    Ids(Vec<Uuid>),
    /// Those that have all of these tags; without any, none.
    Tags(Vec<(Arc<str>, Arc<str>)>),
}

impl Selector {
    /// The selector of a request's query, percent-encoded. Of a repeated key the first value counts.
    ///
    /// # Errors
    /// A malformed escape, or one that is not UTF-8.
    pub(crate) fn of_query(query: Option<&str>) -> Result<Self, Malformed> {
        let tags = first_values(query.unwrap_or("").as_bytes())?;
        let tags: Vec<(Arc<str>, Arc<str>)> =
            tags.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Ok(match tags.iter().find(|(name, value)| &**name == "id" && !value.is_empty()) {
            Some((_, ids)) => Self::of_ids(ids.split(',')),
            None => Self::Tags(tags),
        })
    }

    /// The connections of these ids. What is not written as ids are, is nobody's.
    fn of_ids<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let is_canonical = |text: &str, id: &Uuid| *id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == *text;
        let mut ids: Vec<Uuid> =
            texts.filter_map(|text| Uuid::try_parse(text).ok().filter(|id| is_canonical(text, id))).collect();
        ids.sort_unstable();
        ids.dedup();
        Self::Ids(ids)
    }
}

/// The pairs of a form, of a repeated name the first.
///
/// # Errors
/// A malformed escape, or one that is not UTF-8.
pub(crate) fn first_values(form: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
    let mut first: Vec<(String, String)> = Vec::new();
    for (name, value) in pairs(form)? {
        if !first.iter().any(|(other, _)| *other == name) {
            first.push((name, value));
        }
    }
    Ok(first)
}

/// The pairs of a form (`a=b&c=d`), decoded, in order; names without `=` have an empty value.
///
/// # Errors
/// A malformed escape, or one that is not UTF-8.
fn pairs(form: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
    if !has_whole_escapes(form) {
        return Err(Malformed::Escape);
    }
    form.split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let cut = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let (name, value) = (&pair[..cut], pair.get(cut + 1..).unwrap_or_default());
            Ok((decoded(name)?, decoded(value)?))
        })
        .collect()
}

fn decoded(text: &[u8]) -> Result<String, Malformed> {
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let bytes: Vec<u8> = percent_encoding::percent_decode(&spaced).collect();
    String::from_utf8(bytes).map_err(|_| Malformed::Utf8)
}

/// Why a form cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// A `%` without two hexadecimal digits.
    Escape,
    /// Not UTF-8.
    Utf8,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Escape => "malformed percent-escape",
            Self::Utf8 => "not UTF-8",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

    fn tags(tags: &[(&str, &str)]) -> Selector {
        Selector::Tags(tags.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn ids_ignore_all_else() {
        let id: Uuid = ID.parse().unwrap();
        let query = format!("foo=bar&id={ID},nobody,{ID},{}&id=other", ID.to_uppercase());
        assert_eq!(Selector::of_query(Some(&query)), Ok(Selector::Ids(vec![id])));
        assert_eq!(Selector::of_query(Some("id=,,&foo=bar")), Ok(Selector::Ids(vec![])));
    }

    #[test]
    fn keys_are_decoded_and_the_first_value_counts() {
        let query = "room=a%26b+c&room=other&%C3%BC=%3D&bare&&";
        assert_eq!(Selector::of_query(Some(query)), Ok(tags(&[("room", "a&b c"), ("ü", "="), ("bare", "")])));
        assert_eq!(Selector::of_query(None), Ok(tags(&[])));
        assert_eq!(Selector::of_query(Some("id=")), Ok(tags(&[("id", "")])));
    }

    #[test]
    fn malformed_escapes_are_told() {
        for query in ["a=%", "a=%4", "%zz=1", "a=%4g"] {
            assert_eq!(Selector::of_query(Some(query)), Err(Malformed::Escape), "{query}");
        }
        assert_eq!(Selector::of_query(Some("a=%ff")), Err(Malformed::Utf8));
    }
}
