//! Doing it: threads, connections, the schedule, and the conductor that takes all of them through the phases connect,
//! warm-up, measure, drain and close. Absent: what the figures mean (`measure`) and how they are shown (`report`).

pub(crate) mod conductor;
mod connection;
mod connector;
pub(crate) mod findings;
mod outcome;
mod publishing;
mod shared;
mod slow;
pub(crate) mod storm;
mod window;
mod worker;
