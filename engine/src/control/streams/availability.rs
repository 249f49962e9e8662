//! Whether a target can be reached, as the log and the metrics tell it.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::figures::Figures;
use crate::logging::printable;

/// The standing of one target.
#[derive(Debug)]
pub(super) struct Availability {
    figures: Arc<Figures>,
    /// The target's address, fit for the log.
    shown: String,
    /// Why it is down, as it was logged last.
    trouble: RefCell<Option<Failure>>,
}

impl Availability {
    /// Down, until [`Availability::up`]. `shown` is the target's address without passwords.
    pub(super) fn new(figures: Arc<Figures>, shown: String) -> Self {
        Self { figures, shown, trouble: RefCell::new(None) }
    }

    pub(super) fn figures(&self) -> &Arc<Figures> {
        &self.figures
    }

    pub(super) fn is_up(&self) -> bool {
        self.figures.up.load(Relaxed)
    }

    /// The target can be reached.
    pub(super) fn up(&self) {
        if !self.figures.up.swap(true, Relaxed) {
            self.trouble.take();
            tracing::info!("{self}: connected{}", self.waiting());
        }
    }

    /// The target cannot be reached; logged once for each reason.
    pub(super) fn down(&self, failure: Failure) {
        let was_up = self.figures.up.swap(false, Relaxed);
        let mut trouble = self.trouble.borrow_mut();
        if was_up || trouble.as_ref() != Some(&failure) {
            tracing::warn!("{self}: {failure}{}", self.waiting());
            *trouble = Some(failure);
        }
    }
}

impl Availability {
    /// How many events wait, as the end of a line; nothing where none are counted.
    fn waiting(&self) -> String {
        if self.figures.events {
            format!("; {} events wait", self.figures.waiting.load(Relaxed))
        } else {
            String::new()
        }
    }
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.figures.target, self.shown)
    }
}

/// Why a target cannot be reached, or refuses an event; for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure(pub(super) String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Some errors already say what caused them.
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        Self(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", printable(&self.0))
    }
}
