//! The grammar that header fields share: tokens and comma-separated lists (RFC 9110 section 5.6), and line endings.

use httparse::Header;

/// The values of all lines called `name`, in order.
pub(super) fn values<'h>(headers: &'h [Header<'h>], name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// The elements of a comma-separated list, which may be spread over several lines. Empty elements do not count.
pub(super) fn elements<'h>(headers: &'h [Header<'h>], name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    values(headers, name)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Whether a list contains a token, in any case.
pub(super) fn contains_token(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// The value of a field that may stand once at most.
///
/// # Errors
/// `()` if it stands more often.
pub(super) fn single<'h>(headers: &'h [Header<'h>], name: &'h str) -> Result<Option<&'h [u8]>, ()> {
    let mut values = values(headers, name);
    let first = values.next();
    if values.next().is_some() { Err(()) } else { Ok(first) }
}

/// Whether `bytes` are a token (RFC 9110 section 5.6.2), as text.
pub(super) fn as_token(bytes: &[u8]) -> Option<&str> {
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if bytes.is_empty() || !bytes.iter().all(is_token_byte) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// Whether every line of a head ends in CR LF. A recipient may accept a bare LF (RFC 9112 section 2.2), but then two
/// recipients see different requests.
pub(super) fn has_bare_line_feed(head: &[u8]) -> bool {
    let mut before = 0;
    head.iter().any(|&byte| {
        let is_bare = byte == b'\n' && before != b'\r';
        before = byte;
        is_bare
    })
}
