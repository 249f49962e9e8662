//! One node of the mesh: a shard, or the control thread, with a ring to and from every other node.
//!
//! In: records for other nodes; out: records from them, in the order each of them sent. A record that does not fit
//! waits in a local queue behind which everything to that node lines up; [`Node::is_congested`] then tells publishers
//! to pause. Nothing here waits for room.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst, fence};

use crate::mesh::bitmap::Bitmap;
use crate::mesh::message::Message;
use crate::mesh::notify::Notify;
use crate::mesh::ring::{Consumer, Meta, Popped, Producer, ring};

/// Bytes of all rings that lead to one node, shared out evenly; touched only as deep as bursts go.
const RING_BYTES_PER_NODE: usize = 4 << 20;
/// Bounds of one ring, in bytes.
const RING_BYTES: (usize, usize) = (64 << 10, 512 << 10);
/// Bytes of boxed records under way in one ring.
const BOXED_BYTES_MAX: usize = 4 << 20;
/// Topics per home shard that the bitmaps can name.
pub(crate) const TOPICS_PER_HOME_MAX: usize = 262_144;

/// What two nodes share besides their rings.
struct Link {
    /// Topics homed at the sender that have news.
    news: Bitmap,
    /// Topics homed at the receiver whose gate should be weighed again.
    room: Bitmap,
    /// The sender waits for room in its ring.
    starved: AtomicBool,
}

struct Peer {
    outgoing: Producer<Message>,
    waiting: VecDeque<Waiting>,
    to: Arc<Link>,
    notify: Arc<Notify>,
    /// Wake it at the end of the turn.
    wake: bool,
}

enum Waiting {
    Inline(Meta, Box<[u8]>),
    Boxed(Box<Message>, usize),
}

/// See the module's description.
pub(crate) struct Node {
    pub notify: Arc<Notify>,
    /// One per node; `None` for itself.
    peers: Vec<Option<Peer>>,
    inbox: Inbox,
}

/// The receiving ends of a node. What they hold acts on the whole node, so they are taken out to be read.
#[derive(Default)]
pub(crate) struct Inbox(Vec<Option<Incoming>>);

struct Incoming {
    ring: Consumer<Message>,
    link: Arc<Link>,
    /// Whom to wake when there is room again.
    notify: Arc<Notify>,
}

/// Builds a full mesh of `nodes` nodes, the last of which is the control thread.
///
/// # Errors
/// No descriptors left for the eventfds.
pub(crate) fn mesh(nodes: usize) -> io::Result<Vec<Node>> {
    let bells: Vec<Arc<Notify>> = (0..nodes).map(|_| Notify::new().map(Arc::new)).collect::<io::Result<_>>()?;
    let bytes = (RING_BYTES_PER_NODE / nodes).clamp(RING_BYTES.0, RING_BYTES.1).next_power_of_two();
    let mut mesh: Vec<Node> = bells
        .iter()
        .map(|notify| Node {
            notify: Arc::clone(notify),
            peers: (0..nodes).map(|_| None).collect(),
            inbox: Inbox((0..nodes).map(|_| None).collect()),
        })
        .collect();
    for a in 0..nodes {
        for b in a + 1..nodes {
            let (a_to_b, b_from_a) = ring(bytes, BOXED_BYTES_MAX);
            let (b_to_a, a_from_b) = ring(bytes, BOXED_BYTES_MAX);
            let link = || {
                Arc::new(Link {
                    news: Bitmap::new(TOPICS_PER_HOME_MAX),
                    room: Bitmap::new(TOPICS_PER_HOME_MAX),
                    starved: AtomicBool::new(false),
                })
            };
            let (ab, ba) = (link(), link());
            let peer = |outgoing, to: &Arc<Link>, other: usize| Peer {
                outgoing,
                waiting: VecDeque::new(),
                to: Arc::clone(to),
                notify: Arc::clone(&bells[other]),
                wake: false,
            };
            let incoming = |ring, link: &Arc<Link>, other: usize| Incoming {
                ring,
                link: Arc::clone(link),
                notify: Arc::clone(&bells[other]),
            };
            mesh[a].peers[b] = Some(peer(a_to_b, &ab, b));
            mesh[b].peers[a] = Some(peer(b_to_a, &ba, a));
            mesh[a].inbox.0[b] = Some(incoming(a_from_b, &ba, b));
            mesh[b].inbox.0[a] = Some(incoming(b_from_a, &ab, a));
        }
    }
    Ok(mesh)
}

impl Node {
    fn peer(&mut self, to: usize) -> &mut Peer {
        self.peers[to].as_mut().expect("a node does not send to itself")
    }

    /// Sends a small record by copying it into the ring. `payload` must not exceed [`Node::inline_bytes_max`].
    pub(crate) fn send_inline(&mut self, to: usize, meta: Meta, payload: &[u8]) {
        let peer = self.peer(to);
        if !peer.waiting.is_empty() || !peer.outgoing.push(meta, payload) {
            peer.waiting.push_back(Waiting::Inline(meta, payload.into()));
        }
        peer.wake = true;
    }

    /// Sends a boxed record that stands for `weight` bytes.
    pub(crate) fn send(&mut self, to: usize, message: Message, weight: usize) {
        let peer = self.peer(to);
        let message = Box::new(message);
        if !peer.waiting.is_empty() {
            peer.waiting.push_back(Waiting::Boxed(message, weight));
        } else if let Err(message) = peer.outgoing.push_boxed(message, weight) {
            peer.waiting.push_back(Waiting::Boxed(message, weight));
        }
        peer.wake = true;
    }

    /// Largest payload of an inline record, in bytes.
    pub(crate) fn inline_bytes_max(&self, to: usize) -> usize {
        self.peers[to].as_ref().map_or(0, |peer| peer.outgoing.inline_bytes_max())
    }

    /// True while records for `to` wait for room: publishers should pause.
    pub(crate) fn is_congested(&self, to: usize) -> bool {
        self.peers[to].as_ref().is_some_and(|peer| !peer.waiting.is_empty())
    }

    /// Announces news of a topic homed here to shard `to`.
    pub(crate) fn announce(&mut self, to: usize, home_slot: u32) {
        let peer = self.peer(to);
        peer.to.news.set(home_slot);
        peer.wake = true;
    }

    /// Asks the home `to` to weigh a topic's gate again.
    pub(crate) fn report_room(&mut self, to: usize, home_slot: u32) {
        let peer = self.peer(to);
        peer.to.room.set(home_slot);
        peer.wake = true;
    }

    /// Takes the receiving ends out, to be read; they must be put back.
    pub(crate) fn take_inbox(&mut self) -> Inbox {
        std::mem::take(&mut self.inbox)
    }

    pub(crate) fn put_inbox(&mut self, inbox: Inbox) {
        self.inbox = inbox;
    }

    /// Moves waiting records into the rings. True if a node that was congested no longer is.
    pub(crate) fn retry(&mut self) -> bool {
        let mut relieved = false;
        for peer in self.peers.iter_mut().flatten() {
            if peer.waiting.is_empty() {
                continue;
            }
            // Before the attempt: a reader that makes room after a failed attempt then sees it and wakes us.
            peer.to.starved.store(true, SeqCst);
            fence(SeqCst);
            while let Some(next) = peer.waiting.pop_front() {
                let refused = match next {
                    Waiting::Inline(meta, payload) => {
                        (!peer.outgoing.push(meta, &payload)).then_some(Waiting::Inline(meta, payload))
                    }
                    Waiting::Boxed(message, weight) => {
                        peer.outgoing.push_boxed(message, weight).err().map(|message| Waiting::Boxed(message, weight))
                    }
                };
                peer.wake = true;
                if let Some(refused) = refused {
                    peer.waiting.push_front(refused);
                    break;
                }
            }
            relieved |= peer.waiting.is_empty();
        }
        relieved
    }

    /// True if waiting records may find room by now: their reader has made some, or was not told yet that we wait.
    pub(crate) fn must_retry(&self) -> bool {
        self.peers.iter().flatten().any(|peer| !peer.waiting.is_empty() && !peer.to.starved.load(SeqCst))
    }

    /// Wakes every node that was given something this turn and sleeps.
    pub(crate) fn wake_peers(&mut self) {
        for peer in self.peers.iter_mut().flatten() {
            if std::mem::take(&mut peer.wake) {
                peer.notify.wake();
            }
        }
    }

    /// True if some node has something for this one.
    pub(crate) fn has_news(&self) -> bool {
        self.inbox.0.iter().flatten().any(|incoming| {
            !incoming.ring.is_empty() || !incoming.link.news.is_empty() || !incoming.link.room.is_empty()
        })
    }

    /// True if nothing waits for room in a ring to another node.
    pub(crate) fn is_drained(&self) -> bool {
        self.peers.iter().flatten().all(|peer| peer.waiting.is_empty())
    }
}

impl Inbox {
    /// Reads at most `budget` records of each node, and no more of one once `each` says no. True if some are left.
    pub(crate) fn drain(&mut self, budget: usize, mut each: impl FnMut(usize, Popped<'_, Message>) -> bool) -> bool {
        let mut left = false;
        for (from, incoming) in self.0.iter_mut().enumerate() {
            let Some(incoming) = incoming else { continue };
            let mut read = 0;
            let mut goes_on = true;
            while goes_on && read < budget && incoming.ring.pop(|record| goes_on = each(from, record)).is_some() {
                read += 1;
            }
            left |= (read == budget || !goes_on) && !incoming.ring.is_empty();
            if read > 0 {
                fence(SeqCst);
                if incoming.link.starved.swap(false, SeqCst) {
                    incoming.notify.wake();
                }
            }
        }
        left
    }

    /// Topics homed elsewhere that have news: (home shard, home slot).
    pub(crate) fn drain_news(&self, mut each: impl FnMut(usize, u32)) {
        for (from, incoming) in self.0.iter().enumerate() {
            if let Some(incoming) = incoming {
                incoming.link.news.drain(|slot| each(from, slot));
            }
        }
    }

    /// Topics homed here whose gate should be weighed.
    pub(crate) fn drain_room(&self, mut each: impl FnMut(u32)) {
        for incoming in self.0.iter().flatten() {
            incoming.link.room.drain(&mut each);
        }
    }
}
