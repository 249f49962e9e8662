//! The loop: signals, input and the connection are waited for together by poll(2). Only the opening of a connection blocks,
//! in a thread of its own.

use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::super::{print, tell};
use super::Connect;
use super::dial::{self, Dialled, Failure};
use super::input::Input;
use super::screen::Screen;
use super::session::{End, Session};
use super::stream::Trust;
use super::target::Target;

/// The first pause between two tries to connect, doubled with each, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// A connection that held so long has the pauses begin anew.
const STEADY: Duration = Duration::from_secs(10);

/// Why it ends otherwise than asked.
#[derive(Debug)]
pub(super) enum Stop {
    /// This signal asked for it where there was nothing to close, or a second time.
    Signal(u8),
    /// Why, in one line.
    Failed(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<nix::errno::Errno> for Stop {
    fn from(error: nix::errno::Errno) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Everything but the connection.
pub(super) struct Client {
    target: Target,
    /// For wss.
    trust: Option<Trust>,
    reconnect: bool,
    signals: SignalFd,
    /// There once the first connection stands; until then stdin is left alone.
    talk: Option<(Input, Screen)>,
}

impl Client {
    pub(super) fn new(typed: &Connect, target: Target) -> Result<Self, Stop> {
        let trust = target.tls.then(|| Trust::new(typed.ca.as_deref(), typed.insecure)).transpose();
        let trust = trust.map_err(Stop::Failed)?;
        let signals =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGWINCH, Signal::SIGCONT];
        let signals: SigSet = signals.into_iter().collect();
        signals.thread_block()?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { target, trust, reconnect: typed.reconnect, signals, talk: None })
    }

    /// Connects and talks until the end.
    pub(super) fn run(&mut self) -> Result<(), Stop> {
        let mut tries = 0;
        loop {
            let (why, may_pass) = match self.dial()? {
                Ok(socket) => {
                    let began = Instant::now();
                    let why = match self.talk(Session::new(socket))? {
                        End::Ours => return Ok(()),
                        End::Unanswered(why) => return Err(Stop::Failed(why)),
                        End::Lost(why) => why,
                    };
                    if began.elapsed() >= STEADY {
                        tries = 0;
                    }
                    (why, true)
                }
                Err(Failure { why, may_pass }) => {
                    (format!("cannot connect to {}: {why}", self.target.place()), may_pass)
                }
            };
            if !self.reconnect || !may_pass {
                return Err(Stop::Failed(why));
            }
            self.pause(&why, tries)?;
            tries += 1;
        }
    }

    /// Opens a connection. What is typed meanwhile is kept.
    fn dial(&mut self) -> Result<Dialled, Stop> {
        let (done, answer) = dial_in_thread(&self.target, &self.trust)?;
        loop {
            let wants = (done.as_fd(), PollFlags::POLLIN);
            if let Some(signal) = self.wait(Some(wants), None)? {
                return Err(Stop::Signal(signal));
            }
            match answer.try_recv() {
                Ok(answer) => return Ok(answer),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Err(Stop::Failed("connecting has panicked".to_owned())),
            }
        }
    }

    /// Talks until the connection ends.
    fn talk(&mut self, mut session: Session) -> Result<End, Stop> {
        match &self.talk {
            Some((_, screen)) => screen.tell("Connected again.")?,
            None => {
                print("Type your messages (press Ctrl+C to exit):\n");
                let screen = Screen::new()?;
                screen.draw_again()?;
                self.talk = Some((Input::new()?, screen));
            }
        }
        let mut signalled = false;
        loop {
            let (input, screen) = self.talk.as_mut().expect("it was just made");
            if let Some(end) = session.drive(input, screen)? {
                return Ok(end);
            }
            if let Some(signal) = self.wait(Some(session.wants()), Some(session.deadline()))? {
                if std::mem::replace(&mut signalled, true) {
                    return Err(Stop::Signal(signal));
                }
                session.close();
            }
        }
    }

    /// Waits before the next try.
    fn pause(&mut self, why: &str, tries: u32) -> Result<(), Stop> {
        let pause = jittered(PAUSE.saturating_mul(1 << tries.min(10)).min(PAUSE_MAX));
        let text = format!("{why}; next try in {:.1} s", pause.as_secs_f64());
        match &self.talk {
            Some((_, screen)) => screen.tell(&text)?,
            None => tell(format_args!("ringrelay connect: {text}")),
        }
        let until = Instant::now() + pause;
        while Instant::now() < until {
            if let Some(signal) = self.wait(None, Some(until))? {
                return Err(Stop::Signal(signal));
            }
        }
        Ok(())
    }

    /// Waits until something can be done or the deadline passes. Takes input; returns a signal that asks for the end.
    fn wait(
        &mut self,
        link: Option<(BorrowedFd<'_>, PollFlags)>,
        deadline: Option<Instant>,
    ) -> Result<Option<u8>, Stop> {
        let mut waits = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let stdin = self.talk.as_ref().and_then(|(input, _)| input.wants());
        waits.extend(stdin.map(|stdin| PollFd::new(stdin, PollFlags::POLLIN)));
        let has_stdin = stdin.is_some();
        waits.extend(link.map(|(link, events)| PollFd::new(link, events)));
        match poll(&mut waits, timeout(deadline)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_readable = has_stdin && waits[1].any().unwrap_or(true);
        drop(waits);
        if is_readable && let Some((input, screen)) = &mut self.talk {
            input.handle_readable(screen)?;
        }
        while let Some(signal) = self.signals.read_signal()? {
            let number = signal.ssi_signo as u8;
            match Signal::try_from(i32::from(number))? {
                Signal::SIGWINCH | Signal::SIGCONT => {
                    self.talk.iter().try_for_each(|(_, screen)| screen.draw_again())?;
                }
                _ => return Ok(Some(number)),
            }
        }
        Ok(None)
    }
}

/// One try to connect: the pipe ends when the answer is there.
fn dial_in_thread(target: &Target, trust: &Option<Trust>) -> io::Result<(PipeReader, Receiver<Dialled>)> {
    let (done, guard) = io::pipe()?;
    let (sender, answer) = channel();
    let (target, trust) = (target.clone(), trust.clone());
    std::thread::Builder::new().name("dial".to_owned()).spawn(move || {
        // Nobody waits any more if a signal came first.
        _ = sender.send(dial::dial(&target, trust.as_ref()));
        drop(guard);
    })?;
    Ok((done, answer))
}

fn timeout(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    let left = deadline.saturating_duration_since(Instant::now());
    // Rounded up: a deadline has passed when it is looked at.
    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
}

/// Between half of the pause and all of it: a server that restarts is not met by everybody at once.
fn jittered(pause: Duration) -> Duration {
    let dice = std::hash::RandomState::new().build_hasher().finish();
    pause.mul_f64(0.5 + (dice % 1024) as f64 / 2048.0)
}
