//! The path of an endpoint: literal segments and captures.
//!
//! `/rooms/{topic}` is the literal `rooms` and the capture `topic`. A capture is a whole segment.

/// One segment of an endpoint's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Must be equal, after percent-decoding.
    Literal(String),
    /// Stands for any one non-empty segment; the name in braces.
    Capture(String),
}

/// How many of the segments are captures.
pub(crate) fn captures(segments: &[Segment]) -> usize {
    segments.iter().filter(|segment| matches!(segment, Segment::Capture(_))).count()
}

/// The segments of an endpoint's path; `/` is one empty literal.
///
/// # Errors
/// What is wrong with the path, in words for the configuration's author.
pub fn segments(path: &str) -> Result<Vec<Segment>, String> {
    let Some(rest) = path.strip_prefix('/') else { return Err(format!("{path:?} must start with /")) };
    if let Some(c) = path.chars().find(|c| matches!(c, '?' | '#' | '%' | '\\') || c.is_control() || c.is_whitespace()) {
        return Err(format!("{path:?} contains {c:?}: a path is written decoded, without query, fragment and spaces"));
    }
    let mut segments = Vec::new();
    for text in rest.split('/') {
        let segment = segment(text).map_err(|reason| format!("{path:?}: {reason}"))?;
        if matches!(segment, Segment::Capture(_)) && segments.contains(&segment) {
            return Err(format!("{path:?}: {text} stands there twice"));
        }
        segments.push(segment);
    }
    if segments.iter().rev().skip(1).any(|segment| *segment == Segment::Literal(String::new())) {
        return Err(format!("{path:?} contains an empty segment (//)"));
    }
    Ok(segments)
}

/// Whether two paths cannot be told apart: equal but for the names of their captures.
pub(super) fn same_shape(a: &[Segment], b: &[Segment]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|pair| match pair {
            (Segment::Capture(_), Segment::Capture(_)) => true,
            (a, b) => a == b,
        })
}

pub(super) fn check(path: &str) -> Result<(), String> {
    segments(path).map(drop)
}

fn segment(text: &str) -> Result<Segment, String> {
    let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    match inner {
        Some(name) if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
            Ok(Segment::Capture(name.to_owned()))
        }
        None if !text.contains(['{', '}']) => Ok(Segment::Literal(text.to_owned())),
        _ => Err(format!("{text:?} is no capture: it is a whole segment like {{topic}}, of letters, digits and _")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_are_whole_segments() {
        let literal = |text: &str| Segment::Literal(text.to_owned());
        let capture = |name: &str| Segment::Capture(name.to_owned());
        assert_eq!(segments("/"), Ok(vec![literal("")]));
        assert_eq!(segments("/rooms/{topic}"), Ok(vec![literal("rooms"), capture("topic")]));
        assert_eq!(segments("/{a}/x/{b}"), Ok(vec![capture("a"), literal("x"), capture("b")]));
        assert_eq!(segments("/ws/"), Ok(vec![literal("ws"), literal("")]));
        assert_eq!(segments("/é"), Ok(vec![literal("é")]));
    }

    #[test]
    fn malformed_paths_are_refused_with_the_reason() {
        for (path, reason) in [
            ("", "must start with /"),
            ("ws", "must start with /"),
            ("/a?b", "contains '?'"),
            ("/a b", "contains ' '"),
            ("/a%20b", "written decoded"),
            ("/a//b", "empty segment"),
            ("//", "empty segment"),
            ("/{}", "no capture"),
            ("/{topic", "no capture"),
            ("/a{topic}", "no capture"),
            ("/{to pic}", "contains ' '"),
            ("/{to-pic}", "no capture"),
            ("/{{topic}}", "no capture"),
            ("/{a}/{a}", "twice"),
        ] {
            let error = segments(path).unwrap_err();
            assert!(error.contains(reason), "{path}: {error}");
        }
    }

    #[test]
    fn captures_of_different_names_have_the_same_shape() {
        let shape = |path| segments(path).unwrap();
        assert!(same_shape(&shape("/rooms/{a}"), &shape("/rooms/{b}")));
        assert!(!same_shape(&shape("/rooms/{a}"), &shape("/rooms/lobby")));
        assert!(!same_shape(&shape("/rooms"), &shape("/rooms/")));
    }
}
