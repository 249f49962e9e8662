//! `ringrelay config`: prints a preset, or the defaults, as a file with every key commented.

use std::process::ExitCode;

use super::print;
use crate::config::{Config, Preset};

/// Prints a preset, or the defaults.
#[must_use]
pub fn run(preset: Option<Preset>) -> ExitCode {
    print(&preset.map_or_else(defaults, of_preset))
}

/// The defaults: what `config.yaml` in the repository holds.
#[must_use]
pub fn defaults() -> String {
    Config::default().to_commented_yaml(&title(""))
}

fn of_preset(preset: Preset) -> String {
    preset.config().to_commented_yaml(&title(&format!(", preset {preset}")))
}

fn title(what: &str) -> String {
    format!("ringrelay{what}: every setting with its default. \"ringrelay check\" shows what a file gives.")
}
