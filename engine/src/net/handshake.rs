//! The opening handshake: request head → endpoint → mode → subscription → 101.
//!
//! The 101 leaves only when the subscription stands: who has it hears everything that is accepted afterwards.

use proto::handshake::{Head, Upgrade, UpgradeError, accept_response, check_upgrade, parse_head};

use crate::config::EndpointConfig;
use crate::counters::{Dropped, Refused};
use crate::modes::{Actions, Refusal, Request};
use crate::net::connection::{Phase, Unparsed};
use crate::relay::subscribe::Subscribed;
use crate::shard::Shard;

impl Shard {
    /// Collects the request's head and decides about it once it is complete.
    pub(crate) fn receive_head(&mut self, slot: u32, input: &mut [u8]) {
        let now = self.now_ms();
        let connection = self.connections.at_mut(slot);
        let Some(mut head) = connection.unparsed.take() else {
            if connection.flags.kept_alive {
                connection.since_ms = now;
            }
            if let Some(used) = self.try_head(slot, input)
                && used < input.len()
                && self.has_use_for_input(slot)
            {
                self.stash(slot, &input[used..]);
                self.resume_parsing(slot);
            }
            return;
        };
        // A head ends with a line: without a new one there is nothing new to see.
        let ends_a_line = input.contains(&b'\n');
        head.append(input);
        if !ends_a_line && head.len() <= self.head_limits(slot).head_bytes_max {
            self.connections.at_mut(slot).unparsed = Some(head);
            return;
        }
        self.try_stashed_head(slot, *head);
    }

    /// A request was answered: another may have come meanwhile.
    pub(crate) fn receive_next_head(&mut self, slot: u32) {
        if let Some(head) = self.connections.at_mut(slot).unparsed.take() {
            self.try_stashed_head(slot, *head);
        }
        let connection = self.connections.at(slot);
        if connection.phase == Phase::Handshake && connection.flags.received_end {
            // No more will come, and what is there is no request.
            self.begin_draining(slot);
        }
    }

    fn try_stashed_head(&mut self, slot: u32, mut bytes: Unparsed) {
        if let Some(used) = self.try_head(slot, bytes.rest())
            && self.has_use_for_input(slot)
        {
            bytes.consume(used);
            if bytes.len() > 0 {
                self.stash(slot, bytes.rest());
                self.resume_parsing(slot);
            }
        }
    }

    fn has_use_for_input(&self, slot: u32) -> bool {
        let phase = self.connections.at(slot).phase;
        matches!(phase, Phase::Joining | Phase::Requesting | Phase::Asking | Phase::Open | Phase::Closing)
    }

    /// Decides about the request if its head is complete. Returns the bytes of the head; `None` if more is needed,
    /// and then keeps what is there.
    fn try_head(&mut self, slot: u32, input: &[u8]) -> Option<usize> {
        match parse_head(input, &self.head_limits(slot)) {
            Ok(Some((head, used))) => {
                if let Err(refusal) = self.on_request(slot, &head) {
                    self.refuse(slot, refusal.status, refusal.counted, &refusal.text);
                }
                Some(used)
            }
            Ok(None) => {
                let connection = self.connections.at_mut(slot);
                connection.unparsed.get_or_insert_default().append(input);
                self.arm_timer(slot);
                None
            }
            Err(error) => {
                let counted = if error.status() == 400 { Refused::Malformed } else { Refused::TooLarge };
                self.refuse(slot, error.status(), counted, &error.to_string());
                Some(input.len())
            }
        }
    }

    fn on_request(&mut self, slot: u32, head: &Head<'_>) -> Result<(), Refusal> {
        self.connections.at_mut(slot).flags.head_only = head.method() == "HEAD";
        match self.connections.at(slot).refusal {
            Some(Refused::Full) => return Err(Refusal::new(503, Refused::Full, "the server is full")),
            Some(reason) => return Err(Refusal::new(429, reason, "too many connections, try again later")),
            None => {}
        }
        require_host(head)?;
        if self.wants_page(head) {
            self.serve_page(slot, head);
            return Ok(());
        }
        if let Some(begun) = self.begin_request(slot, head) {
            return begun;
        }
        let router = std::rc::Rc::clone(&self.router);
        let (index, path) = router.find(head.path())?;
        let endpoint = router.endpoint(index);
        let upgrade = check_upgrade(head).map_err(refusal_of)?;
        check_origin(&endpoint.config, &upgrade, self.tls.is_some())?;
        let peer = self.connections.at(slot).peer_address();
        let admission = endpoint.mode.admit(&Request { head, path: &path, peer })?;
        let subprotocol = choose_subprotocol(&endpoint.config, &upgrade);
        let connection = self.connections.at_mut(slot);
        connection.endpoint = index;
        connection.state = admission.state;
        // Written now, sent when the connection opens.
        self.outbox(slot).raw(|out| accept_response(out, &upgrade.accept(), subprotocol));
        let Some(topic) = admission.topic else {
            self.open(slot);
            return Ok(());
        };
        match self.subscribe(slot, index, &topic, admission.member) {
            Subscribed::Now => self.open(slot),
            Subscribed::Later => self.connections.at_mut(slot).phase = Phase::Joining,
            Subscribed::Refused(why) => self.refuse_subscription(slot, why),
        }
        Ok(())
    }

    /// The topic, or a name in it, cannot be had: the prepared 101 is taken back.
    pub(crate) fn refuse_subscription(&mut self, slot: u32, why: &str) {
        self.discard_outbox(slot);
        self.unsubscribe(slot, Dropped::Disconnected, false);
        self.refuse(slot, 503, Refused::Full, why);
    }

    /// The subscription, if any, stands: from here it is a WebSocket.
    pub(crate) fn open(&mut self, slot: u32) {
        let now = self.now_ms();
        let connection = self.connections.at_mut(slot);
        connection.phase = Phase::Open;
        connection.flags.counted = true;
        (connection.since_ms, connection.heard_ms, connection.active_ms, connection.pinged_ms) = (now, now, now, now);
        let endpoint = connection.endpoint;
        self.counters().connections.inc();
        self.counters().connections_total.inc();
        self.log_open(slot);
        let router = std::rc::Rc::clone(&self.router);
        router.endpoint(endpoint).mode.opened(&mut Actions::new(self, slot));
        self.want_send(slot);
        self.resume_parsing(slot);
        self.arm_timer(slot);
    }
}

/// RFC 9112 section 3.2.
fn require_host(head: &Head<'_>) -> Result<(), Refusal> {
    if head.version_minor() == 1 && head.header("host").is_none() {
        return Err(Refusal::new(400, Refused::Malformed, "the Host header is missing"));
    }
    Ok(())
}

fn refusal_of(error: UpgradeError) -> Refusal {
    let counted = match error.status() {
        405 => Refused::Method,
        426 => Refused::Upgrade,
        _ => Refused::Malformed,
    };
    Refusal::new(error.status(), counted, error.to_string())
}

/// A page of another origin must be allowed; programs send no Origin and are not asked.
fn check_origin(config: &EndpointConfig, upgrade: &Upgrade<'_>, tls: bool) -> Result<(), Refusal> {
    let Some(origin) = upgrade.origin() else { return Ok(()) };
    let scheme = if tls { "https://" } else { "http://" };
    let allowed = config.allowed_origins.iter().any(|allowed| match allowed.as_str() {
        "*" => true,
        "same-origin" => origin.strip_prefix(scheme).is_some_and(|host| host.eq_ignore_ascii_case(upgrade.host())),
        exact => exact.eq_ignore_ascii_case(origin),
    });
    if allowed { Ok(()) } else { Err(Refusal::new(403, Refused::Origin, "origin not allowed")) }
}

/// The server's favourite among those the client offers.
fn choose_subprotocol<'c>(config: &'c EndpointConfig, upgrade: &Upgrade<'_>) -> Option<&'c str> {
    let mut ours = config.subprotocols.iter();
    ours.find(|ours| upgrade.protocols().any(|offered| offered == ours.as_str())).map(String::as_str)
}
