//! SOCKS5 on the wire (RFC 1928) and its password sub-negotiation (RFC 1929).
//!
//! Each parser takes what has come so far and says `None` while the message is not whole.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The protocol's version.
pub const VERSION: u8 = 5;
/// The method of RFC 1929.
pub const PASSWORD: u8 = 2;
/// The answer when no method will do.
pub const NO_METHOD: u8 = 0xff;
/// The version of RFC 1929's sub-negotiation.
pub const PASSWORD_VERSION: u8 = 1;

/// What is no message of the protocol.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no SOCKS5 message: byte {at} is {byte:#04x}")]
pub struct Malformed {
    at: usize,
    byte: u8,
}

/// Where a client wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The TCP port.
    pub port: u16,
}

/// A host as SOCKS5 names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// By address.
    V4(Ipv4Addr),
    /// By name, to be resolved by the proxy.
    Name(String),
    /// By IPv6 address.
    V6(Ipv6Addr),
}

/// What a request is answered (RFC 1928 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The connection stands.
    Granted = 0,
    /// Too many stand already.
    Full = 1,
    /// Not to there.
    NotAllowed = 2,
    /// It does not answer, or there is no such name.
    HostUnreachable = 4,
    /// It is up, and nothing listens there.
    Refused = 5,
    /// Neither BIND nor UDP.
    Command = 7,
    /// No IPv6, nor any other kind of address.
    AddressType = 8,
}

impl Reply {
    /// The whole message, with an address of zeroes: no client needs to know the proxy's own end.
    pub fn encode(self) -> [u8; 10] {
        [VERSION, self as u8, 0, 1, 0, 0, 0, 0, 0, 0]
    }
}

fn expect(bytes: &[u8], at: usize, wanted: u8) -> Result<(), Malformed> {
    match bytes.get(at) {
        Some(&byte) if byte != wanted => Err(Malformed { at, byte }),
        _ => Ok(()),
    }
}

/// A text after its length byte at `at`, and where it ends.
fn counted(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let end = at + 1 + usize::from(*bytes.get(at)?);
    Some((bytes.get(at + 1..end)?, end))
}

/// The client's greeting: the methods that it offers.
pub fn greeting(bytes: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    expect(bytes, 0, VERSION)?;
    Ok(counted(bytes, 1).map(|(methods, _)| methods.to_vec()))
}

/// Who a client says it is. Not `Debug`: it holds a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name.
    pub username: Vec<u8>,
    /// The password.
    pub password: Vec<u8>,
}

/// The client's user name and password.
pub fn credentials(bytes: &[u8]) -> Result<Option<Credentials>, Malformed> {
    expect(bytes, 0, PASSWORD_VERSION)?;
    Ok(counted(bytes, 1).and_then(|(username, end)| {
        counted(bytes, end).map(|(password, _)| Credentials {
            username: username.to_vec(),
            password: password.to_vec(),
        })
    }))
}

/// The client's request: the target, or the reply that refuses it.
pub fn request(bytes: &[u8]) -> Result<Option<Result<Target, Reply>>, Malformed> {
    expect(bytes, 0, VERSION)?;
    expect(bytes, 2, 0)?;
    let (host, end) = match bytes.get(3) {
        None => return Ok(None),
        Some(1) => match bytes.get(4..8) {
            Some(&[a, b, c, d]) => (Host::V4(Ipv4Addr::new(a, b, c, d)), 8),
            _ => return Ok(None),
        },
        Some(3) => match counted(bytes, 4) {
            Some((name, end)) => (Host::Name(String::from_utf8_lossy(name).into_owned()), end),
            None => return Ok(None),
        },
        Some(4) => match bytes.get(4..20).map(<[u8; 16]>::try_from) {
            Some(Ok(address)) => (Host::V6(Ipv6Addr::from(address)), 20),
            _ => return Ok(None),
        },
        // Where this one ends nobody knows, and there is nothing to wait for.
        Some(_) => return Ok(Some(Err(Reply::AddressType))),
    };
    let Some(&[high, low]) = bytes.get(end..end + 2) else {
        return Ok(None);
    };
    if bytes[1] != 1 {
        return Ok(Some(Err(Reply::Command)));
    }
    Ok(Some(Ok(Target {
        host,
        port: u16::from_be_bytes([high, low]),
    })))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_messages_of_a_real_client_are_understood() {
        assert_eq!(greeting(&[5, 2, 0, 2]), Ok(Some(vec![0, 2])));
        assert_eq!(greeting(&[5, 2, 0]), Ok(None));
        assert_eq!(greeting(b"GET "), Err(Malformed { at: 0, byte: b'G' }));
        let both = Credentials {
            username: b"nodes".to_vec(),
            password: b"pw".to_vec(),
        };
        assert!(credentials(b"\x01\x05nodes\x02pw") == Ok(Some(both)));
        assert!(credentials(b"\x01\x05nodes\x02p") == Ok(None));
        let named = Target {
            host: Host::Name("worker-1".into()),
            port: 8080,
        };
        assert_eq!(
            request(b"\x05\x01\x00\x03\x08worker-1\x1f\x90"),
            Ok(Some(Ok(named)))
        );
        let numbered = Target {
            host: Host::V4(Ipv4Addr::new(10, 1, 2, 3)),
            port: 22,
        };
        assert_eq!(
            request(b"\x05\x01\x00\x01\x0a\x01\x02\x03\x00\x16"),
            Ok(Some(Ok(numbered)))
        );
        let sixth = Target {
            host: Host::V6(Ipv6Addr::LOCALHOST),
            port: 22,
        };
        let mut bytes = b"\x05\x01\x00\x04".to_vec();
        bytes.extend(Ipv6Addr::LOCALHOST.octets());
        assert_eq!(request(&bytes), Ok(None));
        bytes.extend([0, 22]);
        assert_eq!(request(&bytes), Ok(Some(Ok(sixth))));
        for (bytes, reply) in [
            (b"\x05\x02\x00\x01\x0a\x01\x02\x03\x00\x16", Reply::Command),
            (b"\x05\x03\x00\x01\x0a\x01\x02\x03\x00\x16", Reply::Command),
            (b"\x05\x01\x00\x09\x0a\x01\x02\x03\x00\x16", Reply::AddressType),
        ] {
            assert_eq!(request(bytes), Ok(Some(Err(reply))));
        }
    }

    /// What every parser promises, of any bytes: it ends, a message that is whole stays the same whatever follows, and
    /// one that cannot become one is not waited for.
    fn keeps_its_promises<T: PartialEq>(
        parse: impl Fn(&[u8]) -> Result<Option<T>, Malformed>,
        bytes: &[u8],
        longest: usize,
    ) {
        let all = parse(bytes);
        let first = (0..=bytes.len()).find(|end| parse(&bytes[..*end]) != Ok(None));
        match first {
            Some(end) => assert!(all == parse(&bytes[..end]) && end <= longest),
            None => assert!(bytes.len() < longest),
        }
    }

    proptest! {
        #[test]
        fn no_message_breaks_a_parser_and_none_is_taken_twice(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            keeps_its_promises(greeting, &bytes, 2 + 255);
            keeps_its_promises(credentials, &bytes, 3 + 2 * 255);
            keeps_its_promises(request, &bytes, 5 + 255 + 2);
        }

        #[test]
        fn nearly_a_message_is_as_good(
            start in proptest::sample::select(vec![vec![5, 1, 0, 1], vec![5, 1, 0, 3], vec![5, 1, 0, 4], vec![5, 9, 0, 3], vec![1, 5]]),
            rest in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let bytes = [start, rest].concat();
            keeps_its_promises(greeting, &bytes, 2 + 255);
            keeps_its_promises(credentials, &bytes, 3 + 2 * 255);
            keeps_its_promises(request, &bytes, 5 + 255 + 2);
        }
    }
}
