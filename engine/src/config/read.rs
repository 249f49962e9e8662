//! A configuration file over what is already set.
//!
//! Reads on after a problem, so that one run names them all.

use std::path::Path;

use serde_yaml::{Mapping, Value};

use super::Config;
use super::document::{Document, Step};
use super::endpoint::{EndpointConfig, Mode};
use super::error::{ConfigError, Place, Problem, unknown_key};
use super::section::{Input, Section};
use super::setting::{Setting, describe};

/// A file that has been read: kept to name lines in it when the whole is checked.
#[derive(Debug)]
pub(super) struct Source<'a> {
    file: &'a Path,
    document: Document<'a>,
}

impl<'a> Source<'a> {
    /// Parses the text of a file.
    pub(super) fn parse(file: &'a Path, text: &'a str) -> Result<Self, ConfigError> {
        match Document::parse(text) {
            Ok(document) => Ok(Self { file, document }),
            Err((line, reason)) => {
                let place = Place::File { file: file.to_owned(), line };
                Err(Problem { place, key: String::new(), reason }.into())
            }
        }
    }

    /// Sets everything that the file sets.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        let mut reader = Reader { source: self, steps: Vec::new(), problems: Vec::new() };
        match &self.document.root {
            Value::Null => {}
            Value::Mapping(map) => reader.root(config, map),
            other => reader.problem(format!("{} instead of sections such as server:", describe(other))),
        }
        if reader.problems.is_empty() { Ok(()) } else { Err(ConfigError { problems: reader.problems }) }
    }

    /// The place of a key in the file, if the file has it.
    pub(super) fn place(&self, steps: &[Step]) -> Option<Place> {
        let mut value = &self.document.root;
        for step in steps {
            value = match step {
                Step::Key(name) => value.get(name.as_str())?,
                Step::Index(index) => value.get(index)?,
            };
        }
        Some(Place::File { file: self.file.to_owned(), line: self.document.line(steps) })
    }
}

/// The walk through the tree.
struct Reader<'a> {
    source: &'a Source<'a>,
    /// Where the walk is.
    steps: Vec<Step>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn root(&mut self, config: &mut Config, map: &Mapping) {
        for (name, value) in map {
            match name.as_str() {
                Some("endpoints") => self.at(Step::Key("endpoints".to_owned()), |reader| {
                    if let Some(endpoints) = reader.endpoints(value) {
                        config.endpoints = endpoints;
                    }
                }),
                _ => self.entry(config, &["endpoints"], name, value),
            }
        }
    }

    /// One key of a section's mapping; `others` are names that the section's owner reads itself.
    fn entry(&mut self, section: &mut dyn Section, others: &[&str], name: &Value, value: &Value) {
        let Some(name) = name.as_str() else {
            return self.problem(format!("{} is not a key: keys are texts", describe(name)));
        };
        self.at(Step::Key(name.to_owned()), |reader| {
            if let Some(inner) = section.section_mut(name) {
                match value {
                    Value::Null => {}
                    Value::Mapping(map) => map.iter().for_each(|(name, value)| reader.entry(inner, &[], name, value)),
                    _ => reader.problem(format!("{} instead of a mapping of keys to values", describe(value))),
                }
            } else if let Some(key) = section.key(name) {
                if let Err(reason) = section.set(key, Input::Yaml(value)) {
                    reader.problem(reason);
                }
            } else {
                let keys = section.keys().iter().map(|key| key.name);
                let known: Vec<_> =
                    others.iter().copied().chain(section.section_names().iter().copied()).chain(keys).collect();
                reader.problem(elsewhere(name).unwrap_or_else(|| unknown_key(name, &known)));
            }
        });
    }

    fn endpoints(&mut self, value: &Value) -> Option<Vec<EndpointConfig>> {
        let Some(items) = value.as_sequence().filter(|items| !items.is_empty()) else {
            self.problem(format!("{} instead of a list of endpoints", describe(value)));
            return None;
        };
        let mut endpoints = Vec::new();
        for (index, item) in items.iter().enumerate() {
            self.at(Step::Index(index), |reader| match item {
                Value::Mapping(map) => endpoints.extend(reader.endpoint(map)),
                _ => reader
                    .problem(format!("{} instead of an endpoint such as {{path: /, mode: relay}}", describe(item))),
            });
        }
        Some(endpoints)
    }

    fn endpoint(&mut self, map: &Mapping) -> Option<EndpointConfig> {
        for required in ["path", "mode"] {
            if !map.contains_key(required) {
                self.problem(format!("{required} is missing"));
            }
        }
        let key = EndpointConfig::default().key("mode")?;
        // A wrong mode is reported below, with the other keys read as a relay's.
        let mode = map.get("mode").and_then(|mode| Mode::from_yaml(mode, key).ok());
        let mut endpoint = EndpointConfig::new("/", mode.unwrap_or(Mode::Relay));
        for (name, value) in map {
            match name.as_str() {
                Some(chat) if mode.is_some() && !endpoint.has(chat) => self.at(Step::Key(chat.to_owned()), |reader| {
                    reader.problem(format!("only endpoints of mode chat have this key, not {}", endpoint.mode));
                }),
                _ => self.entry(&mut endpoint, &[], name, value),
            }
        }
        Some(endpoint)
    }

    fn at(&mut self, step: Step, read: impl FnOnce(&mut Self)) {
        self.steps.push(step);
        read(self);
        self.steps.pop();
    }

    fn problem(&mut self, reason: String) {
        let line = self.source.document.line(&self.steps);
        let place = Place::File { file: self.source.file.to_owned(), line };
        self.problems.push(Problem { place, key: key_path(&self.steps), reason });
    }
}

/// Steps as `endpoints[1].path`.
pub(super) fn key_path(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::Key(name) if path.is_empty() => path.push_str(&printable(name)),
            Step::Key(name) => path.extend([".", &printable(name)]),
            Step::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

fn printable(name: &str) -> String {
    name.escape_debug().take(128).collect()
}

/// The reason for a key that exists, but in another section.
fn elsewhere(name: &str) -> Option<String> {
    fn find(section: &dyn Section, path: &str, name: &str) -> Option<String> {
        let inner = section.section_names().iter().filter_map(|inner| section.section(inner).map(|it| (inner, it)));
        let mut paths = inner.map(|(inner, it)| (format!("{path}{inner}."), it));
        match section.key(name) {
            Some(_) => Some(format!("{path}{name}")),
            None => paths.find_map(|(path, it)| find(it, &path, name)),
        }
    }
    let config = Config::default();
    let in_endpoint = || EndpointConfig::default().key(name).map(|_| format!("endpoints[].{name}"));
    find(&config, "", name).or_else(in_endpoint).map(|path| format!("unknown key; did you mean {path}?"))
}
