//! What waits for one connection alone: pongs, closes, echoes, unicasts, HTTP answers, the rest of a frame.
//!
//! In: whole frames, copied or shared, and the rest of one begun from a log; out: slices for the next send. A connection that waits for
//! nothing has none: the boxes are pooled per shard.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;
use proto::{CloseCode, Opcode, encode};

use crate::relay::ledger::Owed;

/// Slices that one send takes from an outbox at most.
const SLICES_PER_SEND: usize = 32;
/// A part grows no more once it has this many bytes.
const PART_BYTES: usize = 64 << 10;
/// Shared frames up to this many bytes are copied behind each other all the same: a slice of its own costs more.
const COPIED_BYTES_MAX: usize = 1024;
/// Boxes kept per shard, and the memory they keep together, in bytes: enough for what a turn receives and echoes.
const SPARES_MAX: usize = 1024;
const SPARE_BYTES_MAX: usize = 32 << 20;

enum Store {
    /// Frames written one behind the other.
    Written(Vec<u8>),
    /// A frame that many outboxes share.
    Shared(Bytes),
}

struct Part {
    store: Store,
    /// Messages in here; they count as sent when the last byte is.
    messages: u64,
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match &self.store {
            Store::Written(bytes) => bytes,
            Store::Shared(bytes) => bytes,
        }
    }
}

/// See the module's description.
#[derive(Default)]
pub(crate) struct Outbox {
    parts: VecDeque<Part>,
    /// Bytes of the first part that were sent.
    sent: usize,
    /// Bytes in all parts that were not sent.
    len: usize,
    /// Deliveries of a topic in here.
    owed: Option<Owed>,
}

impl Outbox {
    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends to the part that frames are written to.
    fn write(&mut self, messages: u64, fill: impl FnOnce(&mut Vec<u8>)) {
        // A long one is closed, so that what was sent of it is freed while more is written.
        if !matches!(self.parts.back(), Some(Part { store: Store::Written(buffer), .. }) if buffer.len() < PART_BYTES) {
            self.parts.push_back(Part { store: Store::Written(Vec::new()), messages: 0 });
        }
        let Some(Part { store: Store::Written(buffer), messages: sum }) = self.parts.back_mut() else {
            unreachable!("a written part was just put there")
        };
        *sum += messages;
        let before = buffer.len();
        fill(buffer);
        let added = buffer.len() - before;
        self.len += added;
    }

    /// Appends a message as one frame, copied.
    pub(crate) fn message(&mut self, opcode: Opcode, payload: &[u8]) {
        self.write(1, |out| encode::server_frame(out, opcode, payload));
    }

    /// Appends a whole frame, without a copy unless it is short.
    pub(crate) fn shared_message(&mut self, frame: Bytes) {
        if frame.len() <= COPIED_BYTES_MAX {
            return self.write(1, |out| out.extend_from_slice(&frame));
        }
        self.len += frame.len();
        self.parts.push_back(Part { store: Store::Shared(frame), messages: 1 });
    }

    /// Appends bytes that are no frame without a copy: an HTTP answer.
    pub(crate) fn shared_raw(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        self.parts.push_back(Part { store: Store::Shared(bytes), messages: 0 });
    }

    /// Messages in here that do not count as sent.
    pub(crate) fn messages(&self) -> u64 {
        self.parts.iter().map(|part| part.messages).sum()
    }

    /// Appends a ping or pong.
    pub(crate) fn control(&mut self, opcode: Opcode, payload: &[u8]) {
        self.write(0, |out| encode::server_frame(out, opcode, payload));
    }

    /// Appends a Close frame; `None` has no code (RFC 6455 section 5.5.1).
    pub(crate) fn close(&mut self, status: Option<(CloseCode, &str)>) {
        self.write(0, |out| match status {
            Some((code, reason)) => {
                let (payload, len) = encode::close_payload(code, reason);
                encode::server_frame(out, Opcode::Close, &payload[..len]);
            }
            None => encode::server_frame(out, Opcode::Close, &[]),
        });
    }

    /// Appends bytes that are no frame: an HTTP answer, a TLS record.
    pub(crate) fn raw(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        self.write(0, fill);
    }

    /// Puts the rest of a frame that was begun from a log before everything else; `owed` is settled once all is sent.
    pub(crate) fn rest_of_frame(&mut self, rest: Bytes, owed: Owed) {
        assert_eq!(self.sent, 0, "a connection is inside one frame at a time");
        self.len += rest.len();
        self.parts.push_front(Part { store: Store::Shared(rest), messages: 0 });
        owed.join(&mut self.owed);
    }

    /// Takes what is owed, to settle or forfeit it.
    pub(crate) fn take_owed(&mut self) -> Option<Owed> {
        self.owed.take()
    }

    /// Appends what the next send takes: the bytes in it, and whether that is everything.
    pub(crate) fn slices<'a>(&'a self, out: &mut Vec<IoSlice<'a>>) -> (usize, bool) {
        let mut taken = 0;
        let mut skip = self.sent;
        for part in self.parts.iter().take(SLICES_PER_SEND) {
            let bytes = &part.bytes()[skip..];
            skip = 0;
            if !bytes.is_empty() {
                out.push(IoSlice::new(bytes));
                taken += bytes.len();
            }
        }
        (taken, taken == self.len)
    }

    /// How many bytes [`Outbox::slices`] would take, and whether that is everything.
    pub(crate) fn next_send(&self) -> (usize, bool) {
        if self.parts.len() <= SLICES_PER_SEND {
            return (self.len, true);
        }
        let taken = self.parts.iter().take(SLICES_PER_SEND).map(|part| part.bytes().len()).sum::<usize>() - self.sent;
        (taken, false)
    }

    /// Forgets `bytes` bytes that were sent. Returns the messages of the parts that are sent whole.
    pub(crate) fn consume(&mut self, mut bytes: usize) -> u64 {
        self.len -= bytes;
        let mut messages = 0;
        while bytes > 0 {
            let is_last = self.parts.len() == 1;
            let first = self.parts.front_mut().expect("no more is consumed than was offered");
            let left = first.bytes().len() - self.sent;
            if bytes < left {
                self.sent += bytes;
                break;
            }
            bytes -= left;
            self.sent = 0;
            messages += std::mem::take(&mut first.messages);
            // The last written part stays, emptied: its capacity serves the next frame.
            match &mut first.store {
                Store::Written(buffer) if is_last => buffer.clear(),
                _ => {
                    self.parts.pop_front();
                }
            }
        }
        messages
    }

    fn clear(&mut self) {
        self.parts.retain(|part| matches!(part.store, Store::Written(_)));
        self.parts.truncate(1);
        if let Some(Part { store: Store::Written(buffer), messages }) = self.parts.front_mut() {
            buffer.clear();
            *messages = 0;
        }
        (self.sent, self.len) = (0, 0);
    }

    /// Memory that a cleared outbox keeps.
    fn spare_bytes(&self) -> usize {
        match self.parts.front().map(|part| &part.store) {
            Some(Store::Written(buffer)) => buffer.capacity(),
            _ => 0,
        }
    }
}

/// Empty outboxes of one shard.
#[derive(Default)]
#[expect(clippy::vec_box, reason = "connections hold boxes: what moves between them and the pool is the box")]
pub(crate) struct OutboxPool {
    spares: Vec<Box<Outbox>>,
    /// Memory in them.
    spare_bytes: usize,
}

impl OutboxPool {
    /// The outbox of a connection, which gets one if it has none.
    pub(crate) fn of<'a>(&mut self, slot: &'a mut Option<Box<Outbox>>) -> &'a mut Outbox {
        slot.get_or_insert_with(|| {
            let spare = self.spares.pop().unwrap_or_default();
            self.spare_bytes -= spare.spare_bytes();
            spare
        })
    }

    /// Takes an outbox back.
    pub(crate) fn put(&mut self, mut outbox: Box<Outbox>) {
        outbox.clear();
        let spare_bytes = outbox.spare_bytes();
        if self.spares.len() < SPARES_MAX && self.spare_bytes + spare_bytes <= SPARE_BYTES_MAX {
            self.spare_bytes += spare_bytes;
            self.spares.push(outbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(outbox: &mut Outbox, bytes: usize) -> Vec<u8> {
        let mut slices = Vec::new();
        outbox.slices(&mut slices);
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        outbox.consume(bytes);
        all[..bytes].to_vec()
    }

    #[test]
    fn any_cutting_of_the_sends_gives_the_same_bytes() {
        let mut whole = Vec::new();
        for i in 0..40_usize {
            encode::server_frame(&mut whole, Opcode::Text, &vec![b'a'; i * 7]);
        }
        for step in 1..50 {
            let mut outbox = Outbox::default();
            for i in 0..40_usize {
                let payload = vec![b'a'; i * 7];
                if i % 3 == 0 {
                    let mut frame = Vec::new();
                    encode::server_frame(&mut frame, Opcode::Text, &payload);
                    outbox.shared_message(frame.into());
                } else {
                    outbox.message(Opcode::Text, &payload);
                }
            }
            let mut out = Vec::new();
            while !outbox.is_empty() {
                let (offered, _) = outbox.next_send();
                out.extend(sent(&mut outbox, offered.min(step)));
            }
            assert_eq!(out, whole);
        }
    }

    #[test]
    fn a_pool_keeps_buffers_of_any_size_up_to_a_sum() {
        let mut pool = OutboxPool::default();
        let capacities = [SPARE_BYTES_MAX / 2, 100, SPARE_BYTES_MAX / 2, SPARE_BYTES_MAX / 4];
        for capacity in capacities {
            let mut slot = Some(Box::<Outbox>::default());
            pool.of(&mut slot).raw(|out| out.reserve_exact(capacity));
            pool.put(slot.unwrap());
        }
        assert_eq!(pool.spare_bytes, capacities[0] + capacities[1] + capacities[3], "the third found no room");
        let mut slots = [None, None, None, None];
        for slot in &mut slots {
            assert!(pool.of(slot).is_empty());
        }
        assert_eq!((pool.spares.len(), pool.spare_bytes), (0, 0));
    }

    #[test]
    fn messages_count_once_everything_is_sent() {
        let mut outbox = Outbox::default();
        outbox.message(Opcode::Binary, b"one");
        outbox.message(Opcode::Binary, b"two");
        assert_eq!(outbox.consume(7), 0);
        assert_eq!(outbox.consume(3), 2);
        assert!(outbox.is_empty());
    }
}
