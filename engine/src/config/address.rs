//! Addresses of other systems: which schemes each takes, and how they show in a log.

/// The address as logs and errors show it: passwords are `***`, in front of the host and in the query.
///
/// What cannot be told apart from a password is hidden too.
#[must_use]
pub fn redacted(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return "***".to_owned() };
    let (place, query) = split_query(rest);
    let place = match place.rsplit_once('@') {
        None => place.to_owned(),
        Some((user, host)) => match user.split_once(':') {
            None => format!("{user}@{host}"),
            Some((user, _)) => format!("{user}:***@{host}"),
        },
    };
    let query = query.map_or_else(String::new, |query| format!("?{}", redacted_query(query)));
    format!("{scheme}://{place}{query}")
}

/// At the `?` behind the host. One within a password, where it should have been escaped, has an `@` behind it.
fn split_query(rest: &str) -> (&str, Option<&str>) {
    let host_ends = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let from = match rest[..host_ends].contains('@') || plain_host(&rest[..host_ends]) {
        true => host_ends,
        false => rest.rfind('@').unwrap_or(host_ends),
    };
    match rest[from..].find('?') {
        Some(at) => (&rest[..from + at], Some(&rest[from + at + 1..])),
        None => (rest, None),
    }
}

/// A name or an address, with a port or without.
fn plain_host(text: &str) -> bool {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    !host.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn redacted_query(query: &str) -> String {
    let secret = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["pass", "pwd", "secret", "token", "key", "auth", "sig"].iter().any(|word| name.contains(word))
    };
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if secret(name) => format!("{name}=***"),
        _ => pair.to_owned(),
    };
    query.split('&').map(pair).collect::<Vec<_>>().join("&")
}

pub(super) fn redis(address: &str) -> Result<(), String> {
    check(address, &["redis", "rediss"])
}

pub(super) fn amqp(address: &str) -> Result<(), String> {
    check(address, &["amqp", "amqps"])
}

pub(super) fn nats(address: &str) -> Result<(), String> {
    check(address, &["nats", "tls"])
}

pub(super) fn http(address: &str) -> Result<(), String> {
    check(address, &["http", "https"])
}

/// The reason never shows the address itself: it may hold a password.
fn check(address: &str, schemes: &[&str]) -> Result<(), String> {
    let wanted = || format!("{}://host", schemes.join(":// or "));
    if address.is_empty() {
        return Ok(());
    }
    if address.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("contains spaces or control characters; it is written like {}", wanted()));
    }
    match address.split_once("://") {
        Some((scheme, rest)) if schemes.contains(&scheme) && !rest.is_empty() => Ok(()),
        Some((scheme, _)) if !schemes.contains(&scheme) && scheme.len() <= 16 => {
            Err(format!("{scheme:?} is no scheme for it; it is written like {}", wanted()))
        }
        _ => Err(format!("is not written like {}", wanted())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_and_the_rest_stays() {
        for (address, shown) in [
            ("redis://localhost:6379/0?client_name=a@b", "redis://localhost:6379/0?client_name=a@b"),
            ("redis://:s3cret@localhost", "redis://:***@localhost"),
            ("redis://user:s3cret@localhost:6379/0", "redis://user:***@localhost:6379/0"),
            ("redis://user@localhost", "redis://user@localhost"),
            ("redis://user:s3@cret@localhost/0", "redis://user:***@localhost/0"),
            ("redis://user:s3/c?r#et@localhost/0?db=1", "redis://user:***@localhost/0?db=1"),
            ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
            ("redis://localhost?password=s3cret&db=1", "redis://localhost?password=***&db=1"),
            ("nats://a:s3cret@h1,nats://b:s3cret@h2", "nats://a:***@h2"),
            ("https://h/hook?Token=s3cret&api_key=s3cret&room=1", "https://h/hook?Token=***&api_key=***&room=1"),
            ("s3cret", "***"),
            ("", "***"),
        ] {
            assert_eq!(redacted(address), shown);
        }
    }

    #[test]
    fn a_wrong_address_is_told_without_showing_it() {
        for (address, reason) in [
            ("", None),
            ("redis://h", None),
            ("rediss://u:p@h:1/0?a=b", None),
            ("http://u:s3cret@h", Some("\"http\" is no scheme for it; it is written like redis:// or rediss://host")),
            ("redis://", Some("is not written like redis:// or rediss://host")),
            ("s3cret@localhost:6379", Some("is not written like redis:// or rediss://host")),
            (
                "redis://u:s3 cret@h",
                Some("contains spaces or control characters; it is written like redis:// or rediss://host"),
            ),
        ] {
            assert_eq!(redis(address).err().as_deref(), reason, "{address}");
        }
    }
}
