//! In the steady state no message costs an allocation: counted on the shards' threads, while clients echo, ping, and
//! publish to twenty others and themselves.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use engine::config::Driver;
use engine::server::Server;
use support::raw::{BINARY, PING, PONG, RawClient, TEXT, masked_frame};
use support::{config, drivers, start};

/// Messages before the count begins: buffers have then grown to the size that the load needs.
const WARM_UP: usize = 3_000;
const MESSAGES: usize = 10_000;
/// What chance may add: a list or buffer that grows in a longer burst than any before.
const ALLOCATIONS_MAX: usize = 8;
/// The longer first: they make a log's segments grow to their full size.
const SIZES: [usize; 2] = [4096, 64];

/// The system's allocator; counts what the shards' threads ask it for while [`COUNTING`].
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static COUNTING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// The sizes of the first of them, in bytes: where to look when a test fails.
static FIRST: [AtomicUsize; 32] = [const { AtomicUsize::new(0) }; 32];

thread_local! {
    /// Whether this is a shard's thread. Not asked before it counts: then every shard's thread has its name.
    static ON_SHARD: Cell<Option<bool>> = const { Cell::new(None) };
}

impl Counting {
    fn note(bytes: usize) {
        if COUNTING.load(Relaxed) && ON_SHARD.get().unwrap_or_else(is_shard) {
            let number = COUNT.fetch_add(1, Relaxed);
            if let Some(first) = FIRST.get(number) {
                first.store(bytes, Relaxed);
            }
        }
    }
}

/// Asks for the thread's name without allocating.
fn is_shard() -> bool {
    let mut name = [0_u8; 16];
    // SAFETY: the kernel writes a thread's name, at most 16 bytes with the NUL, to `name`.
    let named = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) } == 0;
    let on_shard = named && name.starts_with(b"shard-");
    ON_SHARD.set(Some(on_shard));
    on_shard
}

// SAFETY: everything is left to the system's allocator; `note` does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        Self::note(bytes);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Counts what the shards allocate while `run` runs.
fn count(run: impl FnOnce()) -> usize {
    COUNT.store(0, Relaxed);
    COUNTING.store(true, Relaxed);
    run();
    COUNTING.store(false, Relaxed);
    COUNT.load(Relaxed)
}

/// Runs the load once to warm up, and once to count.
fn assert_steady(what: &str, mut load: impl FnMut(usize)) {
    load(WARM_UP);
    let allocations = count(|| load(MESSAGES));
    let first: Vec<_> = FIRST.iter().take(allocations).map(|bytes| bytes.load(Relaxed)).collect();
    assert!(
        allocations <= ALLOCATIONS_MAX,
        "{what}: {allocations} allocations for {MESSAGES} messages, the first of these bytes: {first:?}"
    );
}

/// One test at a time, by its being one: other servers have shards of the same names.
#[test]
fn messages_cost_no_allocation() {
    for &driver in drivers() {
        the_counter_counts(driver);
        echo(driver);
        pings(driver);
        for shards in [1, 2] {
            fan_out(driver, shards);
        }
    }
}

/// A connection that opens costs its shard something: so the shards are counted.
fn the_counter_counts(driver: Driver) {
    let server = start(&config(driver, 1));
    let opened = count(|| drop(RawClient::connect(server.address(), "/")));
    assert!(opened > 0);
    end(server);
}

fn echo(driver: Driver) {
    let server = start(&config(driver, 1));
    for payload_bytes in SIZES {
        for depth in [1, 16] {
            let mut client = RawClient::connect(server.address(), "/echo");
            let payload = vec![b'x'; payload_bytes];
            let frames = masked_frame(TEXT, &payload).repeat(depth);
            assert_steady(&format!("{driver}, echo of {payload_bytes} B, {depth} at a time"), |messages| {
                for _ in 0..messages / depth {
                    client.stream.write_all(&frames).unwrap();
                    (0..depth).for_each(|_| hear(&mut client, TEXT, payload_bytes));
                }
            });
        }
    }
    end(server);
}

fn pings(driver: Driver) {
    let server = start(&config(driver, 1));
    let mut client = RawClient::connect(server.address(), "/echo");
    assert_steady(&format!("{driver}, pings"), |messages| {
        for _ in 0..messages {
            client.send(PING, b"still there?").unwrap();
            hear(&mut client, PONG, 12);
        }
    });
    drop(client);
    end(server);
}

/// Everybody publishes in turn, so that messages come from the topic's home and from other shards.
fn fan_out(driver: Driver, shards: u16) {
    const CLIENTS: usize = 21;
    /// Messages published before they are all heard.
    const DEPTH: usize = 10;
    let server = start(&config(driver, shards));
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| RawClient::connect(server.address(), "/")).collect();
    assert!((0..shards.into()).all(|shard| server.counters().shard(shard).connections.value() > 0));
    for payload_bytes in SIZES {
        let frames = masked_frame(BINARY, &vec![0xFE; payload_bytes]).repeat(DEPTH);
        assert_steady(&format!("{driver}, {shards} shards, fan-out of {payload_bytes} B"), |messages| {
            for round in 0..messages / DEPTH {
                clients[round % CLIENTS].stream.write_all(&frames).unwrap();
                for client in &mut clients {
                    (0..DEPTH).for_each(|_| hear(client, BINARY, payload_bytes));
                }
            }
        });
    }
    drop(clients);
    end(server);
}

/// Reads one frame, which must be of this kind and length.
fn hear(client: &mut RawClient, first: u8, payload_bytes: usize) {
    loop {
        if let Some((got, payload)) = client.frames.next() {
            assert_eq!((got, payload.len()), (first, payload_bytes));
            return;
        }
        assert!(client.frames.fill(&mut client.stream).unwrap() > 0, "the server hangs up");
    }
}

/// Ends the server, whose clients have gone, so that its shards are not among those of the next.
fn end(server: Server) {
    server.shutdown();
    server.wait();
}
