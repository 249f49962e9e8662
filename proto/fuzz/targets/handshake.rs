//! The opening handshake under libFuzzer: any bytes as a request and as a response. A prefix must not be judged otherwise
//! than the whole, and what is agreed to is answered correctly.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::handshake::{ClientRequest, HeadLimits, accept_response, check_response, check_upgrade, parse_head};

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 2048, headers_max: 16 };

fuzz_target!(|input: &[u8]| {
    check_request(input);
    let client =
        ClientRequest { target: "/", host: "a", key: *b"the sample nonce", subprotocols: &["a", "b"], headers: &[] };
    let _ = check_response(input, &client, &LIMITS);
});

fn check_request(input: &[u8]) {
    let whole = parse_head(input, &LIMITS);
    let half = parse_head(&input[..input.len() / 2], &LIMITS);
    match (&whole, &half) {
        (_, Ok(None)) => {}
        (Ok(Some((_, whole))), Ok(Some((_, half)))) => assert_eq!(whole, half),
        (Err(whole), Err(half)) => assert_eq!(whole, half),
        _ => panic!("the prefix gives {half:?}, the whole {whole:?}"),
    }
    let Ok(Some((head, head_bytes))) = whole else { return };
    assert!(head_bytes <= LIMITS.head_bytes_max && head.headers().len() <= LIMITS.headers_max);
    assert!(!input[..head_bytes].contains(&0));
    let Ok(upgrade) = check_upgrade(&head) else { return };
    assert!(head.wants_websocket() && !upgrade.host().is_empty());
    let mut response = Vec::new();
    accept_response(&mut response, &upgrade.accept(), upgrade.protocols().next());
    assert_eq!(response.windows(4).position(|bytes| bytes == b"\r\n\r\n"), Some(response.len() - 4));
}
