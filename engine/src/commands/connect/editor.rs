//! The line being typed, sans-IO: bytes from a terminal in, finished lines and what to draw out.
//!
//! Always one row: a line that is wider than the terminal scrolls sideways, so that it can be taken away and drawn again
//! around whatever arrives. Invariant: `at` lies between characters.

use unicode_width::UnicodeWidthChar;

/// What stands in front of the line.
const PROMPT: &str = "> ";

/// Bytes of a line at most; more is not taken.
const LINE_BYTES_MAX: usize = 1 << 20;

/// What a key asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// Enter: this line is finished.
    Line(String),
    /// Ctrl+D on an empty line.
    End,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Editor {
    line: String,
    /// The cursor, in bytes.
    at: usize,
    /// Bytes of a character or of an escape sequence that is not complete.
    partial: Vec<u8>,
}

/// A step of the cursor through the line.
#[derive(Debug, Clone, Copy)]
enum Place {
    Start,
    End,
    Left,
    Right,
    /// Where the word before the cursor starts.
    Word,
}

impl Editor {
    /// One in which this line was typed.
    pub(super) fn of(line: &str) -> Self {
        Self { line: line.to_owned(), at: line.len(), partial: Vec::new() }
    }

    /// Takes bytes as the terminal sent them.
    pub(super) fn handle(&mut self, bytes: &[u8]) -> Vec<Typed> {
        bytes.iter().filter_map(|byte| self.handle_byte(*byte)).collect()
    }

    fn handle_byte(&mut self, byte: u8) -> Option<Typed> {
        if self.partial.first() == Some(&0x1b) {
            self.partial.push(byte);
            self.handle_escape();
            return None;
        }
        if byte >= 0x80 {
            self.partial.push(byte);
            self.handle_utf8();
            return None;
        }
        // An unfinished character is none.
        self.partial.clear();
        match byte {
            b'\r' | b'\n' => {
                self.at = 0;
                return Some(Typed::Line(std::mem::take(&mut self.line)));
            }
            0x04 if self.line.is_empty() => return Some(Typed::End),
            0x04 => self.delete(Place::Right),
            0x08 | 0x7f => self.delete(Place::Left),
            0x01 => self.at = self.place(Place::Start),
            0x05 => self.at = self.place(Place::End),
            0x02 => self.at = self.place(Place::Left),
            0x06 => self.at = self.place(Place::Right),
            0x0b => self.delete(Place::End),
            0x15 => self.delete(Place::Start),
            0x17 => self.delete(Place::Word),
            0x1b => self.partial.push(byte),
            b' '..=b'~' => self.insert(char::from(byte)),
            b'\t' => self.insert(' '),
            _ => {}
        }
        None
    }

    /// ESC [ parameters final, ESC O final, or ESC and one byte (ECMA-48 section 5.4).
    fn handle_escape(&mut self) {
        let place = match self.partial[1..] {
            [b'['] | [b'O'] => return,
            [b'[', .., last] if !(0x40..=0x7e).contains(&last) => return,
            [b'[', b'D'] | [b'O', b'D'] => Some(Place::Left),
            [b'[', b'C'] | [b'O', b'C'] => Some(Place::Right),
            [b'[', b'H'] | [b'O', b'H'] | [b'[', b'1' | b'7', b'~'] => Some(Place::Start),
            [b'[', b'F'] | [b'O', b'F'] | [b'[', b'4' | b'8', b'~'] => Some(Place::End),
            [b'[', b'3', b'~'] => {
                self.delete(Place::Right);
                None
            }
            _ => None,
        };
        self.partial.clear();
        if let Some(place) = place {
            self.at = self.place(place);
        }
    }

    fn handle_utf8(&mut self) {
        match std::str::from_utf8(&self.partial) {
            Ok(text) => {
                let c = text.chars().next();
                self.partial.clear();
                c.filter(|c| !c.is_control()).into_iter().for_each(|c| self.insert(c));
            }
            // The last byte cannot follow those before: it may begin another character.
            Err(error) if error.error_len().is_some() => {
                let last = self.partial.pop();
                let had_more = !self.partial.is_empty();
                self.partial.clear();
                if let Some(last) = last.filter(|last| had_more && *last >= 0xc0) {
                    self.partial.push(last);
                }
            }
            Err(_) => {}
        }
    }

    fn insert(&mut self, c: char) {
        if self.line.len() + c.len_utf8() <= LINE_BYTES_MAX {
            self.line.insert(self.at, c);
            self.at += c.len_utf8();
        }
    }

    fn place(&self, place: Place) -> usize {
        let (before, after) = self.line.split_at(self.at);
        match place {
            Place::Start => 0,
            Place::End => self.line.len(),
            Place::Left => self.at - before.chars().next_back().map_or(0, char::len_utf8),
            Place::Right => self.at + after.chars().next().map_or(0, char::len_utf8),
            Place::Word => before
                .trim_end()
                .rfind(char::is_whitespace)
                .map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8)),
        }
    }

    /// Deletes what lies between the cursor and a place.
    fn delete(&mut self, to: Place) {
        let other = self.place(to);
        let (start, end) = (self.at.min(other), self.at.max(other));
        self.line.replace_range(start..end, "");
        self.at = start;
    }

    /// What shows prompt and line in a row of `columns` columns, the cursor in its place.
    pub(super) fn draw(&self, columns: usize) -> String {
        // The last column stays free: a terminal would go on in the next row.
        let room = columns.saturating_sub(PROMPT.len() + 1).max(1);
        let (before, after) = self.line.split_at(self.at);
        let mut left = room;
        let start = before.char_indices().rev().take_while(|(_, c)| fits(*c, &mut left)).last();
        let shown_before = &before[start.map_or(before.len(), |(at, _)| at)..];
        let shown_after = after.char_indices().take_while(|(_, c)| fits(*c, &mut left)).last();
        let shown_after = &after[..shown_after.map_or(0, |(at, c)| at + c.len_utf8())];
        let mut text = format!("\r{PROMPT}{shown_before}{shown_after}\x1b[K");
        if !shown_after.is_empty() {
            let columns = PROMPT.len() + shown_before.chars().map(width).sum::<usize>();
            text.push_str(&format!("\r\x1b[{columns}C"));
        }
        text
    }
}

/// What takes prompt and line away.
pub(super) const ERASE: &str = "\r\x1b[K";

/// Columns of a character.
fn width(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// Takes the character's columns from the room that is left, if they are there.
fn fits(c: char, left: &mut usize) -> bool {
    let rest = left.checked_sub(width(c));
    *left = rest.unwrap_or(0);
    rest.is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn typed(bytes: &[u8]) -> Editor {
        let mut editor = Editor::default();
        assert_eq!(editor.handle(bytes), []);
        editor
    }

    fn line(bytes: &[u8]) -> String {
        typed(bytes).line
    }

    #[test]
    fn keys_edit_the_line() {
        for (bytes, expected) in [
            ("grüße", "grüße"),
            ("grüße\x7f\x7f\x08\x08x", "gx"),
            ("你好🦀\x7f!", "你好!"),
            ("bc\x1b[D\x1b[Da", "abc"),
            ("bc\x01a\x05d", "abcd"),
            ("bc\x1bOHa\x1b[Fd", "abcd"),
            ("abc\x1b[1~\x1b[3~\x04x", "xc"),
            ("abc\x1b[D\x0b", "ab"),
            ("abc\x1b[D\x15", "c"),
            ("one two  \x17x", "one x"),
            ("one\x17", ""),
            ("a\tb\x07\x00c\x1b[200~d\x1bxe", "a bcde"),
            ("\x7f\x1b[D\x1b[C\x1b[3~\x17\x0b", ""),
        ] {
            assert_eq!(line(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn enter_finishes_a_line_and_control_d_ends_an_empty_one() {
        let mut editor = Editor::default();
        let events = editor.handle("one\rtwo\n\r\x04x\x04\x04".as_bytes());
        let lines = ["one", "two", ""].map(|text| Typed::Line(text.to_owned()));
        assert_eq!(events[..3], lines);
        assert_eq!(events[3..], [Typed::End]);
        assert_eq!(editor.line, "x");
    }

    #[test]
    fn bytes_that_are_no_utf8_are_left_out() {
        assert_eq!(line(b"a\xffb\xc3c\xc3\xc3\xa9d\xe4\xbde\xa0f"), "abcédef");
    }

    #[test]
    fn a_line_is_drawn_in_one_row_with_its_cursor() {
        assert_eq!(typed(b"").draw(80), "\r> \x1b[K");
        assert_eq!(typed(b"abc").draw(80), "\r> abc\x1b[K");
        assert_eq!(typed(b"abc\x1b[D").draw(80), "\r> abc\x1b[K\r\x1b[4C");
        assert_eq!(typed("你好吗\x1b[D".as_bytes()).draw(80), "\r> 你好吗\x1b[K\r\x1b[6C");
        assert_eq!(typed(b"0123456789").draw(8), "\r> 56789\x1b[K");
        assert_eq!(typed(b"0123456789\x01").draw(8), "\r> 01234\x1b[K\r\x1b[2C");
        assert_eq!(typed("你好吗吗".as_bytes()).draw(8), "\r> 吗吗\x1b[K");
    }

    proptest! {
        #[test]
        fn whatever_is_typed_is_drawn_within_the_row(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x1b), Just(b'['), Just(b'D'), Just(0xe4)], 0..200),
            text in "[a-z é你🦀]{0,60}",
            columns in 1_usize..40,
        ) {
            let mut editor = Editor::default();
            editor.handle(text.as_bytes());
            editor.handle(&bytes);
            prop_assert!(editor.line.is_char_boundary(editor.at));
            let drawn = editor.draw(columns);
            let row = drawn.strip_prefix("\r> ").unwrap().split("\x1b[K").next().unwrap();
            let taken: usize = row.chars().map(width).sum();
            prop_assert!(taken <= columns.saturating_sub(3).max(1), "{taken} columns of {columns}");
        }
    }
}
