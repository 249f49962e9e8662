//! The line per second: rewritten in place on a terminal, with a progress bar, and plain lines everywhere else. What is
//! no terminal, `TERM=dumb` and `NO_COLOR` get no escape code.

use std::io::{self, IsTerminal, Write};

use super::{Moment, Phase};
use crate::out;
use crate::sys::terminal;

/// Erases from the cursor to the end of the line.
const ERASE: &str = "\x1b[K";

/// A bar with fewer steps than this says nothing.
const BAR_STEPS_MIN: usize = 10;
const BAR_STEPS_MAX: usize = 40;

/// Where the line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Nowhere,
    Plain,
    Terminal,
}

impl Line {
    pub(super) fn new(is_quiet: bool) -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        match () {
            () if is_quiet => Self::Nowhere,
            () if io::stderr().is_terminal() && !is_dumb && !is_set("NO_COLOR") => Self::Terminal,
            () => Self::Plain,
        }
    }

    pub(super) fn show(self, moment: &Moment) {
        let text = match self {
            Self::Nowhere => return,
            Self::Plain => format!("{}\n", plain(moment)),
            // One column stays free: some terminals wrap when the last one is written.
            Self::Terminal => format!("\r{}{ERASE}", bar(moment, terminal::stderr_columns().saturating_sub(1))),
        };
        // A stderr that is gone is no reason to end a measurement.
        let _ = io::stderr().write_all(text.as_bytes());
    }

    /// A line that stays.
    pub(super) fn say(self, what: &str) {
        self.clear();
        if self != Self::Nowhere {
            out::note(what);
        }
    }

    /// Empties the terminal's line.
    pub(super) fn clear(self) {
        if self == Self::Terminal {
            let _ = io::stderr().write_all(format!("\r{ERASE}").as_bytes());
        }
    }
}

fn plain(moment: &Moment) -> String {
    let (seconds, connections) = (moment.seconds, &moment.connections);
    if matches!(moment.phase, Phase::Connecting) {
        return format!("connecting: {} of {}", connections.opened, connections.asked);
    }
    let (sent, delivered) = (moment.sent_per_s, moment.delivered_per_s);
    let mut line =
        format!("{seconds:>4.0} s  sent {sent:>9}/s  delivered {delivered:>11}/s  open {}", connections.open);
    if let (Some(p99), Some(verdict)) = (p99(moment), moment.verdict) {
        line += &format!("  p99 {p99}  {}", verdict.name());
    }
    line
}

/// The phase, a bar, and as many of the figures as `columns` have room for, the most important first.
fn bar(moment: &Moment, columns: usize) -> String {
    let connections = &moment.connections;
    let mut figures = Vec::new();
    if moment.phase == Phase::Connecting {
        figures.push(format!("{} of {}", connections.opened, connections.asked));
    } else {
        figures.push(format!("{:.0} s", moment.seconds));
        figures.extend(p99(moment).map(|p99| format!("p99 {p99}")));
        figures.push(format!("sent {}/s", moment.sent_per_s));
        figures.push(format!("delivered {}/s", moment.delivered_per_s));
        figures.extend(moment.verdict.map(|verdict| verdict.name().to_owned()));
        figures.push(format!("open {}", connections.open));
    }
    let mut line = format!("{:<10}", moment.phase.name());
    // Does not depend on the figures, so that it stays where it is.
    let steps = (columns / 4).min(BAR_STEPS_MAX);
    if steps >= BAR_STEPS_MIN {
        let full = ((moment.done.clamp(0.0, 1.0) * steps as f64) as usize).min(steps);
        line += &format!(" [{}{}]", "=".repeat(full), " ".repeat(steps - full));
    }
    for figure in figures {
        if line.len() + 2 + figure.len() <= columns {
            line += &format!("  {figure}");
        }
    }
    line.truncate(columns);
    line
}

fn p99(moment: &Moment) -> Option<String> {
    moment.response.quantile_us(0.99).map(|us| match us {
        us if us < 1000.0 => format!("{us:.0} us"),
        us => format!("{:.1} ms", us / 1000.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_any_width_and_a_wide_one_has_everything() {
        let moment = Moment::example();
        (0..200).for_each(|columns| assert!(bar(&moment, columns).len() <= columns));
        let wide = bar(&moment, 120);
        assert!(wide.starts_with("measuring  [===============               ]  12 s  p99 99"), "{wide}");
        assert!(wide.ends_with("us  sent 500/s  delivered 50000/s  DEGRADED  open 100"), "{wide}");
        let narrow = bar(&moment, 39);
        assert!(!narrow.contains('[') && narrow.contains("  12 s  p99 99"), "{narrow}");
        assert_eq!(bar(&moment, 4), "meas");
    }

    #[test]
    fn plain_lines_begin_with_the_second() {
        let moment = Moment::example();
        assert!(plain(&moment).starts_with("  12 s  sent       500/s  delivered       50000/s  open 100  p99 99"));
        let connecting = Moment { phase: Phase::Connecting, ..moment };
        assert_eq!(plain(&connecting), "connecting: 101 of 101");
    }
}
