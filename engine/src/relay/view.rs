//! A shard's view of a topic's log: the segments its subscribers may still need.
//!
//! In: the home shard's segments, as far as they are visible; out: byte slices between positions and the arithmetic of
//! positions. A [`Position`] is an absolute byte offset and the sequence number of the record that byte belongs to.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;

use crate::relay::segment::Segment;

/// Segments that one send reaches over at most.
pub(crate) const SEGMENTS_PER_SEND: usize = 4;

/// A place in a log: between two records or inside one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    /// Absolute byte offset.
    pub at: u64,
    /// Sequence number of the record that starts here or that `at` lies in.
    pub seq: u64,
}

/// See the module's description.
pub(crate) struct LogView {
    /// Ascending and without gaps; never empty.
    segments: VecDeque<Arc<Segment>>,
    tail: Position,
}

impl LogView {
    /// A view that starts with `segment`.
    pub(crate) fn new(segment: Arc<Segment>) -> Self {
        let start = Position { at: segment.base(), seq: segment.base_seq() };
        let mut view = Self { segments: VecDeque::from([segment]), tail: start };
        view.refresh();
        view
    }

    /// Follows the log to what is visible now. True if the tail moved.
    pub(crate) fn refresh(&mut self) -> bool {
        let before = self.tail.at;
        loop {
            let last = self.last();
            // `next` first: once it is there, the segment's visible length is final.
            let next = last.next().cloned();
            let visible = last.visible();
            self.tail = Position {
                at: last.base() + u64::from(visible.bytes),
                seq: last.base_seq() + u64::from(visible.records),
            };
            match next {
                Some(next) => self.segments.push_back(next),
                None => return self.tail.at != before,
            }
        }
    }

    fn last(&self) -> &Arc<Segment> {
        self.segments.back().expect("a view holds at least the tail segment")
    }

    /// The end of what is visible.
    pub(crate) fn tail(&self) -> Position {
        self.tail
    }

    /// Index of the last segment that starts at or before `at`.
    fn index_of(&self, at: u64) -> usize {
        if self.last().base() <= at {
            return self.segments.len() - 1;
        }
        self.segments.partition_point(|segment| segment.base() <= at).saturating_sub(1)
    }

    fn end_of(&self, index: usize) -> Position {
        match self.segments.get(index + 1) {
            Some(next) => Position { at: next.base(), seq: next.base_seq() },
            None => self.tail,
        }
    }

    /// How far one send from `from` reaches: the tail, or the end of the last segment it may touch.
    pub(crate) fn reach(&self, from: Position) -> Position {
        let index = self.index_of(from.at);
        if index + SEGMENTS_PER_SEND >= self.segments.len() {
            return self.tail;
        }
        self.end_of(index + SEGMENTS_PER_SEND - 1)
    }

    /// Appends the bytes of `[from, to)`, one slice per segment.
    pub(crate) fn slices<'a>(&'a self, from: u64, to: u64, out: &mut Vec<IoSlice<'a>>) {
        let mut at = from;
        let mut index = self.index_of(from);
        while at < to {
            let segment = &self.segments[index];
            let end = self.end_of(index).at.min(to);
            if at < end {
                let base = segment.base();
                out.push(IoSlice::new(segment.bytes((at - base) as u32, (end - base) as u32)));
                at = end;
            }
            index += 1;
        }
    }

    /// The bytes of `[from, to)`, which lie in one record. They hold no segment: that would keep all later ones too.
    pub(crate) fn copy(&self, from: u64, to: u64) -> Bytes {
        let segment = &self.segments[self.index_of(from)];
        segment.copy((from - segment.base()) as u32, (to - segment.base()) as u32)
    }

    /// Where `bytes` bytes after `from` lead.
    pub(crate) fn advance(&self, from: Position, bytes: u64) -> Position {
        let at = from.at + bytes;
        if at == self.tail.at {
            return self.tail;
        }
        let segment = &self.segments[self.index_of(at)];
        let seq = segment.base_seq() + u64::from(segment.record_at((at - segment.base()) as u32));
        Position { at, seq }
    }

    /// Bytes of the record `at` lies in that are still to come; 0 between records.
    pub(crate) fn frame_rest(&self, at: Position) -> u64 {
        if at.at == self.tail.at {
            return 0;
        }
        let (start, end, _) = self.record(at.seq, at.at);
        if at.at > start { end - at.at } else { 0 }
    }

    /// Start, end and origin of the record with sequence number `seq`, which lies at or before offset `hint`.
    fn record(&self, seq: u64, hint: u64) -> (u64, u64, u32) {
        let mut index = self.index_of(hint);
        while self.segments[index].base_seq() > seq {
            index -= 1;
        }
        let segment = &self.segments[index];
        let number = (seq - segment.base_seq()) as u32;
        let record = segment.record(number);
        let start = if number == 0 { 0 } else { segment.record(number - 1).end };
        (segment.base() + u64::from(start), segment.base() + u64::from(record.end), record.origin)
    }

    /// When the record `seq` at offset `at` was accepted, in µs of the server's clock (wrapping).
    pub(crate) fn accepted_at(&self, at: Position) -> Option<u32> {
        if at.at >= self.tail.at {
            return None;
        }
        let segment = &self.segments[self.index_of(at.at)];
        Some(segment.record((at.seq - segment.base_seq()) as u32).at_us)
    }

    /// How many records of `[from, to)` come from `origin`.
    pub(crate) fn count_from(&self, from: Position, to: Position, origin: u32) -> u64 {
        let mut own = 0;
        self.walk(from, to, |_, _, record_origin| {
            own += u64::from(record_origin == origin);
            true
        });
        own
    }

    /// Calls `each(start, end, origin)` for the records of `[from, to)`, the first from where `from` stands in it,
    /// until it returns false. Returns where it stopped.
    pub(crate) fn walk(&self, from: Position, to: Position, mut each: impl FnMut(u64, u64, u32) -> bool) -> Position {
        let mut position = from;
        let mut index = self.index_of(from.at);
        while position.at < to.at {
            let segment = &self.segments[index];
            let end = self.end_of(index);
            while position.at < end.at.min(to.at) {
                let record = segment.record((position.seq - segment.base_seq()) as u32);
                let record_end = segment.base() + u64::from(record.end);
                if !each(position.at, record_end, record.origin) {
                    return position;
                }
                position = Position { at: record_end, seq: position.seq + 1 };
            }
            index += 1;
        }
        position
    }

    /// Appends the bytes of `[from, to)` without the records of `origin`.
    pub(crate) fn slices_without<'a>(&'a self, from: Position, to: Position, origin: u32, out: &mut Vec<IoSlice<'a>>) {
        let mut run = from.at..from.at;
        self.walk(from, to, |start, end, record_origin| {
            if record_origin == origin {
                self.slices(run.start, run.end, out);
                run = end..end;
            } else {
                debug_assert_eq!(run.end, start, "records lie one behind the other");
                run.end = end;
            }
            true
        });
        if run.start < run.end {
            self.slices(run.start, run.end.min(to.at), out);
        }
    }

    /// How far one send from `from` towards `to` reaches when the records of `origin` are cut out and it takes at most
    /// `runs_max` runs of others with `bytes_max` bytes; and how many are cut out. Only its first record may be split.
    pub(crate) fn reach_without(
        &self,
        from: Position,
        to: Position,
        origin: u32,
        (runs_max, bytes_max): (usize, u64),
    ) -> (Position, u64) {
        let (mut runs, mut in_run, mut own, mut bytes, mut part) = (0, false, 0, 0, 0);
        let stop = self.walk(from, to, |start, end, record_origin| {
            if record_origin == origin {
                own += 1;
                in_run = false;
                return true;
            }
            if !in_run && runs == runs_max {
                return false;
            }
            if bytes + (end - start) > bytes_max {
                part = if bytes == 0 { bytes_max } else { 0 };
                return false;
            }
            runs += usize::from(!std::mem::replace(&mut in_run, true));
            bytes += end - start;
            true
        });
        (Position { at: stop.at + part, seq: stop.seq }, own)
    }

    /// Where `bytes` bytes after `from` lead when the records of `origin` are cut out; and how many were passed.
    pub(crate) fn advance_without(&self, from: Position, to: Position, bytes: u64, origin: u32) -> (Position, u64) {
        let (mut left, mut own) = (bytes, 0);
        let stop = self.walk(from, to, |start, end, record_origin| {
            if record_origin == origin {
                own += u64::from(left > 0);
                return left > 0;
            }
            let fits = left >= end - start;
            if fits {
                left -= end - start;
            }
            fits
        });
        (Position { at: stop.at + left, seq: stop.seq }, own)
    }

    /// True if there are segments that may be given back.
    pub(crate) fn holds_old_segments(&self) -> bool {
        self.segments.len() > 1
    }

    /// Forgets segments that end at or before `oldest`.
    pub(crate) fn trim(&mut self, oldest: u64) {
        while self.segments.len() > 1 && self.segments[1].base() <= oldest {
            self.segments.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::relay::segment::LogWriter;

    /// A record as the model keeps it: its frame and who wrote it.
    type Model = Vec<(Vec<u8>, u32)>;

    fn build(records: &[(usize, u32)]) -> (LogView, Model) {
        let (mut writer, first) = LogWriter::new();
        let mut model = Model::new();
        for (number, (len, origin)) in records.iter().enumerate() {
            let payload: Vec<u8> = (0..*len).map(|at| (number * 31 + at) as u8).collect();
            let mut frame = Vec::new();
            proto::encode::server_frame(&mut frame, proto::Opcode::Binary, &payload);
            if *len >= 16 << 10 {
                writer.append_frame(frame.clone().into(), *origin, number as u32);
            } else {
                writer.append(proto::Opcode::Binary, &payload, *origin, number as u32);
            }
            model.push((frame, *origin));
        }
        (LogView::new(first), model)
    }

    fn bytes(slices: &[IoSlice<'_>]) -> Vec<u8> {
        slices.iter().flat_map(|slice| slice.to_vec()).collect()
    }

    fn start_of(model: &Model, seq: usize) -> Position {
        Position { at: model[..seq].iter().map(|(frame, _)| frame.len() as u64).sum(), seq: seq as u64 }
    }

    fn records() -> impl Strategy<Value = Vec<(usize, u32)>> {
        let len = prop_oneof![8 => 0_usize..300, 2 => 2000_usize..9000, 1 => 16_384_usize..40_000];
        prop::collection::vec((len, 0_u32..3), 1..120)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn sends_of_any_length_give_the_log_byte_by_byte(records in records(), cuts in prop::collection::vec(1_u64..70_000, 1..40)) {
            let (view, model) = build(&records);
            let whole: Vec<u8> = model.iter().flat_map(|(frame, _)| frame.clone()).collect();
            let (mut at, mut sent) = (Position::default(), Vec::new());
            for cut in cuts.iter().cycle() {
                if at == view.tail() {
                    break;
                }
                let to = view.reach(at);
                let mut slices = Vec::new();
                view.slices(at.at, to.at, &mut slices);
                prop_assert!(slices.len() <= SEGMENTS_PER_SEND);
                let taken = (*cut).min(to.at - at.at);
                sent.extend_from_slice(&bytes(&slices)[..taken as usize]);
                at = view.advance(at, taken);
                let starts_before = start_of(&model, at.seq as usize).at;
                let rest = view.frame_rest(at);
                prop_assert_eq!(rest == 0, at.at == starts_before);
                if rest > 0 {
                    prop_assert_eq!(at.at + rest, start_of(&model, at.seq as usize + 1).at);
                }
            }
            prop_assert_eq!(sent, whole);
        }

        #[test]
        fn cutting_one_origin_out_leaves_the_frames_of_the_others(
            records in records(),
            cuts in prop::collection::vec(1_u64..30_000, 1..40),
            runs_max in 1_usize..5,
        ) {
            let (view, model) = build(&records);
            let others: Vec<u8> = model.iter().filter(|(_, origin)| *origin != 1).flat_map(|(frame, _)| frame.clone()).collect();
            let own = model.iter().filter(|(_, origin)| *origin == 1).count() as u64;
            let (mut at, mut sent, mut excluded) = (Position::default(), Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                if at == view.tail() {
                    break;
                }
                let (to, ahead) = view.reach_without(at, view.reach(at), 1, (runs_max, 50_000));
                let mut slices = Vec::new();
                view.slices_without(at, to, 1, &mut slices);
                let offered = bytes(&slices);
                let taken = (*cut).min(offered.len() as u64);
                let (next, passed) = if taken == offered.len() as u64 {
                    (to, ahead)
                } else {
                    view.advance_without(at, to, taken, 1)
                };
                sent.extend_from_slice(&offered[..taken as usize]);
                prop_assert!(next != at, "every send leads on");
                (at, excluded) = (next, excluded + passed);
            }
            prop_assert_eq!(sent, others);
            prop_assert_eq!(excluded, own);
        }
    }

    #[test]
    fn what_nobody_needs_is_given_back_and_the_rest_stays_readable() {
        let (mut view, model) = build(&[(3000, 0); 60]);
        let at = start_of(&model, 41);
        let before = view.segments.len();
        view.trim(at.at);
        assert!(view.segments.len() < before);
        let mut slices = Vec::new();
        view.slices(at.at, view.tail().at, &mut slices);
        assert_eq!(bytes(&slices), model[41..].iter().flat_map(|(frame, _)| frame.clone()).collect::<Vec<u8>>());
    }
}
