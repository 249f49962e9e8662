//! The Prometheus endpoint: a thread that reads requests one at a time and asks whoever drives the run for the page.
//!
//! The page is made where the figures are, so nothing is shared; between two runs the asker waits a little.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a client may take over its request, and over the answer.
const CLIENT_PATIENCE: Duration = Duration::from_secs(2);

/// How long the run may take to say where it stands. Prometheus gives up after ten seconds.
const RUN_PATIENCE: Duration = Duration::from_secs(8);

/// A request head above this size is refused.
const HEAD_BYTES_MAX: usize = 8192;

/// Somebody waits for a page.
type Request = Sender<String>;

/// The endpoint; its thread ends with the process.
#[derive(Debug)]
pub(super) struct Exposition {
    pub(super) address: SocketAddr,
    requests: Receiver<Request>,
}

impl Exposition {
    /// # Errors
    /// When the address is taken or not ours, or there is no thread to be had.
    pub(super) fn listen(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let (asking, requests) = channel();
        thread::Builder::new().name("metrics".into()).spawn(move || {
            // A client that fails costs only itself; a listener that does (no descriptors) is tried again with the next.
            for stream in listener.incoming().flatten() {
                let _ = serve(stream, &asking);
            }
        })?;
        Ok(Self { address, requests })
    }

    /// Gives a page to everybody who waits for one.
    pub(super) fn answer(&self, page: impl Fn() -> String) {
        while let Ok(request) = self.requests.try_recv() {
            let _ = request.send(page());
        }
    }
}

fn serve(mut stream: TcpStream, asking: &Sender<Request>) -> io::Result<()> {
    stream.set_write_timeout(Some(CLIENT_PATIENCE))?;
    let Some(head) = read_head(&mut stream)? else {
        return respond(&mut stream, "431 Request Header Fields Too Large", "", "the request is too long\n", true);
    };
    let mut words = head.split([' ', '\r', '\n']);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let has_body = method != "HEAD";
    if !matches!(method, "GET" | "HEAD") {
        return respond(&mut stream, "405 Method Not Allowed", "Allow: GET, HEAD\r\n", "GET it\n", true);
    }
    if target.split('?').next() != Some("/metrics") {
        return respond(&mut stream, "404 Not Found", "", "the page is /metrics\n", has_body);
    }
    let (request, page) = channel();
    let _ = asking.send(request);
    match page.recv_timeout(RUN_PATIENCE) {
        Ok(page) => respond(&mut stream, "200 OK", "", &page, has_body),
        Err(_) => respond(&mut stream, "503 Service Unavailable", "Retry-After: 5\r\n", "between two runs\n", has_body),
    }
}

/// Reads up to the empty line; `None`: there is none within the limit.
fn read_head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let deadline = Instant::now() + CLIENT_PATIENCE;
    let mut head = Vec::new();
    let mut bytes = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX {
            return Ok(None);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        // A timeout of zero is an error, which ends a client that dribbles.
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut bytes)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => head.extend_from_slice(&bytes[..count]),
        }
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

fn respond(stream: &mut TcpStream, status: &str, headers: &str, body: &str, has_body: bool) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(if has_body { body.as_bytes() } else { &[] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn who_asks_gets_the_page_and_everything_else_is_refused() {
        let exposition = Exposition::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = exposition.address;
        for (request, status, ends) in [
            ("GET /metrics?x=1 HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK", "a 1\n"),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK", "\r\n\r\n"),
            ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404", "/metrics\n"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405", "GET it\n"),
        ] {
            let asking = thread::spawn(move || ask(address, request));
            while !asking.is_finished() {
                exposition.answer(|| "a 1\n".into());
                thread::yield_now();
            }
            let answer = asking.join().unwrap();
            assert!(answer.starts_with(status) && answer.ends_with(ends), "{request:?}: {answer:?}");
        }
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        assert!(ask(address, &long).starts_with("HTTP/1.1 431"));
    }
}
