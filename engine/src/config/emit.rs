//! A configuration as YAML: plain, or with a comment on every key.

use super::Config;
use super::endpoint::{EndpointConfig, Mode};
use super::section::Section;
use super::setting::Key;

/// Column at which comments start, where the value leaves room.
const COMMENT_COLUMN: usize = 36;

/// Every key with its value.
pub(super) fn plain(config: &Config) -> String {
    let mut yaml = Yaml { text: String::new(), comments: false };
    yaml.sections(config, 0);
    yaml.text.push_str("endpoints:\n");
    for endpoint in &config.endpoints {
        yaml.endpoint(endpoint, endpoint.keys().iter().filter(|key| endpoint.has(key.name)));
    }
    yaml.text
}

/// Every key with its value and its docstring; an endpoint shows only the keys that no endpoint before it showed, and
/// those that are not at their usual value.
pub(super) fn commented(config: &Config, title: &str) -> String {
    let mut yaml = Yaml { text: format!("# {title}\n"), comments: true };
    yaml.sections(config, 0);
    yaml.text.push_str("\nendpoints:\n");
    let mut shown: Vec<&str> = vec!["path", "mode"];
    for endpoint in &config.endpoints {
        let usual = EndpointConfig::new(&endpoint.path, Mode::Relay);
        let (required, rest): (Vec<&Key>, Vec<&Key>) = endpoint
            .keys()
            .iter()
            .filter(|key| endpoint.has(key.name))
            .partition(|key| ["path", "mode"].contains(&key.name));
        let news = rest.into_iter().filter(|key| !shown.contains(&key.name) || endpoint.show(key) != usual.show(key));
        let news: Vec<_> = news.collect();
        shown.extend(news.iter().map(|key| key.name));
        yaml.endpoint(endpoint, required.into_iter().chain(news));
    }
    yaml.text
}

struct Yaml {
    text: String,
    comments: bool,
}

impl Yaml {
    /// The root's own keys stand behind its sections, which matter more.
    fn sections(&mut self, section: &dyn Section, depth: usize) {
        if depth > 0 {
            self.keys(section, depth);
        }
        for name in section.section_names() {
            if self.comments && depth == 0 {
                self.text.push('\n');
            }
            self.text.push_str(&format!("{}{name}:\n", "  ".repeat(depth)));
            if let Some(inner) = section.section(name) {
                self.sections(inner, depth + 1);
            }
        }
        if depth == 0 {
            self.text.push_str(if self.comments { "\n" } else { "" });
            self.keys(section, depth);
        }
    }

    fn keys(&mut self, section: &dyn Section, depth: usize) {
        for key in section.keys() {
            self.line(&"  ".repeat(depth), section, key);
        }
    }

    fn endpoint<'k>(&mut self, endpoint: &EndpointConfig, keys: impl Iterator<Item = &'k Key>) {
        for (index, key) in keys.enumerate() {
            self.line(if index == 0 { "  - " } else { "    " }, endpoint, key);
        }
    }

    fn line(&mut self, indent: &str, section: &dyn Section, key: &Key) {
        let setting = format!("{indent}{}: {}", key.name, section.show(key));
        match self.comments {
            true => self.text.push_str(&format!("{setting:<COMMENT_COLUMN$}  # {}\n", key.doc)),
            false => self.text.push_str(&format!("{setting}\n")),
        }
    }
}
