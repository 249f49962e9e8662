//! Addresses of other systems: which schemes each takes, and whether the rest can be read.

use async_nats::ServerAddr;
use hyper::Uri;
use lapin::uri::AMQPUri;

pub(super) fn redis(address: &str) -> Result<(), String> {
    check(address, &["redis", "rediss", "unix"])?;
    let (place, _) = address.split_once('?').unwrap_or((address, ""));
    parse(address, "redis://user:password@host:6379/0", || redis::Client::open(place).map(drop))
}

pub(super) fn amqp(address: &str) -> Result<(), String> {
    check(address, &["amqp", "amqps"])?;
    parse(address, "amqp://user:password@host:5672/vhost", || address.parse::<AMQPUri>().map(drop))
}

/// One, or a list with commas.
pub(super) fn nats(addresses: &str) -> Result<(), String> {
    for address in addresses.split(',').map(str::trim) {
        check(address, &["nats", "tls"])?;
        parse(address, "nats://host:4222", || address.parse::<ServerAddr>().map(drop))?;
    }
    Ok(())
}

pub(super) fn http(address: &str) -> Result<(), String> {
    check(address, &["http", "https"])?;
    parse(address, "https://host:443/path", || {
        let uri: Uri = address.parse().map_err(drop)?;
        let authority = uri.authority().ok_or(())?;
        let has_odd_port = authority.port_u16().is_none() && !authority.as_str().ends_with(authority.host());
        if has_odd_port { Err(()) } else { Ok(()) }
    })
}

/// Whether the target's own library takes the address. Its reasons may show a password, and are not told.
fn parse<E>(address: &str, like: &str, parse: impl FnOnce() -> Result<(), E>) -> Result<(), String> {
    if address.is_empty() {
        return Ok(());
    }
    parse().map_err(|_| format!("cannot be read; it is written like {like}"))
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
    fn a_wrong_address_is_told_without_showing_it() {
        for (address, reason) in [
            ("", None),
            ("redis://h", None),
            ("rediss://u:p@h:1/0?a=b", None),
            (
                "http://u:s3cret@h",
                Some("\"http\" is no scheme for it; it is written like redis:// or rediss:// or unix://host"),
            ),
            ("redis://", Some("is not written like redis:// or rediss:// or unix://host")),
            ("s3cret@localhost:6379", Some("is not written like redis:// or rediss:// or unix://host")),
            (
                "redis://u:s3 cret@h",
                Some("contains spaces or control characters; it is written like redis:// or rediss:// or unix://host"),
            ),
        ] {
            assert_eq!(redis(address).err().as_deref(), reason, "{address}");
        }
    }

    #[test]
    fn what_a_target_could_not_read_is_an_error_of_the_configuration() {
        for address in ["redis://h/notadb", "redis://h:notaport", "unix://"] {
            assert!(redis(address).is_err(), "{address}");
        }
        assert!(redis("unix:///run/redis.sock").is_ok() && redis("redis://h/0?client_name=x&pool_size=7").is_ok());
        assert!(amqp("amqp://h:port").is_err() && amqp("amqp://guest:guest@h/%2f").is_ok());
        assert!(nats("nats://h:port").is_err() && nats("nats://a,b").is_err() && nats("nats://a, nats://b:1").is_ok());
        assert!(http("http://h:port/").is_err() && http("https://u:p@h/x?y=z").is_ok());
        assert!(!amqp("amqp://u:s3cret@h:port").unwrap_err().contains("s3cret"));
    }
}
