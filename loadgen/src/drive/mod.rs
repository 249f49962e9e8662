//! Doing it: threads, connections, the schedule, and the conductor that takes all of them through the phases connect,
//! warm-up, measure, drain and close. Absent: what the figures mean (`measure`) and how they are shown (`report`).

mod agenda;
#[cfg(test)]
mod allocations;
pub(crate) mod conductor;
mod connection;
mod connector;
pub(crate) mod cuts;
pub(crate) mod findings;
mod happenings;
pub(crate) mod meeting;
mod outcome;
mod publishing;
mod shared;
mod slow;
mod timeline;
mod watch;
mod window;
mod worker;
