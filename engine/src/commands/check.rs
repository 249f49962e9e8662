//! `ringrelay check`: validates a configuration and prints what is in effect.

use std::fs::File;
use std::process::ExitCode;

use super::{print, tell, usage_error};
use crate::config::{Config, Sources};

/// Prints the effective configuration as YAML that reads back as the same; exit code 2 and every problem if there is one.
#[must_use]
pub fn run(sources: &Sources) -> ExitCode {
    match sources.load() {
        Ok(loaded) => {
            for warning in unreadable_files(&loaded.config).into_iter().chain(loaded.config.warnings()) {
                tell(format_args!("warning: {warning}"));
            }
            print(&loaded.config.to_yaml())
        }
        Err(error) => usage_error(&error),
    }
}

/// What the server would not start without here; the file may be meant for another machine, so no error.
pub(super) fn unreadable_files(config: &Config) -> Vec<String> {
    let tls = &config.server.tls;
    let files = [("cert_file", &tls.cert_file), ("key_file", &tls.key_file)].into_iter().filter(|_| tls.enabled);
    let failed = files.filter_map(|(key, file)| File::open(file).err().map(|error| (key, file, error)));
    failed.map(|(key, file, error)| format!("server.tls.{key}: {file} cannot be read: {error}")).collect()
}
