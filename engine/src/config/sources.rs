//! Where a configuration comes from, and in which order: defaults < preset < file < `PORT` < environment < flags.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Place, Problem};
use super::read::{Source, key_path};
use super::{Config, Driver, LogFormat, LogLevel, Preset, ShardCount, environment, rules};

/// The file that is read where none is named.
const DEFAULT_FILE: &str = "config.yaml";

/// A configuration file's bytes at most.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Everything that a configuration is made of.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// `--preset`, or chat for `start`.
    pub preset: Option<Preset>,
    /// Whether `PORT` counts (for `start`).
    pub port_variable: bool,
    /// The process's environment.
    pub environment: Vec<(String, String)>,
    /// Flags.
    pub overrides: Overrides,
}

/// Settings given as flags.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--host`.
    pub host: Option<String>,
    /// `--port`.
    pub port: Option<u16>,
    /// `--metrics-port`.
    pub metrics_port: Option<u16>,
    /// `--shards`.
    pub shards: Option<ShardCount>,
    /// `--driver`.
    pub driver: Option<Driver>,
    /// `--log-format`.
    pub log_format: Option<LogFormat>,
    /// `--log-level`.
    pub log_level: Option<LogLevel>,
}

/// A configuration and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Keeps every rule.
    pub config: Config,
    /// For the start line.
    pub origin: Origin,
}

/// What a configuration is based on; shows without spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    preset: Option<Preset>,
    file: Option<PathBuf>,
}

impl Sources {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// Every problem of the first source that has any, or of the whole.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let file = self.file.clone().or_else(|| self.default_file());
        let text = file.as_deref().map(read_file).transpose()?;
        let source = file.as_deref().zip(text.as_deref()).map(|(file, text)| Source::parse(file, text)).transpose()?;
        let is_gateways = || source.as_ref().is_some_and(Source::is_wsgateways).then_some(Preset::Gateway);
        let mut config = self.preset.or_else(is_gateways).map_or_else(Config::default, Preset::config);
        if let Some(source) = &source {
            source.apply(&mut config)?;
        }
        self.apply_environment(&mut config)?;
        self.overrides.apply(&mut config);
        let broken = rules::check(&config);
        if broken.is_empty() {
            return Ok(Loaded { config, origin: Origin { preset: self.preset, file } });
        }
        let problem = |(steps, reason): rules::Broken| {
            let place = source.as_ref().and_then(|source| source.place(&steps)).unwrap_or(Place::Effective);
            Problem { place, key: key_path(&steps), reason }
        };
        Err(ConfigError { problems: broken.into_iter().map(problem).collect() })
    }

    fn default_file(&self) -> Option<PathBuf> {
        let file = PathBuf::from(DEFAULT_FILE);
        (self.preset.is_none() && file.exists()).then_some(file)
    }

    fn apply_environment(&self, config: &mut Config) -> Result<(), ConfigError> {
        // What a flag overrides is not even looked at: platforms set `PORT` for their own ends.
        let port_counts = self.port_variable && self.overrides.port.is_none();
        let port = if port_counts { environment::apply_port(config, &self.environment) } else { None };
        let problems: Vec<_> = port.into_iter().chain(environment::apply(config, &self.environment)).collect();
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }
}

impl Overrides {
    fn apply(&self, config: &mut Config) {
        fn set<T: Clone>(target: &mut T, value: Option<&T>) {
            if let Some(value) = value {
                target.clone_from(value);
            }
        }
        set(&mut config.server.host, self.host.as_ref());
        set(&mut config.server.port, self.port.as_ref());
        set(&mut config.metrics.port, self.metrics_port.as_ref());
        set(&mut config.server.shards, self.shards.as_ref());
        set(&mut config.server.driver, self.driver.as_ref());
        set(&mut config.log.format, self.log_format.as_ref());
        set(&mut config.log.level, self.log_level.as_ref());
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.preset, &self.file) {
            (None, None) => f.write_str("defaults"),
            (None, Some(file)) => write!(f, "{}", file.display()),
            (Some(preset), None) => write!(f, "preset:{preset}"),
            (Some(preset), Some(file)) => write!(f, "preset:{preset}+{}", file.display()),
        }
    }
}

fn read_file(file: &Path) -> Result<String, ConfigError> {
    let failed = |reason: String| {
        let place = Place::File { file: file.to_owned(), line: 0 };
        ConfigError::from(Problem { place, key: String::new(), reason })
    };
    let mut text = String::new();
    let opened = File::open(file).map_err(|error| failed(format!("cannot be opened: {error}")))?;
    match opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text) {
        Err(error) => Err(failed(format!("cannot be read: {error}"))),
        Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => Err(failed(format!("is longer than {FILE_BYTES_MAX} bytes"))),
        Ok(_) => Ok(text),
    }
}
