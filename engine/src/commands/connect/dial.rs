//! One try to connect: addresses, TCP, TLS, the opening handshake. Blocks; the client has it done by a thread.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use tungstenite::handshake::HandshakeError;
use tungstenite::http::{Response, StatusCode};
use tungstenite::{ClientHandshake, WebSocket};

use super::stream::{Stream, Trust};
use super::target::Target;
use crate::logging::printable;

/// How long each step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct Failure {
    /// In one line.
    pub why: String,
    /// Another try may succeed.
    pub may_pass: bool,
}

/// What a try came to.
pub(super) type Dialled = Result<WebSocket<Stream>, Failure>;

impl Failure {
    fn passing(why: impl Into<String>) -> Self {
        Self { why: why.into(), may_pass: true }
    }

    fn lasting(why: impl Into<String>) -> Self {
        Self { why: why.into(), may_pass: false }
    }
}

/// Connects; the stream does not block any more.
///
/// # Errors
/// Why not, and whether to try again.
pub(super) fn dial(target: &Target, trust: Option<&Trust>) -> Dialled {
    let tcp = connect(target).map_err(|error| Failure::passing(error.to_string()))?;
    let stream = match trust {
        Some(trust) => Stream::tls(tcp, &target.host, trust).map_err(Failure::lasting)?,
        None => Stream::Plain(tcp),
    };
    let (socket, _response) = tungstenite::client(target.url.as_str(), stream).map_err(failure_of)?;
    socket.get_ref().tcp().set_nonblocking(true).map_err(|error| Failure::passing(error.to_string()))?;
    Ok(socket)
}

/// Tries the host's addresses in turn.
fn connect(target: &Target) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (target.host.as_str(), target.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, STEP_TIMEOUT) {
            Ok(tcp) => {
                tcp.set_read_timeout(Some(STEP_TIMEOUT))?;
                tcp.set_write_timeout(Some(STEP_TIMEOUT))?;
                tcp.set_nodelay(true)?;
                return Ok(tcp);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn failure_of(error: HandshakeError<ClientHandshake<Stream>>) -> Failure {
    use tungstenite::Error;
    match error {
        // The stream's timeout shows as "would block".
        HandshakeError::Interrupted(_) => Failure::passing("the server does not answer"),
        HandshakeError::Failure(Error::Http(response)) => refused(&response),
        HandshakeError::Failure(Error::Io(error)) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some::<&rustls::Error>(error) => Failure::lasting(format!("TLS: {error}")),
            None => Failure::passing(error.to_string()),
        },
        HandshakeError::Failure(error) => Failure::lasting(error.to_string()),
    }
}

/// The server's answer is no 101.
fn refused(response: &Response<Option<Vec<u8>>>) -> Failure {
    let status = response.status();
    let body = response.body().as_deref().unwrap_or_default().trim_ascii();
    let is_text = response.headers().get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let reason = if is_text && !body.is_empty() { format!(": {}", printable(body)) } else { String::new() };
    let may_pass =
        status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    Failure { why: format!("the server answers {status}{reason}"), may_pass }
}
