//! The demo page: one file that loads nothing, told where this server has what it speaks.

use crate::config::pattern::{Segment, captures, segments};
use crate::config::{EndpointConfig, Mode};

const PAGE: &str = include_str!("../../assets/demo.html");

/// Where the page looks for its endpoints unless it is told otherwise: as it stands in the page.
const PATHS: &str = r#"{"chat":"/chat","relay":"/","room":"/rooms/"}"#;

/// The page for these endpoints.
pub(crate) fn page(endpoints: &[EndpointConfig]) -> String {
    let find = |mode: Mode, has_room: bool| {
        endpoints.iter().filter(|endpoint| endpoint.mode == mode).find_map(|endpoint| place(&endpoint.path, has_room))
    };
    let paths = serde_json::json!({
        "relay": find(Mode::Relay, false),
        "room": find(Mode::Relay, true),
        "chat": find(Mode::Chat, false),
    });
    // Within a script element.
    PAGE.replacen(PATHS, &paths.to_string().replace('<', "\\u003c"), 1)
}

/// A path without captures; or what stands before the only capture, at the end.
fn place(path: &str, has_room: bool) -> Option<String> {
    let segments = segments(path).ok()?;
    match (has_room, captures(&segments), segments.last()) {
        (false, 0, _) => Some(path.to_owned()),
        (true, 1, Some(Segment::Capture(_))) => path.rfind('{').map(|at| path[..at].to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Preset};

    #[test]
    fn the_page_is_told_where_things_are() {
        assert!(page(&Config::default().endpoints).contains(PATHS), "the page as it stands fits the default endpoints");
        let chat = page(&Preset::Chat.config().endpoints);
        assert!(chat.contains(r#"{"chat":"/ws","relay":null,"room":null}"#) && !chat.contains(PATHS));
        assert_eq!(place("/a/{b}/c", true).or(place("/a/{b}/{c}", true)), None);
    }
}
