//! Settings from the environment: `RINGRELAY_SERVER__TLS__ENABLED` is `server.tls.enabled`.
//!
//! Only names with two underscores after the prefix are settings, and the root's own keys
//! (`RINGRELAY_CONTROL_BODY_BYTES_MAX`): Kubernetes puts the likes of `RINGRELAY_PORT` and
//! `RINGRELAY_SERVICE_HOST` into the environment of every pod beside a service called ringrelay.

use super::Config;
use super::error::{Place, Problem, unknown_key};
use super::section::{Input, Section};

const PREFIX: &str = "RINGRELAY_";

/// Applies every variable that is a setting; returns what is wrong with the others.
pub(super) fn apply(config: &mut Config, variables: &[(String, String)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, text) in variables {
        let Some(path) = name.strip_prefix(PREFIX).map(str::to_lowercase) else { continue };
        if !path.contains("__") && config.key(&path).is_none() {
            continue;
        }
        let steps: Vec<&str> = path.split("__").collect();
        if let Err(reason) = set(config, &steps, text) {
            problems.push(Problem { place: Place::Environment { name: name.clone() }, key: steps.join("."), reason });
        }
    }
    problems
}

/// Applies `PORT`, which platforms that start a container set.
pub(super) fn apply_port(config: &mut Config, variables: &[(String, String)]) -> Option<Problem> {
    let (name, text) = variables.iter().find(|(name, text)| name == "PORT" && !text.is_empty())?;
    let reason = set(config, &["server", "port"], text).err()?;
    Some(Problem { place: Place::Environment { name: name.clone() }, key: "server.port".to_owned(), reason })
}

fn set(config: &mut Config, steps: &[&str], text: &str) -> Result<(), String> {
    if steps.first() == Some(&"endpoints") {
        return Err("endpoints cannot be set by the environment; use a file".to_owned());
    }
    let (name, sections) = steps.split_last().ok_or("names no key")?;
    let mut section: &mut dyn Section = config;
    for step in sections {
        let known = section.section_names();
        section = section.section_mut(step).ok_or_else(|| unknown_key(step, known))?;
    }
    match section.key(name) {
        Some(key) => section.set(key, Input::Text(text)),
        None => Err(unknown_key(name, &section.keys().iter().map(|key| key.name).collect::<Vec<_>>())),
    }
}
