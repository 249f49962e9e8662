//! Addresses of other systems: which schemes each takes.

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
