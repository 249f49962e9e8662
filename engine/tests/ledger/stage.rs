//! The clients of a play: who joins, what each does with what it hears, and who takes the place of those who leave.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use engine::config::SlowConsumer;

use super::Play;
use super::stamp::{NEVER_EMPTY, SIZE_MAX, Stamp};
use super::support::crowd::{Crowd, Member};
use super::support::raw::BINARY;
use super::support::tls::Certificate;
use super::support::{Dice, PATIENCE};

/// How long the clients wait for something to happen before they look at the clock.
const TURN: Duration = Duration::from_millis(2);

/// How a subscriber behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Reads at once, to the end. The first of each topic is the reference for its order.
    Steady,
    /// Also publishes.
    Publisher,
    /// Reads with pauses.
    Slow,
    /// Stops reading after some messages, and goes on only when everything was published.
    Stalled,
    /// Leaves by a closing handshake after some messages; another takes its place.
    Leaves,
    /// Leaves by a reset after some messages; another takes its place.
    Resets,
}

/// One connection and what it heard.
pub(crate) struct Seat {
    pub(crate) topic: u8,
    pub(crate) manner: Manner,
    /// Its number as a publisher, and what it sent.
    pub(crate) publisher: u16,
    pub(crate) published: u32,
    /// What it heard; `None` is an empty message.
    pub(crate) run: Vec<Option<Stamp>>,
    /// It heard itself, or never will.
    greeted: bool,
    /// Leaves or stalls once it has heard so many.
    patience: usize,
    rests_until: Option<Instant>,
    replaced: bool,
}

/// A play that runs.
pub(crate) struct Stage {
    pub(crate) play: Play,
    address: SocketAddr,
    certificate: Option<Certificate>,
    pub(crate) crowd: Crowd,
    /// By the numbers of the crowd's members. The first of each topic is the reference for its order.
    pub(crate) seats: Vec<Seat>,
    dice: Dice,
    pattern: Vec<u8>,
}

impl Stage {
    pub(crate) fn new(play: Play, address: SocketAddr, certificate: Option<Certificate>) -> Self {
        let mut dice = Dice::new(u64::from(play.shards));
        let pattern = (0..SIZE_MAX + 8192).map(|_| dice.below(256) as u8).collect();
        Self { play, address, certificate, crowd: Crowd::new(), seats: Vec::new(), dice, pattern }
    }

    /// Everybody joins.
    pub(crate) fn fill(&mut self) {
        for topic in 0..self.play.topics {
            self.join(topic as u8, Manner::Steady);
        }
        for _ in self.play.topics..self.play.subscribers {
            let topic = self.dice.below(self.play.topics as u64) as u8;
            let manner = self.subscriber();
            self.join(topic, manner);
        }
        for publisher in 0..self.play.publishers {
            self.join((publisher % self.play.topics) as u8, Manner::Publisher);
        }
    }

    pub(crate) fn subscriber(&mut self) -> Manner {
        match self.dice.below(100) {
            0..12 if !self.play.gentle || self.play.policy == SlowConsumer::Skip => Manner::Stalled,
            12..24 if !self.play.gentle => Manner::Resets,
            24..40 => Manner::Leaves,
            40..60 => Manner::Slow,
            _ => Manner::Steady,
        }
    }

    /// One more, who greets the others: it must hear its greeting and everything after it.
    pub(crate) fn join(&mut self, topic: u8, manner: Manner) {
        let number = self.crowd.join(self.address, &format!("/rooms/{topic}"), self.certificate.as_ref());
        let exclude = self.play.exclude_sender;
        let publisher = number as u16 + if exclude { NEVER_EMPTY } else { 0 };
        self.seats.push(Seat {
            topic,
            manner,
            publisher,
            published: 0,
            run: Vec::new(),
            greeted: exclude || number < self.play.topics,
            patience: 2 + self.dice.below(12) as usize,
            rests_until: None,
            replaced: false,
        });
        if !self.seats[number].greeted || manner == Manner::Publisher {
            self.publish_next(number);
        }
    }

    pub(crate) fn publish_next(&mut self, number: usize) {
        let seat = &mut self.seats[number];
        let stamp = Stamp { topic: seat.topic, publisher: seat.publisher, seq: seat.published };
        seat.published += 1;
        let payload = stamp.payload(&self.pattern);
        self.crowd.with(number, |member| member.send(BINARY, &payload));
    }

    /// Publishes everything, and waits until the reference of each topic has heard it.
    pub(crate) fn publish(&mut self) {
        self.play_until("all is published and heard", |stage| {
            let mut all = true;
            for number in 0..stage.seats.len() {
                let seat = &stage.seats[number];
                let goal = stage.play.messages_per_publisher;
                if seat.manner == Manner::Publisher && seat.published < goal {
                    all = false;
                    if stage.crowd.waiting_bytes(number) < 64 << 10 {
                        stage.publish_next(number);
                    }
                }
            }
            all && stage.references_heard_all()
        });
    }

    pub(crate) fn references_heard_all(&self) -> bool {
        let mut missing: Vec<i64> =
            self.seats[..self.play.topics].iter().map(|seat| -(seat.run.len() as i64)).collect();
        for seat in &self.seats {
            missing[usize::from(seat.topic)] += i64::from(seat.published);
        }
        missing.iter().all(|missing| *missing == 0)
    }

    /// Wakes up the stalled.
    pub(crate) fn rouse(&mut self) {
        for (number, seat) in self.seats.iter_mut().enumerate() {
            seat.patience = usize::MAX;
            self.crowd.with(number, |member| member.resume());
        }
    }

    /// Reads until the server has closed everybody.
    pub(crate) fn end(&mut self) {
        self.play_until("everybody is closed", |stage| stage.crowd.living() == 0);
    }

    pub(crate) fn play_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let (mut heard, mut since) = (0, Instant::now());
        while !done(self) {
            let Self { play, crowd, seats, pattern, dice, .. } = self;
            crowd.turn(TURN, &mut |number, member, first, payload| {
                assert_eq!(first, BINARY, "the opcode is kept");
                seats[number].hear(member, Stamp::read(payload, pattern), play, dice);
            });
            self.serve_the_rest();
            let now_heard = self.seats.iter().map(|seat| seat.run.len()).sum::<usize>() + self.crowd.ended();
            if now_heard != heard {
                (heard, since) = (now_heard, Instant::now());
            }
            assert!(since.elapsed() < PATIENCE, "nothing more happens: {what}");
        }
    }

    /// Who has rested reads again; who has left is replaced, while there is something to hear.
    pub(crate) fn serve_the_rest(&mut self) {
        let now = Instant::now();
        for number in 0..self.seats.len() {
            let seat = &mut self.seats[number];
            if seat.rests_until.is_some_and(|until| until <= now) {
                seat.rests_until = None;
                self.crowd.with(number, |member| member.resume());
            }
            let left = matches!(seat.manner, Manner::Leaves | Manner::Resets) && self.crowd.end(number).is_some();
            if left && seat.patience < usize::MAX && self.crowd.len() < 2 * self.play.subscribers {
                let (topic, manner) = (seat.topic, seat.manner);
                if !std::mem::replace(&mut seat.replaced, true) {
                    self.join(topic, manner);
                }
            }
        }
    }
}

impl Seat {
    pub(crate) fn hear(&mut self, member: &mut Member, stamp: Option<Stamp>, play: &Play, dice: &mut Dice) {
        if let Some(stamp) = stamp {
            assert_eq!(stamp.topic, self.topic);
            assert!(!play.exclude_sender || stamp.publisher != self.publisher, "heard itself");
            self.greeted |= stamp.publisher == self.publisher;
        }
        self.run.push(stamp);
        if !self.greeted || self.run.len() < self.patience {
            return;
        }
        match self.manner {
            Manner::Slow if dice.below(16) == 0 => {
                member.pause();
                self.rests_until = Some(Instant::now() + Duration::from_millis(5 + dice.below(60)));
            }
            Manner::Stalled => member.pause(),
            Manner::Leaves => member.close(1000),
            Manner::Resets => member.reset(),
            Manner::Slow | Manner::Steady | Manner::Publisher => {}
        }
    }
}
