//! Any bytes at the SOCKS5 proxy, in whatever pieces they come: each parser takes its message and not a byte more, says
//! the same of it whatever follows, and never waits for more than the longest message there is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use libvirt_resource::agent::proxy::socks::{Malformed, credentials, greeting, request};

/// Feeds a parser byte by byte, as the proxy does, and gives what is left.
fn take<'a, T: PartialEq>(
    bytes: &'a [u8],
    longest: usize,
    parse: impl Fn(&[u8]) -> Result<Option<T>, Malformed>,
) -> Option<&'a [u8]> {
    for end in 1..=bytes.len() {
        assert!(end <= longest, "a message without an end");
        let said = parse(&bytes[..end]);
        if said == Ok(None) {
            continue;
        }
        assert!(parse(bytes) == said, "what follows has changed a message");
        return said.is_ok().then(|| &bytes[end..]);
    }
    None
}

fuzz_target!(|bytes: &[u8]| {
    take(bytes, 5 + 255 + 2, request);
    take(bytes, 3 + 2 * 255, credentials);
    let rest = take(bytes, 2 + 255, greeting);
    let rest = rest.and_then(|rest| take(rest, 3 + 2 * 255, credentials));
    rest.and_then(|rest| take(rest, 5 + 255 + 2, request));
});
