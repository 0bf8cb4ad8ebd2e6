//! The name server (RFC 1035): the nodes' names are answered, others are for the container's own server.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::agent::wire;
use crate::topology::plan::Plan;

const HEADER: usize = 12;
const A: u16 = 1;
const PTR: u16 = 12;
const ANY: u16 = 255;
const INTERNET: u16 = 1;
/// "No such name".
const NXDOMAIN: u8 = 3;
/// Addresses stay as they are for the cluster's life, but a name may be another cluster's next.
const TTL: u32 = 60;

/// What becomes of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The whole answer.
    Answer(Vec<u8>),
    /// It is not ours to answer.
    Elsewhere,
}

/// The names of a cluster.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: BTreeMap<String, Ipv4Addr>,
    domain: String,
    subnets: Vec<Ipv4Net>,
    /// Whether there is somebody else to ask.
    outward: bool,
}

impl Names {
    pub fn new(plan: &Plan, outward: bool) -> Self {
        Self {
            names: wire::names::names(plan),
            domain: format!(".{}", plan.dns_domain()),
            subnets: plan.networks.iter().map(|network| network.subnet).collect(),
            outward,
        }
    }

    /// `None` for what is no question.
    pub fn answer(&self, query: &[u8]) -> Option<Reply> {
        let question = Question::parse(query)?;
        let name = question.name.as_str();
        if let Some(address) = self.names.get(name) {
            let wanted = matches!(question.kind, A | ANY);
            let record = wanted.then(|| (A, address.octets().to_vec()));
            return Some(Reply::Answer(question.answer(query, 0, record)));
        }
        if let Some(address) =
            reverse(name).filter(|address| self.subnets.iter().any(|net| net.contains(address)))
        {
            let own = self.names.iter().find(|(_, own)| **own == address);
            let record = own
                .filter(|_| matches!(question.kind, PTR | ANY))
                .map(|(name, _)| (PTR, encode(name)));
            let code = if own.is_some() { 0 } else { NXDOMAIN };
            return Some(Reply::Answer(question.answer(query, code, record)));
        }
        // A name without a dot is nobody's outside, and those of the cluster's domain are ours alone.
        if self.outward && name.contains('.') && !name.ends_with(&self.domain) {
            return Some(Reply::Elsewhere);
        }
        Some(Reply::Answer(question.answer(query, NXDOMAIN, None)))
    }
}

struct Question {
    /// In lower case (RFC 4343), without the dot at its end.
    name: String,
    kind: u16,
    /// Where it ends in the message.
    end: usize,
}

impl Question {
    /// A message with one question and nothing unusual.
    fn parse(query: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]));
        // Query, opcode 0; one question.
        if query.get(2)? & 0xf8 != 0 || word(4)? != 1 {
            return None;
        }
        let (mut labels, mut at) = (Vec::new(), HEADER);
        loop {
            let length = usize::from(*query.get(at)?);
            at += 1;
            match length {
                0 => break,
                // Longer ones are pointers, which have no place in a question.
                64.. => return None,
                _ => {
                    let label = query.get(at..at + length)?;
                    labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
                    at += length;
                }
            }
        }
        let (kind, class) = (word(at)?, word(at + 2)?);
        (class == INTERNET).then(|| Self {
            name: labels.join("."),
            kind,
            end: at + 4,
        })
    }

    fn answer(&self, query: &[u8], code: u8, record: Option<(u16, Vec<u8>)>) -> Vec<u8> {
        let mut answer = query[..self.end].to_vec();
        // A response, authoritative, recursion available; desired as it was asked.
        answer[2] = 0x84 | (query[2] & 1);
        answer[3] = 0x80 | code;
        let count = u8::from(record.is_some());
        answer[6..HEADER].copy_from_slice(&[0, count, 0, 0, 0, 0]);
        if let Some((kind, data)) = record {
            // The name: a pointer to the question's.
            answer.extend([0xc0, HEADER as u8]);
            answer.extend(kind.to_be_bytes());
            answer.extend(INTERNET.to_be_bytes());
            answer.extend(TTL.to_be_bytes());
            answer.extend((data.len() as u16).to_be_bytes());
            answer.extend(data);
        }
        answer
    }
}

/// `5.0.9.10.in-addr.arpa` is 10.9.0.5.
fn reverse(name: &str) -> Option<Ipv4Addr> {
    let numbers = name.strip_suffix(".in-addr.arpa")?;
    let mut parts: Vec<&str> = numbers.split('.').collect();
    parts.reverse();
    parts.join(".").parse().ok()
}

/// Each label behind its length.
fn encode(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(outward: bool) -> Names {
        Names {
            names: [("worker-1".to_owned(), Ipv4Addr::new(10, 9, 0, 11))].into(),
            domain: ".brisk-otter.internal".to_owned(),
            subnets: vec!["10.9.0.0/24".parse().unwrap()],
            outward,
        }
    }

    fn ask(name: &str, kind: u16) -> Vec<u8> {
        let mut query = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend(encode(name));
        query.extend(kind.to_be_bytes());
        query.extend(INTERNET.to_be_bytes());
        query
    }

    fn answered(names: &Names, name: &str, kind: u16) -> (u8, Vec<u8>) {
        match names.answer(&ask(name, kind)) {
            Some(Reply::Answer(answer)) => (answer[3] & 15, answer[ask(name, kind).len()..].to_vec()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nodes_are_found_in_any_case_and_by_address() {
        let names = names(true);
        let (code, record) = answered(&names, "Worker-1", A);
        assert_eq!(
            (code, &record[record.len() - 4..]),
            (0, [10, 9, 0, 11].as_slice())
        );
        // It has no IPv6 address, which is no error.
        assert_eq!(answered(&names, "worker-1", 28), (0, Vec::new()));
        let (code, record) = answered(&names, "11.0.9.10.in-addr.arpa", PTR);
        assert_eq!(code, 0);
        assert!(record.ends_with(&encode("worker-1")));
    }

    #[test]
    fn what_is_nobodys_is_not_asked_outside() {
        for (name, kind) in [
            ("worker-9", A),
            ("x.brisk-otter.internal", A),
            ("9.0.9.10.in-addr.arpa", PTR),
        ] {
            assert_eq!(
                answered(&names(true), name, kind),
                (NXDOMAIN, Vec::new()),
                "{name}"
            );
        }
        assert_eq!(names(true).answer(&ask("example.org", A)), Some(Reply::Elsewhere));
        assert_eq!(answered(&names(false), "example.org", A), (NXDOMAIN, Vec::new()));
    }

    proptest! {
        #[test]
        fn no_query_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = names(true).answer(&bytes);
            let mut query = ask("worker-1", A);
            query.extend(bytes);
            let _ = names(true).answer(&query);
        }
    }
}
