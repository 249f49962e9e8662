//! A terminal: a pseudo-terminal below the client, and an emulator that shows what its user would see.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus};

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

use super::client::command;
use super::host::Host;
use super::support::{eventually, eventually_some};

const ROWS: u16 = 12;
const COLUMNS: u16 = 40;

/// A client whose stdin, stdout and stderr are a terminal.
struct Terminal {
    master: File,
    /// Held open, so that its mode can be looked at when the client has gone.
    slave: File,
    /// As it was before the client.
    mode: Termios,
    child: Child,
    screen: vt100::Parser,
}

impl Terminal {
    fn start(arguments: &[&str]) -> Self {
        let size = Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        rustix::io::ioctl_fionbio(&master, true).unwrap();
        let mode = tcgetattr(&slave).unwrap();
        let mut command = command(arguments);
        let end = || slave.try_clone().unwrap();
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: setsid and ioctl are async-signal-safe and touch no memory of this process.
        unsafe {
            command.pre_exec(|| {
                // Its keys raise signals only in a session whose terminal it is.
                nix::unistd::setsid()?;
                nix::errno::Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        let screen = vt100::Parser::new(ROWS.try_into().unwrap(), COLUMNS.try_into().unwrap(), 0);
        Self { master: master.into(), slave: slave.into(), mode, child, screen }
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Shows on the screen what the client has written so far.
    fn read(&mut self) {
        let mut chunk = [0; 4096];
        loop {
            match self.master.read(&mut chunk) {
                Ok(0) => return,
                Ok(bytes) => self.screen.process(&chunk[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The client has gone.
                Err(_) => return,
            }
        }
    }

    /// What stands on the screen, without the rows below the last that is not empty.
    fn rows(&mut self) -> Vec<String> {
        self.read();
        let mut rows: Vec<String> =
            self.screen.screen().rows(0, COLUMNS).map(|row| row.trim_end().to_owned()).collect();
        while rows.last().is_some_and(String::is_empty) {
            rows.pop();
        }
        rows
    }

    /// Waits until these are the last rows.
    fn wait_for(&mut self, last: &[&str]) {
        let last: Vec<String> = last.iter().map(|row| (*row).to_owned()).collect();
        eventually(&format!("the last rows are {last:#?}"), || self.rows().ends_with(&last));
    }

    /// The cursor's column.
    fn column(&mut self) -> u16 {
        self.read();
        self.screen.screen().cursor_position().1
    }

    fn wait(&mut self) -> ExitStatus {
        eventually_some("the client ends", || self.child.try_wait().unwrap())
    }

    fn is_as_before(&self) -> bool {
        let mode = tcgetattr(&self.slave).unwrap();
        mode.local_flags == self.mode.local_flags && mode.input_flags == self.mode.input_flags
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what stands on the screen: {:#?}", self.rows());
        }
        // Failure means that it has ended.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn what_arrives_leaves_the_line_being_typed_and_its_cursor_alone() {
    let host = Host::new();
    let mut terminal = Terminal::start(&[&host.url()]);
    let mut guest = host.accept();
    // The greeting is wider than this window.
    terminal.wait_for(&["Type your messages (press Ctrl+C to exit", "):", ">"]);
    assert!(!terminal.is_as_before(), "keys come one by one");
    terminal.press("Grüße 你好x\x7f");
    terminal.wait_for(&["> Grüße 你好"]);
    guest.say("ben: hello");
    terminal.wait_for(&["ben: hello", "> Grüße 你好"]);
    assert_eq!(terminal.column(), 12);
    terminal.press("\x1b[D\x1b[D");
    eventually("the cursor moves", || terminal.column() == 8);
    guest.say("ben: \x1b[2J\x1b[Hgotcha\r\n");
    // The emulator shows nothing for the marks that stand in for control characters.
    terminal.wait_for(&["ben: hello", "ben: [2J[Hgotcha", "> Grüße 你好"]);
    assert_eq!(terminal.column(), 8);
    terminal.press("und \r");
    assert_eq!(guest.hear().as_deref(), Some("Grüße und 你好"));
    guest.say("ada: Grüße und 你好");
    terminal.wait_for(&["> Grüße und 你好", "ada: Grüße und 你好", ">"]);
    // An empty line says nothing.
    terminal.press("\r\rnext\r");
    assert_eq!(guest.hear().as_deref(), Some("next"));
    terminal.press("\x03");
    assert_eq!(guest.hear(), None);
    assert_eq!(terminal.wait().code(), Some(0));
    assert!(terminal.is_as_before(), "the terminal is given back as it was");
}

#[test]
fn a_line_longer_than_the_window_scrolls_sideways_and_is_sent_whole() {
    let host = Host::new();
    let mut terminal = Terminal::start(&[&host.url()]);
    let mut guest = host.accept();
    let long: String = (0..300).map(|number| char::from(b'a' + (number % 26) as u8)).collect();
    terminal.wait_for(&[">"]);
    terminal.press(&long);
    let shown = format!("> {}", &long[300 - 37..]);
    terminal.wait_for(&[&shown]);
    guest.say(&"m".repeat(100));
    terminal.wait_for(&[&"m".repeat(40), &"m".repeat(40), &"m".repeat(20), &shown]);

    // A narrower window shows less of it.
    let size = rustix::termios::Winsize { ws_row: ROWS, ws_col: 20, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&terminal.master, size).unwrap();
    terminal.wait_for(&[&format!("> {}", &long[300 - 17..])]);
    terminal.press("\r");
    assert_eq!(guest.hear().as_deref(), Some(long.as_str()));
    terminal.press("\x04");
    assert_eq!(guest.hear(), None, "Ctrl+D on an empty line is the end");
    assert_eq!(terminal.wait().code(), Some(0));
}

#[test]
fn a_second_control_c_does_not_wait_for_the_server() {
    let host = Host::new();
    let mut terminal = Terminal::start(&[&host.url()]);
    let guest = host.accept();
    terminal.wait_for(&[">"]);
    terminal.press("\x03");
    let mut byte = [0];
    guest.0.get_ref().peek(&mut byte).unwrap();
    terminal.press("\x03");
    assert_eq!(terminal.wait().code(), Some(130));
    assert!(terminal.is_as_before());
}

#[test]
fn a_lost_connection_is_told_below_the_line_and_the_terminal_given_back() {
    let host = Host::new();
    let mut terminal = Terminal::start(&[&host.url(), "--reconnect"]);
    let guest = host.accept();
    terminal.wait_for(&[">"]);
    terminal.press("half a li");
    terminal.wait_for(&["> half a li"]);
    drop(guest);
    let mut guest = host.accept();
    terminal.wait_for(&["Connected again.", "> half a li"]);
    terminal.press("ne\r");
    assert_eq!(guest.hear().as_deref(), Some("half a line"));
    terminal.press("\x03");
    assert_eq!(guest.hear(), None);
    assert_eq!(terminal.wait().code(), Some(0));
    assert!(terminal.is_as_before());
}

#[test]
fn after_a_stop_by_the_shell_the_line_is_drawn_again() {
    let host = Host::new();
    let mut terminal = Terminal::start(&[&host.url()]);
    let mut guest = host.accept();
    terminal.wait_for(&[">"]);
    terminal.press("before");
    terminal.wait_for(&["> before"]);
    let pid = nix::unistd::Pid::from_raw(terminal.child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    // What a shell does with the terminal of a stopped job.
    tcsetattr(&terminal.slave, SetArg::TCSANOW, &terminal.mode).unwrap();
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    eventually("keys come one by one again", || !terminal.is_as_before());
    terminal.press(" and after\r");
    assert_eq!(guest.hear().as_deref(), Some("before and after"));
}
