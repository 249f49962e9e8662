//! What event targets say once a second at most, however many events it is about.

use std::fmt;

use super::feed::Fate;
use crate::logging::{RateLimited, printable};

/// Events that did not fit into a buffer.
pub(super) static OVERFLOWN: RateLimited = RateLimited::new("events without room", 1);
/// Events that a target will not have, whatever is tried.
static REFUSED: RateLimited = RateLimited::new("refused events", 1);
/// Ended connections whose state will not be removed.
pub(super) static FORGOTTEN: RateLimited = RateLimited::new("forgotten states", 1);

/// Says how many lines were left out, if any were.
pub(crate) fn report_suppressed() {
    [&OVERFLOWN, &REFUSED, &FORGOTTEN].into_iter().for_each(RateLimited::report);
}

/// Says that a target refused an event, and drops it.
pub(super) fn refused(target: &str, reason: impl fmt::Display) -> Fate {
    if REFUSED.admit() {
        tracing::warn!("{target}: an event is dropped: {}", printable(&reason.to_string()));
    }
    Fate::Dropped
}
