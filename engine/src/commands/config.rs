//! `ringrelay config`: prints a preset, or the defaults, as a file with every key commented.

use crate::config::{Config, Preset};

/// A preset as YAML.
#[must_use]
pub fn preset(preset: Preset) -> String {
    let title = format!(
        "ringrelay, preset {preset}. Every setting with its default; \"ringrelay check\" shows what a file gives."
    );
    preset.config().to_commented_yaml(&title)
}

/// The defaults as YAML: what `config.yaml` in the repository holds.
#[must_use]
pub fn defaults() -> String {
    let title = "ringrelay. Every setting with its default; \"ringrelay check\" shows what a file gives.";
    Config::default().to_commented_yaml(title)
}
