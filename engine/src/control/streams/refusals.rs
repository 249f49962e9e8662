//! Events that a target will not have, whatever is tried.

use std::fmt;

use super::feed::Fate;
use crate::logging::{RateLimited, printable};

/// Lines about refused events, of all targets together.
static REFUSED: RateLimited = RateLimited::new("refused events", 1);

/// Says that a target refused an event, and drops it.
pub(super) fn refused(target: &str, reason: impl fmt::Display) -> Fate {
    if REFUSED.admit() {
        tracing::warn!("{target}: an event is dropped: {}", printable(&reason.to_string()));
    }
    Fate::Dropped
}
