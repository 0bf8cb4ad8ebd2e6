//! What a node's cable tells of its addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Gathered;
use crate::boot::evidence::{self, DhcpMessage, Evidence};
use crate::hypervisor::{Connection, DhcpKind, HypervisorError, Lease, LinkNews, ObjectName, TapEar};

/// An address that goes on being used is told anew after so long.
const AGAIN: Duration = Duration::from_secs(30);

/// A guest that shouts is not written down word by word: more of the same within this is left out.
const ECHO: Duration = Duration::from_millis(500);

/// How many of its different news are remembered.
const REMEMBERED: usize = 256;

/// Opens an ear on the tap of each NIC. None where there is no right to, which is told to the agent's log.
pub(super) async fn ears(
    connection: &Connection,
    domain: &ObjectName,
) -> Result<Vec<TapEar>, HypervisorError> {
    let name = domain.to_string();
    let nics = connection.run(move |connection| connection.nics(&name)).await?;
    let mut ears = Vec::new();
    for nic in nics {
        match TapEar::open(&nic.tap) {
            Ok(ear) => ears.push(ear),
            Err(error) => eprintln!("{domain}: cannot listen on {}: {error}", nic.tap),
        }
    }
    Ok(ears)
}

/// Tells what is heard on one tap about a node: what concerns its MAC addresses, or those who use its addresses.
pub(super) async fn listen(mut ear: TapEar, node: Node, gathered: Gathered) {
    let mut heard = Heard::default();
    // An error: the tap is gone, and the machine with it.
    while let Ok(news) = ear.next().await {
        if !node.concerns(&news) || !heard.is_news(news, Instant::now()) {
            continue;
        }
        if gathered.send(seen(news)).await.is_err() {
            return;
        }
    }
}

/// By what a node is known on its links.
#[derive(Clone, Debug)]
pub(super) struct Node {
    macs: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Node {
    pub fn new(context: &evidence::Context) -> Self {
        Self {
            macs: context.nics.iter().map(|nic| nic.mac.clone()).collect(),
            addresses: context.nics.iter().filter_map(|nic| nic.address).collect(),
        }
    }

    /// Whether a lease is one of its own.
    pub fn holds(&self, lease: &Lease) -> bool {
        self.macs.contains(&lease.mac.to_string())
    }

    fn concerns(&self, news: &LinkNews) -> bool {
        match news {
            LinkNews::Dhcp { mac, .. } => self.macs.contains(&mac.to_string()),
            LinkNews::Neighbour { mac, address } => {
                self.macs.contains(&mac.to_string()) || self.addresses.contains(address)
            }
        }
    }
}

/// When what was heard last.
#[derive(Debug, Default)]
struct Heard(BTreeMap<String, Instant>);

impl Heard {
    fn is_news(&mut self, news: LinkNews, now: Instant) -> bool {
        let patience = match news {
            LinkNews::Dhcp { .. } => ECHO,
            LinkNews::Neighbour { .. } => AGAIN,
        };
        let key = format!("{news:?}");
        if self
            .0
            .get(&key)
            .is_some_and(|before| now.duration_since(*before) < patience)
        {
            return false;
        }
        if self.0.len() >= REMEMBERED && !self.0.contains_key(&key) {
            self.0.retain(|_, before| now.duration_since(*before) < AGAIN);
            if self.0.len() >= REMEMBERED {
                return false;
            }
        }
        self.0.insert(key, now);
        true
    }
}

fn seen(news: LinkNews) -> Evidence {
    match news {
        LinkNews::Dhcp { mac, kind, address } => Evidence::Dhcp {
            mac: mac.to_string(),
            message: match kind {
                DhcpKind::Discover => DhcpMessage::Discover,
                DhcpKind::Offer => DhcpMessage::Offer,
                DhcpKind::Request => DhcpMessage::Request,
                DhcpKind::Ack => DhcpMessage::Ack,
                DhcpKind::Nak => DhcpMessage::Nak,
                DhcpKind::Decline | DhcpKind::Release | DhcpKind::Other => DhcpMessage::Other,
            },
            address: address.map(IpAddr::V4),
        },
        LinkNews::Neighbour { mac, address } => Evidence::Neighbour {
            mac: mac.to_string(),
            address,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::plan::MacAddress;

    fn neighbour(last: u8) -> LinkNews {
        LinkNews::Neighbour {
            mac: MacAddress([0x52, 0x54, 0, 0, 0, 1]),
            address: IpAddr::from([10, 0, last, 1]),
        }
    }

    #[test]
    fn news_are_told_once_in_a_while_and_bounded() {
        let mut heard = Heard::default();
        let now = Instant::now();
        assert!(heard.is_news(neighbour(0), now));
        assert!(!heard.is_news(neighbour(0), now + Duration::from_secs(1)));
        assert!(heard.is_news(neighbour(0), now + AGAIN));
        for last in 1..=255 {
            heard.is_news(neighbour(last), now + AGAIN);
        }
        let other = LinkNews::Dhcp {
            mac: MacAddress([0x52, 0x54, 0, 0, 0, 1]),
            kind: DhcpKind::Discover,
            address: None,
        };
        assert!(!heard.is_news(other, now + AGAIN), "full");
        assert!(heard.is_news(other, now + AGAIN * 2), "forgotten what is old");
        assert!(heard.0.len() < REMEMBERED);
    }

    #[test]
    fn others_on_the_same_network_are_none_of_its_business() {
        let node = Node {
            macs: vec!["52:54:00:00:00:01".to_owned()],
            addresses: vec![IpAddr::from([10, 0, 0, 9])],
        };
        let of = |last, address| LinkNews::Neighbour {
            mac: MacAddress([0x52, 0x54, 0, 0, 0, last]),
            address: IpAddr::from([10, 0, 0, address]),
        };
        assert!(node.concerns(&of(1, 200)), "its MAC, another address");
        assert!(node.concerns(&of(2, 9)), "its address, another MAC");
        assert!(!node.concerns(&of(2, 10)));
    }
}
