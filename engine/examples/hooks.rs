//! A gateway with Rust code in the place of an application: every connection is tagged with its number and as a listener,
//! and every second all listeners are told the time since the start.
//!
//! ```text
//! cargo run --release --example hooks
//! ringrelay connect ws://localhost:5000/connect      (twice)
//! curl localhost:5000/status
//! ```

use std::error::Error;
use std::time::{Duration, Instant};

use engine::config::Preset;
use engine::gateway::{Connection, Handle, Hooks, Received, Selector};
use engine::server::Server;

/// How often it speaks.
const EVERY: Duration = Duration::from_secs(1);

/// Numbers connections and talks to them.
#[derive(Default)]
struct Numbers {
    handle: Option<Handle>,
    next: u64,
}

impl Hooks for Numbers {
    fn start(&mut self, handle: Handle) {
        self.handle = Some(handle.clone());
        tokio::spawn(speak(handle));
    }

    fn open(&mut self, connection: &Connection<'_>) {
        let Some(handle) = self.handle.clone() else { return };
        let (id, number) = (connection.id, self.next);
        self.next += 1;
        tokio::spawn(async move {
            let tags = [("number", &*number.to_string()), ("listens", "yes")];
            match handle.set_tags(Selector::Ids(vec![id]), &tags) {
                Ok(done) => println!("{id} is number {number}: {:?}", done.await),
                Err(error) => println!("{id}: {error}"),
            }
        });
    }

    fn message(&mut self, connection: &Connection<'_>, message: &Received) {
        println!("number {} says {message:?}", connection.tags.get("number").unwrap_or("?"));
    }

    fn close(&mut self, connection: &Connection<'_>) {
        println!("number {} has gone", connection.tags.get("number").unwrap_or("?"));
    }
}

/// Sends to all listeners, on a timer, until the server ends.
async fn speak(handle: Handle) {
    let began = Instant::now();
    loop {
        tokio::time::sleep(EVERY).await;
        let listeners = Selector::Tags(vec![("listens".into(), "yes".into())]);
        match handle.send_text(listeners, &format!("{} s", began.elapsed().as_secs())).await {
            Ok(count) => println!("sent to {count}"),
            Err(error) => return println!("{error}"),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start_with_hooks(&Preset::Gateway.config(), Numbers::default())?;
    println!("Listening on {}: ws://{0}/connect, http://{0}/status", server.address());
    server.wait();
    Ok(())
}
