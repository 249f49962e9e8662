//! Bytes to messages (RFC 6455 sections 5 and 6.2), in place and however the stream is cut.
//!
//! In: whatever a receive gave. Out: one event per call, borrowed from the input where a message lies in it whole. Between
//! messages a decoder holds no heap; a message in pieces is put together in a buffer of the shard's [`AssemblyPool`].

use crate::assembler::{Assembly, AssemblyPool, Held, OWNED_BYTES_MIN};
use crate::close::CloseFrame;
use crate::event::{Decoded, Event, Message, Payload};
use crate::header::{HEADER_BYTES_MAX, Header, Opcode, Role, parse};
use crate::{ProtocolError, mask, utf8};

/// Bounds on what a peer may send, enforced from the frame header, before any payload is buffered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest message in bytes of payload, over all its fragments.
    pub message_bytes_max: usize,
    /// The longest frame of a message, in bytes of payload. Control frames are bounded by the RFC (125 bytes).
    pub frame_bytes_max: usize,
}

/// Decodes one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    /// Present while a header, a message or a control frame lies in pieces, or is lent to the caller.
    assembly: Option<Box<Assembly>>,
    /// Bytes of the current frame's payload still to come; 0 between frames.
    frame_rest: u64,
    /// Bytes of a header that is not there whole; they lie in the assembly.
    header_filled: u8,
    /// The current frame's masking key, turned to the next byte; zero for a client.
    key: [u8; 4],
    frame_opcode: Opcode,
    frame_fin: bool,
    /// Text or binary while a message is in progress.
    message: Option<Opcode>,
    /// Between two characters unless a text message is in progress.
    utf8: utf8::Validator,
    role: Role,
    /// Set for good by the first error.
    failed: Option<ProtocolError>,
}

const _: () = assert!(size_of::<Decoder>() <= 32, "a decoder per connection: its size is part of the idle footprint");

/// What is ready, as places and not as borrows.
enum Ready {
    /// A whole frame that lies unmasked in the input; its message has no other bytes.
    InInput { opcode: Opcode, from: usize },
    /// The payload of a control frame, in the assembly.
    Control(Opcode),
    /// A message put together in the assembly.
    Message(Opcode),
}

impl Decoder {
    /// At the beginning of a connection, after the opening handshake.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        Self {
            assembly: None,
            frame_rest: 0,
            header_filled: 0,
            key: [0; 4],
            frame_opcode: Opcode::Continuation,
            frame_fin: false,
            message: None,
            utf8: utf8::Validator::new(),
            role,
            failed: None,
        }
    }

    /// Takes input up to the end of the next message or control frame. Unmasks in place: the bytes consumed are changed.
    ///
    /// Without an event all of the input is consumed and more is needed; call again with the rest until then. The pool must
    /// be the same in every call.
    ///
    /// # Errors
    /// The peer's fault; it ends the connection, and every further call returns it again.
    #[inline]
    pub fn decode<'a>(
        &'a mut self,
        input: &'a mut [u8],
        limits: &Limits,
        pool: &mut AssemblyPool,
    ) -> Result<Decoded<'a>, ProtocolError> {
        if self.is_between_messages() && self.assembly.is_none() && self.failed.is_none() {
            match self.find_whole_message(input, limits) {
                Ok(Some(header)) => return self.decode_whole_message(header, input),
                Ok(None) => {}
                Err(error) => return Err(self.fail(error)),
            }
        }
        self.decode_pieces(input, limits, pool)
    }

    /// Whether nothing is in progress: no message and no part of a frame.
    #[inline]
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.message.is_none() && self.frame_rest == 0 && self.header_filled == 0
    }

    /// What it holds of its pool.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        self.assembly.as_ref().map(|assembly| assembly.held())
    }

    /// Gives the buffers back: the connection ended. The decoder is then as new.
    pub fn release(&mut self, pool: &mut AssemblyPool) {
        if let Some(assembly) = self.assembly.take() {
            pool.put(assembly);
        }
        *self = Self::new(self.role);
    }

    /// The header of the message that begins the input, if it is there whole and in one frame: nearly always.
    #[inline]
    fn find_whole_message(&self, input: &[u8], limits: &Limits) -> Result<Option<Header>, ProtocolError> {
        let Some(header) = parse(self.role, false, input)? else { return Ok(None) };
        if !header.fin || header.opcode.is_control() {
            return Ok(None);
        }
        check_limits(&header, 0, limits)?;
        let available_bytes = (input.len() - header.header_bytes) as u64;
        Ok((header.payload_bytes <= available_bytes).then_some(header))
    }

    #[inline]
    fn decode_whole_message<'a>(&mut self, header: Header, input: &'a mut [u8]) -> Result<Decoded<'a>, ProtocolError> {
        let consumed = header.header_bytes + header.payload_bytes as usize;
        let payload = &mut input[header.header_bytes..consumed];
        if self.role == Role::Server {
            mask::apply(payload, header.key, 0);
        }
        if header.opcode == Opcode::Text && !utf8::is_valid(payload) {
            return Err(self.fail(ProtocolError::InvalidUtf8));
        }
        let message = Message { opcode: header.opcode, payload: Payload::Slice(payload) };
        Ok(Decoded { consumed, event: Some(Event::Message(message)) })
    }

    /// All that is not one whole message in one frame.
    fn decode_pieces<'a>(
        &'a mut self,
        input: &'a mut [u8],
        limits: &Limits,
        pool: &mut AssemblyPool,
    ) -> Result<Decoded<'a>, ProtocolError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.take_back(pool);
        let mut consumed = 0;
        let ready = match self.advance(input, &mut consumed, limits, pool) {
            Ok(Some(ready)) => ready,
            Ok(None) => return Ok(Decoded { consumed, event: None }),
            Err(error) => return Err(self.fail(error)),
        };
        let assembly = self.assembly.as_deref_mut();
        let event = match (ready, assembly) {
            (Ready::InInput { opcode, from }, _) => event_of(opcode, &input[from..consumed]),
            (Ready::Message(opcode), Some(assembly)) if assembly.message().len() >= OWNED_BYTES_MIN => {
                Ok(Event::Message(Message { opcode, payload: Payload::Owned(pool.detach(assembly)) }))
            }
            (Ready::Message(opcode), assembly) => event_of(opcode, assembly.map_or(&[], |assembly| assembly.message())),
            (Ready::Control(opcode), assembly) => event_of(opcode, assembly.map_or(&[], |assembly| assembly.control())),
        };
        match event {
            Ok(event) => Ok(Decoded { consumed, event: Some(event) }),
            Err(error) => {
                self.failed = Some(error);
                Err(error)
            }
        }
    }

    /// Consumes input until something is ready.
    fn advance(
        &mut self,
        input: &mut [u8],
        at: &mut usize,
        limits: &Limits,
        pool: &mut AssemblyPool,
    ) -> Result<Option<Ready>, ProtocolError> {
        loop {
            if self.frame_rest == 0 {
                let Some(header) = self.take_header(input, at, pool)? else { return Ok(None) };
                self.begin_frame(&header, limits)?;
            }
            let from = *at;
            // The minimum is at most the input's length.
            let piece_bytes = self.frame_rest.min((input.len() - from) as u64) as usize;
            *at += piece_bytes;
            let is_whole = piece_bytes as u64 == self.frame_rest && self.is_alone();
            let piece = &mut input[from..*at];
            self.unmask(piece);
            if is_whole {
                return self.finish_in_input(piece, from).map(Some);
            }
            self.absorb(piece, pool)?;
            if self.frame_rest > 0 {
                return Ok(None);
            }
            if let Some(ready) = self.finish_frame()? {
                return Ok(Some(ready));
            }
        }
    }

    /// The next header, from the input or from what was kept of it; `None` when the input is used up.
    fn take_header(
        &mut self,
        input: &[u8],
        at: &mut usize,
        pool: &mut AssemblyPool,
    ) -> Result<Option<Header>, ProtocolError> {
        let rest = &input[*at..];
        let in_message = self.message.is_some();
        if self.header_filled == 0
            && let Some(header) = parse(self.role, in_message, rest)?
        {
            *at += header.header_bytes;
            return Ok(Some(header));
        }
        if rest.is_empty() {
            return Ok(None);
        }
        let header = assembly(&mut self.assembly, pool)?.header();
        let filled = usize::from(self.header_filled);
        let taken = rest.len().min(HEADER_BYTES_MAX - filled);
        header[filled..filled + taken].copy_from_slice(&rest[..taken]);
        match parse(self.role, in_message, &header[..filled + taken])? {
            Some(header) => {
                self.header_filled = 0;
                *at += header.header_bytes - filled;
                Ok(Some(header))
            }
            None => {
                self.header_filled = (filled + taken) as u8;
                *at += taken;
                Ok(None)
            }
        }
    }

    fn begin_frame(&mut self, header: &Header, limits: &Limits) -> Result<(), ProtocolError> {
        if header.opcode.is_control() {
            if let Some(assembly) = &mut self.assembly {
                assembly.clear_control();
            }
        } else {
            check_limits(header, self.assembled_bytes(), limits)?;
            if header.opcode != Opcode::Continuation {
                self.message = Some(header.opcode);
            }
        }
        self.frame_rest = header.payload_bytes;
        self.frame_opcode = header.opcode;
        self.frame_fin = header.fin;
        self.key = header.key;
        Ok(())
    }

    /// Whether what is left of the current frame is all there is to its event: it need not be put together.
    fn is_alone(&self) -> bool {
        if self.frame_opcode.is_control() {
            self.assembly.as_ref().is_none_or(|assembly| assembly.control().is_empty())
        } else {
            self.frame_fin && self.assembled_bytes() == 0
        }
    }

    fn assembled_bytes(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| assembly.message().len())
    }

    fn unmask(&mut self, piece: &mut [u8]) {
        if self.role == Role::Server {
            mask::apply(piece, self.key, 0);
            self.key = mask::rotated(self.key, piece.len());
        }
        self.frame_rest -= piece.len() as u64;
    }

    /// Ends a frame that lies whole in the input.
    fn finish_in_input(&mut self, payload: &[u8], from: usize) -> Result<Ready, ProtocolError> {
        if self.frame_opcode.is_control() {
            return Ok(Ready::InInput { opcode: self.frame_opcode, from });
        }
        let opcode = self.end_message();
        if opcode == Opcode::Text && !utf8::is_valid(payload) {
            return Err(ProtocolError::InvalidUtf8);
        }
        Ok(Ready::InInput { opcode, from })
    }

    /// Moves a piece to the assembly.
    fn absorb(&mut self, piece: &[u8], pool: &mut AssemblyPool) -> Result<(), ProtocolError> {
        if piece.is_empty() {
            return Ok(());
        }
        let is_control = self.frame_opcode.is_control();
        if !is_control && self.message == Some(Opcode::Text) {
            self.utf8.feed(piece).map_err(|_| ProtocolError::InvalidUtf8)?;
        }
        let assembly = assembly(&mut self.assembly, pool)?;
        if is_control {
            assembly.append_control(piece);
            return Ok(());
        }
        // The limits have bounded the rest of the frame; another fragment may be of any length.
        let to_come = if self.frame_fin { self.frame_rest as usize } else { usize::MAX };
        pool.append(assembly, piece, to_come)
    }

    /// Ends a frame whose payload is in the assembly.
    fn finish_frame(&mut self) -> Result<Option<Ready>, ProtocolError> {
        if self.frame_opcode.is_control() {
            return Ok(Some(Ready::Control(self.frame_opcode)));
        }
        if !self.frame_fin {
            return Ok(None);
        }
        let opcode = self.end_message();
        if opcode == Opcode::Text && !self.utf8.is_complete() {
            return Err(ProtocolError::InvalidUtf8);
        }
        Ok(Some(Ready::Message(opcode)))
    }

    fn end_message(&mut self) -> Opcode {
        self.message.take().expect("a data frame is only begun within a message")
    }

    /// Takes back what the previous event was lent: a buffer without a message or frame in progress has no other use.
    fn take_back(&mut self, pool: &mut AssemblyPool) {
        if self.is_between_messages()
            && let Some(assembly) = self.assembly.take()
        {
            pool.put(assembly);
        }
    }

    #[cold]
    fn fail(&mut self, error: ProtocolError) -> ProtocolError {
        self.failed = Some(error);
        error
    }
}

/// Where a connection keeps what lies in pieces.
fn assembly<'a>(
    place: &'a mut Option<Box<Assembly>>,
    pool: &mut AssemblyPool,
) -> Result<&'a mut Assembly, ProtocolError> {
    Ok(match place {
        Some(assembly) => assembly,
        none => none.insert(pool.take()?),
    })
}

/// Applies the limits to a data frame that follows `assembled_bytes` of its message.
#[inline]
fn check_limits(header: &Header, assembled_bytes: usize, limits: &Limits) -> Result<(), ProtocolError> {
    if header.payload_bytes > limits.frame_bytes_max as u64 {
        return Err(ProtocolError::FrameTooBig);
    }
    // Both are below 2^63.
    if header.payload_bytes + assembled_bytes as u64 > limits.message_bytes_max as u64 {
        return Err(ProtocolError::MessageTooBig);
    }
    Ok(())
}

fn event_of(opcode: Opcode, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    Ok(match opcode {
        Opcode::Ping => Event::Ping(payload),
        Opcode::Pong => Event::Pong(payload),
        Opcode::Close => Event::Close(CloseFrame::parse(payload)?),
        Opcode::Text | Opcode::Binary | Opcode::Continuation => {
            Event::Message(Message { opcode, payload: Payload::Slice(payload) })
        }
    })
}
