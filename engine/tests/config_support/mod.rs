//! What the tests of the configuration share: files that live as long as a test, and their problems as text.
#![allow(dead_code, reason = "each suite uses what it needs")]

use std::path::PathBuf;

use engine::config::Sources;

/// A file of that content which lives as long as the test.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("config-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join(name);
        std::fs::write(&file, text).unwrap();
        Self(file)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

pub(crate) fn from_file(file: &Scratch) -> Sources {
    Sources { file: Some(file.0.clone()), ..Sources::default() }
}

pub(crate) fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The problems of a file as `line: key: reason`.
pub(crate) fn problems(name: &str, text: &str) -> Vec<String> {
    let file = Scratch::new(name, text);
    let error = from_file(&file).load().unwrap_err().to_string();
    let prefix = format!("{}:", file.0.display());
    error.lines().map(|line| line.strip_prefix(&prefix).unwrap_or(line).to_owned()).collect()
}
