//! What is wrong with a configuration: every problem at once, each with where, which key and what is allowed.

use std::fmt;
use std::path::PathBuf;

/// Why a configuration could not be used. Shows one problem per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one, in the order of the file.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the value came from.
    pub place: Place,
    /// The key's place in the tree, such as `endpoints[1].path`; empty for the whole.
    pub key: String,
    /// What is wrong and what is allowed.
    pub reason: String,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file and a line in it, from 1; 0 if the problem has no line.
    File {
        /// As given on the command line.
        file: PathBuf,
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        name: String,
    },
    /// Several values that do not fit together, after all of them were read.
    Effective,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { file, line: 0 } => write!(f, "{}: ", file.display())?,
            Place::File { file, line } => write!(f, "{}:{line}: ", file.display())?,
            Place::Environment { name } => write!(f, "environment variable {name}: ")?,
            Place::Effective => f.write_str("configuration: ")?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.reason)
    }
}

/// The reason for a key that does not exist, with the nearest one that does.
pub(super) fn unknown_key(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(key) => format!("unknown key; did you mean {key}?"),
        None => format!("unknown key; known here are {}", known.join(", ")),
    }
}

/// The word nearest to `word` by edits, if it is near enough to have been meant: at most a third of the letters.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = word.chars().count().div_ceil(3).max(2);
    let turned = in_order(&word);
    // `max_connections` is near to `connections_max`: one edit for the turn.
    let distance = |known: &str| edits(&word, known).min(edits(&turned, &in_order(known)) + 1);
    known.map(|known| (distance(known), known)).min().filter(|(edits, _)| *edits <= limit).map(|(_, known)| known)
}

/// The parts of a key in alphabetical order.
fn in_order(key: &str) -> String {
    let mut parts: Vec<&str> = key.split('_').collect();
    parts.sort_unstable();
    parts.join("_")
}

/// Insertions, deletions, replacements and swaps of neighbours that make `b` of `a` (restricted Damerau–Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i];
        for j in 1..=b.len() {
            let replaced = row[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found_and_a_far_one_is_not() {
        let known = ["host", "port", "shards", "shutdown_timeout_ms", "connections_per_ip_max"];
        for (word, expected) in [
            ("prot", Some("port")),
            ("Port", Some("port")),
            ("shard", Some("shards")),
            ("shutdown_timeout", Some("shutdown_timeout_ms")),
            ("connection_per_ip_max", Some("connections_per_ip_max")),
            ("max_connections_per_ip", Some("connections_per_ip_max")),
            ("banana_split", None),
            ("zzz", None),
        ] {
            assert_eq!(nearest(word, known.iter().copied()), expected, "{word}");
        }
        assert_eq!(
            unknown_key("zzz", &["a_long_key", "other_key"]),
            "unknown key; known here are a_long_key, other_key"
        );
    }

    #[test]
    fn edits_count_a_swap_of_neighbours_as_one() {
        assert_eq!(
            (edits("", "abc"), edits("abc", "abc"), edits("prot", "port"), edits("kitten", "sitting")),
            (3, 0, 1, 3)
        );
    }
}
