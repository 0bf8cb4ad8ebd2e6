//! TCP to the outside: a node's connection is accepted once this process has one to the same end, and refused where it gets none.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use ipnet::Ipv4Net;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, TcpPacket};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::core::Input;

/// How long the other end may take to accept; a node itself gives up after two minutes or so.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many there are at once; each is a file.
const AT_ONCE: usize = 1024;

/// Both ends of a connection, the node's first.
pub(super) type Flow = (SocketAddrV4, SocketAddrV4);

/// What a frame to the gateway is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matter {
    /// ARP, or something that the stack knows what to do with.
    Own,
    /// A segment of TCP; whether it opens a connection.
    Tcp { flow: Flow, opens: bool },
    /// Anything else over IPv4, to that address.
    Other(Ipv4Addr),
}

impl Matter {
    pub fn of(frame: &[u8]) -> Option<Self> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        match ethernet.ethertype() {
            EthernetProtocol::Arp => return Some(Self::Own),
            EthernetProtocol::Ipv4 => {}
            _ => return None,
        }
        let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
        if ip.next_header() != IpProtocol::Tcp || ip.frag_offset() != 0 {
            return Some(Self::Other(ip.dst_addr()));
        }
        let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
        Some(Self::Tcp {
            flow: (
                SocketAddrV4::new(ip.src_addr(), tcp.src_port()),
                SocketAddrV4::new(ip.dst_addr(), tcp.dst_port()),
            ),
            opens: tcp.syn() && !tcp.ack(),
        })
    }
}

/// Where nodes may go through the gateway.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Whether anywhere at all.
    pub outward: bool,
    /// The cluster's own networks: from one of them to another there is no way, as with libvirt's networks.
    pub own: Vec<Ipv4Net>,
}

impl Bounds {
    /// Not to this container's loopback, nor to many at once.
    pub fn allow(&self, to: Ipv4Addr) -> bool {
        self.outward
            && !to.is_loopback()
            && !to.is_unspecified()
            && !to.is_multicast()
            && !to.is_broadcast()
            && !self.own.iter().any(|net| net.contains(&to))
    }
}

/// What to do with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// The stack has a connection for it, or refuses it.
    Pass,
    /// It waits for the other end, or is one too many.
    Drop,
}

/// Connections outwards that are being opened or stand.
#[derive(Debug, Default)]
pub(super) struct Outward {
    flows: HashMap<Flow, bool>,
    tasks: JoinSet<()>,
}

impl Outward {
    /// Begins to open a connection where the segment asks for one that there is not. `real` is where it leads.
    pub fn take(
        &mut self,
        flow: Flow,
        opens: bool,
        real: SocketAddrV4,
        frame: &[u8],
        core: &mpsc::Sender<Input>,
    ) -> Segment {
        while self.tasks.try_join_next().is_some() {}
        match self.flows.get(&flow) {
            Some(true) => return Segment::Pass,
            Some(false) => return Segment::Drop,
            None if !opens => return Segment::Pass,
            None if self.flows.len() >= AT_ONCE => return Segment::Drop,
            None => {}
        }
        self.flows.insert(flow, false);
        let (syn, core) = (frame.to_vec(), core.clone());
        self.tasks.spawn(async move {
            let stream = match tokio::time::timeout(PATIENCE, TcpStream::connect(real)).await {
                Ok(Ok(stream)) => Some(stream),
                _ => None,
            };
            let _ = core.send(Input::Outward { flow, syn, stream }).await;
        });
        Segment::Drop
    }

    /// The other end has accepted.
    pub fn stands(&mut self, flow: Flow) {
        self.flows.insert(flow, true);
    }

    /// It is over.
    pub fn forget(&mut self, flow: &Flow) {
        self.flows.remove(flow);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neither_the_container_itself_nor_another_network_of_the_cluster() {
        let bounds = Bounds {
            outward: true,
            own: vec!["10.9.0.0/24".parse().unwrap()],
        };
        for address in ["127.0.0.1", "10.9.0.5", "224.0.0.1", "255.255.255.255", "0.0.0.0"] {
            assert!(!bounds.allow(address.parse().unwrap()), "{address}");
        }
        assert!(bounds.allow("10.80.0.1".parse().unwrap()));
        let isolated = Bounds {
            outward: false,
            ..bounds
        };
        assert!(!isolated.allow("10.80.0.1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic(frame in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut frame = frame;
            let _ = Matter::of(&frame);
            if frame.len() > 34 {
                frame[12..15].copy_from_slice(&[8, 0, 0x45]);
                frame[23] = 6;
                let _ = Matter::of(&frame);
            }
        }
    }
}
