//! Comparing: two reports, or many pairs of runs. Absent: driving loads.

pub(crate) mod diff;
pub(crate) mod merge;
pub(crate) mod rank;
