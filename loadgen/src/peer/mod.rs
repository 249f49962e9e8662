//! Null peers: the smallest servers that a load can be driven against, to find the generator's own ceiling and to
//! test whether it finds faults. One thread, epoll, no limits to speak of; not for any other use.

mod faults;
mod work;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use socket2::Socket;

use crate::cli::{PeerArgs, PeerKind};
use crate::sys::epoll::EpollPort;
use crate::sys::port::Ready;
use crate::sys::{signal, socket};
use crate::wire::message::{self, Assembly, Incoming};
use crate::wire::{frame, handshake};
use faults::Faults;
pub(crate) use faults::Made;
use work::Work;

/// A reader that is this far behind is cut off.
const OUTBOX_BYTES_MAX: usize = 64 << 20;

/// How often the peer looks for a signal when nothing happens.
const LOOK_NS: u64 = 50_000_000;

/// A null peer with its listener.
pub(crate) struct Peer {
    kind: PeerKind,
    port: EpollPort,
    listener: Socket,
    connections: Vec<Connection>,
    free: Vec<u32>,
    topics: Vec<Topic>,
    topic_of_path: HashMap<String, u32>,
    /// Connections with something to send.
    dirty: Vec<u32>,
    graveyard: Vec<Socket>,
    faults: Faults,
    work: Work,
}

#[derive(Default)]
struct Connection {
    socket: Option<Socket>,
    topic: Option<u32>,
    partial: Vec<u8>,
    assembly: Assembly,
    outbox: Vec<u8>,
    outbox_at: usize,
    is_dirty: bool,
    has_published: bool,
}

/// Everybody on a path, and what came in for them during this turn, framed.
#[derive(Default)]
struct Topic {
    subscribers: Vec<u32>,
    turn: Vec<u8>,
}

impl Peer {
    /// # Errors
    /// When the name has no address, or the address is taken or not ours.
    pub(crate) fn new(args: &PeerArgs) -> io::Result<Self> {
        let listener = socket::listen(args.listen.resolve().map_err(io::Error::other)?)?;
        let mut port = EpollPort::new()?;
        port.add_readable(listener.as_raw_fd())?;
        Ok(Self {
            kind: args.kind,
            port,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            topics: Vec::new(),
            topic_of_path: HashMap::new(),
            dirty: Vec::new(),
            graveyard: Vec::new(),
            faults: Faults::new(args.faults),
            work: Work::new(args),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an IP socket"))
    }

    /// Serves until SIGINT or SIGTERM; returns the faults it has made, in a fan-out apart those to publishers.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub(crate) fn run(&mut self) -> io::Result<(Made, Made)> {
        while !signal::asked_to_stop() {
            self.port.wait(Some(LOOK_NS))?;
            let mut is_quiet = true;
            while let Some(ready) = self.port.poll_ready() {
                is_quiet = false;
                match ready {
                    Ready::Readable => self.accept()?,
                    Ready::Bytes { slot, len } => self.take_bytes(slot, len),
                    Ready::Writable { slot } => self.flush(slot),
                    Ready::End { slot, .. } => self.end(slot),
                }
            }
            self.fan_out();
            if is_quiet {
                for (slot, frame) in self.faults.take_held() {
                    self.connections[slot as usize].outbox.extend(frame);
                    self.dirty.push(slot);
                }
            }
            while let Some(slot) = self.dirty.pop() {
                self.connections[slot as usize].is_dirty = false;
                self.flush(slot);
            }
            self.graveyard.clear();
        }
        Ok((self.faults.made, self.faults.made_to_publishers))
    }

    fn accept(&mut self) -> io::Result<()> {
        // Some at a time: the listener stays readable while there are more.
        for _ in 0..256 {
            let Ok((socket, _)) = self.listener.accept() else { return Ok(()) };
            socket.set_nonblocking(true)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(Connection::default());
                self.connections.len() as u32 - 1
            });
            self.port.add_stream(socket.as_raw_fd(), slot)?;
            self.connections[slot as usize].socket = Some(socket);
        }
        Ok(())
    }

    fn take_bytes(&mut self, slot: u32, len: usize) {
        let connection = &mut self.connections[slot as usize];
        if connection.socket.is_none() {
            return;
        }
        connection.partial.extend_from_slice(self.port.bytes(len));
        let topic = match connection.topic {
            Some(topic) => topic,
            None => {
                let Some((response, path, head_bytes)) = handshake::accept(&connection.partial) else { return };
                connection.partial.drain(..head_bytes);
                connection.outbox.extend_from_slice(response.as_bytes());
                let topics = &mut self.topics;
                let topic = *self.topic_of_path.entry(path).or_insert_with(|| {
                    topics.push(Topic::default());
                    topics.len() as u32 - 1
                });
                connection.topic = Some(topic);
                topics[topic as usize].subscribers.push(slot);
                topic
            }
        };
        let (kind, turn, faults) = (self.kind, &mut self.topics[topic as usize].turn, &mut self.faults);
        let (outbox, has_published) = (&mut connection.outbox, &mut connection.has_published);
        let mut is_closed = false;
        let on = |incoming: Incoming<'_>| match incoming {
            Incoming::Message { opcode, payload } => match kind {
                PeerKind::Sink => {}
                PeerKind::Echo => {
                    let start = outbox.len();
                    frame::append_frame(outbox, opcode, payload, None);
                    faults.apply(slot, outbox, start);
                }
                PeerKind::Fanout => {
                    frame::append_frame(turn, opcode, payload, None);
                    *has_published = true;
                }
            },
            Incoming::Ping(payload) => frame::append_frame(outbox, frame::PONG, payload, None),
            Incoming::Pong => {}
            Incoming::Close { code } => {
                let code = if code == 1005 { 1000 } else { code };
                frame::append_frame(outbox, frame::CLOSE, &code.to_be_bytes(), None);
                is_closed = true;
            }
        };
        match message::decode_client(&mut connection.partial, &mut connection.assembly, on) {
            Ok(used) => drop(connection.partial.drain(..used)),
            Err(_) => is_closed = true,
        }
        if is_closed {
            self.flush(slot);
            self.end(slot);
        } else if !connection.outbox.is_empty() && !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Sends what came in during this turn to everybody on its topic; who is behind gets a copy for later.
    fn fan_out(&mut self) {
        for topic in 0..self.topics.len() {
            if self.topics[topic].turn.is_empty() {
                continue;
            }
            let turn = std::mem::take(&mut self.topics[topic].turn);
            self.work.pay(&turn, self.topics[topic].subscribers.len());
            for at in (0..self.topics[topic].subscribers.len()).rev() {
                let slot = self.topics[topic].subscribers[at];
                let connection = &mut self.connections[slot as usize];
                let Some(socket) = &connection.socket else { continue };
                let mut sent = 0;
                if self.faults.is_on() {
                    self.faults.copy_turn(slot, connection.has_published, &turn, &mut connection.outbox);
                } else {
                    if connection.outbox.is_empty() {
                        sent = socket::send(socket, &turn).unwrap_or(turn.len());
                    }
                    connection.outbox.extend_from_slice(&turn[sent..]);
                }
                if connection.outbox.len() - connection.outbox_at > OUTBOX_BYTES_MAX {
                    self.end(slot);
                } else if !connection.outbox.is_empty() && sent == 0 {
                    self.flush(slot);
                }
            }
            let mut turn = turn;
            turn.clear();
            self.topics[topic].turn = turn;
        }
    }

    fn flush(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let Some(socket) = &connection.socket else { return };
        while connection.outbox_at < connection.outbox.len() {
            match socket::send(socket, &connection.outbox[connection.outbox_at..]) {
                Ok(0) => return,
                Ok(sent) => connection.outbox_at += sent,
                Err(_) => return self.end(slot),
            }
        }
        connection.outbox.clear();
        connection.outbox_at = 0;
    }

    fn end(&mut self, slot: u32) {
        let connection = std::mem::take(&mut self.connections[slot as usize]);
        let Some(socket) = connection.socket else { return };
        self.graveyard.push(socket);
        self.free.push(slot);
        if let Some(topic) = connection.topic {
            self.topics[topic as usize].subscribers.retain(|subscriber| *subscriber != slot);
        }
        self.dirty.retain(|dirty| *dirty != slot);
    }
}
