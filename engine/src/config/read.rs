//! A configuration file over what is already set.
//!
//! Reads on after a problem, so that one run names them all.

use std::path::Path;

use serde_yaml::{Mapping, Value};

use super::Config;
use super::document::{Document, Step};
use super::endpoint::{EndpointConfig, Mode, mode_of};
use super::error::{ConfigError, Place, Problem, unknown_key};
use super::section::{Input, Section};
use super::setting::{Setting, describe};
use super::wsgateway::{self, LISTEN_ADDR, MAX_MESSAGE_SIZE_KB};

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

    /// Whether the file is one of wsgateway's.
    pub(super) fn is_wsgateways(&self) -> bool {
        wsgateway::is_its(&self.document.root)
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
                Some(LISTEN_ADDR) => self.at(Step::Key(LISTEN_ADDR.to_owned()), |reader| {
                    let twice =
                        ["host", "port"].iter().find(|key| map.get("server").is_some_and(|it| it.get(key).is_some()));
                    let outcome = match twice {
                        Some(key) => Err(format!("says the same as server.{key}; name only one of them")),
                        None => wsgateway::set_listen_addr(config, value),
                    };
                    outcome.unwrap_or_else(|reason| reader.problem(reason));
                }),
                Some(MAX_MESSAGE_SIZE_KB) => {}
                Some("endpoints") => self.at(Step::Key("endpoints".to_owned()), |reader| {
                    if let Some(endpoints) = reader.endpoints(value) {
                        config.endpoints = endpoints;
                    }
                }),
                _ => self.entry(config, &["endpoints", LISTEN_ADDR, MAX_MESSAGE_SIZE_KB], name, value),
            }
        }
        // Last: it is for endpoints that may stand behind it.
        if let Some(value) = map.get(MAX_MESSAGE_SIZE_KB) {
            self.at(Step::Key(MAX_MESSAGE_SIZE_KB.to_owned()), |reader| match wsgateway::size(value) {
                Ok(Some(bytes)) => wsgateway::spread_size(config, &reader.source.document.root, bytes),
                Ok(None) => {}
                Err(reason) => reader.problem(reason),
            });
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
                if key.loose && value.is_null() {
                    return;
                }
                let value = if key.loose { &reader.texts(value.clone()) } else { value };
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

    /// The value with every number and boolean in it as the text that stands in the file, and nothing as the empty text.
    fn texts(&mut self, value: Value) -> Value {
        match value {
            Value::Null => Value::from(""),
            Value::Bool(_) | Value::Number(_) => self.source.document.scalar(&self.steps).map_or(value, Value::String),
            Value::Sequence(items) => {
                let item = |(index, item)| self.at(Step::Index(index), |reader| reader.texts(item));
                Value::Sequence(items.into_iter().enumerate().map(item).collect())
            }
            Value::Mapping(map) => {
                let entry = |(name, value): (Value, Value)| match name.as_str().map(str::to_owned) {
                    Some(key) => (name, self.at(Step::Key(key), |reader| reader.texts(value))),
                    None => (name, value),
                };
                Value::Mapping(map.into_iter().map(entry).collect())
            }
            other => other,
        }
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
        if !map.contains_key("path") {
            self.problem("path is missing".to_owned());
        }
        let key = EndpointConfig::default().key("mode")?;
        // A wrong mode is reported below, with the other keys read as a relay's.
        let mode = match map.get("mode") {
            None => Some(Mode::Gateway),
            Some(mode) => Mode::from_yaml(mode, key).ok(),
        };
        let mut endpoint = EndpointConfig::new("/", mode.unwrap_or(Mode::Relay));
        for (name, value) in map {
            let only = name.as_str().and_then(mode_of).filter(|only| mode.is_some_and(|mode| mode != *only));
            match (name.as_str(), only) {
                (Some(name), Some(only)) => self.at(Step::Key(name.to_owned()), |reader| {
                    reader.problem(format!("only endpoints of mode {only} have this key, not {}", endpoint.mode));
                }),
                (Some(MAX_MESSAGE_SIZE_KB), None) => {
                    self.at(Step::Key(MAX_MESSAGE_SIZE_KB.to_owned()), |reader| reader.size(&mut endpoint, map, value));
                }
                _ => self.entry(&mut endpoint, &[], name, value),
            }
        }
        // An empty value is no tag, here as in /settags.
        endpoint.set_tags.retain(|_, value| !value.is_empty());
        Some(endpoint)
    }

    fn size(&mut self, endpoint: &mut EndpointConfig, map: &Mapping, value: &Value) {
        let twice = wsgateway::SIZES.iter().find(|key| map.contains_key(**key));
        match (wsgateway::size(value), twice) {
            (Ok(_), Some(key)) => self.problem(format!("says the same as {key}; name only one of them")),
            (Ok(Some(bytes)), None) => wsgateway::set_size(endpoint, bytes),
            (Ok(None), None) => {}
            (Err(reason), _) => self.problem(reason),
        }
    }

    fn at<T>(&mut self, step: Step, read: impl FnOnce(&mut Self) -> T) -> T {
        self.steps.push(step);
        let outcome = read(self);
        self.steps.pop();
        outcome
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
