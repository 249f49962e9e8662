//! What the user sees: messages as they come, and on a terminal the line being typed below them.

use std::io::{self, IsTerminal, Write, stderr, stdin, stdout};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::editor::{ERASE, Editor, Typed};
use crate::logging::is_obeyed;

/// Columns of a terminal that does not tell.
const COLUMNS: usize = 80;

/// See the module's description.
pub(super) enum Screen {
    /// Input or output is no terminal: lines in, lines out.
    Plain,
    /// Input and output are a terminal: its echo is ours.
    Terminal { editor: Editor, _mode: KeyByKey },
}

impl Screen {
    /// A terminal if there is one.
    ///
    /// # Errors
    /// The terminal does not take its mode.
    pub(super) fn new() -> io::Result<Self> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Ok(Self::Plain);
        }
        Ok(Self::Terminal { editor: Editor::default(), _mode: KeyByKey::enter()? })
    }

    /// Shows a message that came, or anything else for stdout, above the line being typed.
    ///
    /// # Errors
    /// Nobody takes it.
    pub(super) fn show(&self, text: &str) -> io::Result<()> {
        let mut out = stdout().lock();
        match self {
            Self::Plain => writeln!(out, "{}", printed(text))?,
            Self::Terminal { editor, .. } => {
                write!(out, "{ERASE}{}\n{}", printed(text), editor.draw(columns()))?;
            }
        }
        out.flush()
    }

    /// Tells something that is no message: above the line on a terminal, else on stderr.
    ///
    /// # Errors
    /// Nobody takes it.
    pub(super) fn tell(&self, text: &str) -> io::Result<()> {
        match self {
            Self::Plain => writeln!(stderr(), "{}", printed(text)),
            Self::Terminal { .. } => self.show(text),
        }
    }

    /// Takes keys. For terminals only.
    ///
    /// # Errors
    /// Nobody takes what is drawn.
    pub(super) fn handle_keys(&mut self, bytes: &[u8]) -> io::Result<Vec<Typed>> {
        let Self::Terminal { editor, .. } = self else { return Ok(Vec::new()) };
        let mut typed = Vec::new();
        let mut out = stdout().lock();
        // Each finished line stays where it was typed.
        for keys in bytes.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')) {
            let before = typed.len();
            typed.extend(editor.handle(keys));
            if let Some(Typed::Line(line)) = typed.get(before).filter(|typed| **typed != Typed::Line(String::new())) {
                writeln!(out, "{}", Editor::of(line).draw(columns()))?;
            }
        }
        write!(out, "{}", editor.draw(columns()))?;
        out.flush()?;
        Ok(typed)
    }

    /// Draws the line again: the window has another size, or the program goes on after a stop.
    ///
    /// # Errors
    /// Nobody takes it, or the terminal does not take its mode.
    pub(super) fn draw_again(&self) -> io::Result<()> {
        let Self::Terminal { editor, .. } = self else { return Ok(()) };
        KeyByKey::enter()?.keep();
        let mut out = stdout().lock();
        write!(out, "{}", editor.draw(columns()))?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Self::Terminal { .. } = self {
            // Whoever comes next begins a row of its own.
            _ = stdout().write_all(ERASE.as_bytes()).and_then(|()| stdout().flush());
        }
    }
}

/// The terminal gives every key at once and shows none; dropped, it is as it was before. Ctrl+C still interrupts.
pub(super) struct KeyByKey(Option<Termios>);

impl KeyByKey {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut mode = before.clone();
        mode.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::IEXTEN;
        tcsetattr(stdin(), OptionalActions::Now, &mode)?;
        Ok(Self(Some(before)))
    }

    /// Leaves the mode to the one that was entered first.
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for KeyByKey {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // A terminal that is gone needs no mode.
            _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

fn columns() -> usize {
    tcgetwinsize(stdout()).map_or(COLUMNS, |size| if size.ws_col == 0 { COLUMNS } else { size.ws_col.into() })
}

/// The text with a mark for everything that a terminal would obey.
fn printed(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_obeyed(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::printed;

    #[test]
    fn nothing_that_a_terminal_obeys_is_printed() {
        assert_eq!(printed("ada: \x1b[2J\r\nx\t\u{9b}31m\u{202e}é🦀"), "ada: �[2J��x��31m�é🦀");
    }
}
