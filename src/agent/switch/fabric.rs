//! Where a frame goes: a switch that learns.

use std::collections::HashMap;

use smoltcp::wire::{ArpPacket, EthernetAddress, EthernetFrame, EthernetProtocol};
use std::net::Ipv4Addr;

/// The gateway's own address on each network; never seen outside.
pub(super) const GATEWAY_MAC: EthernetAddress = EthernetAddress([0x52, 0x55, 0x6c, 0x76, 0x72, 0x01]);

/// A guest may make up as many addresses as it likes; no more than this are remembered.
const REMEMBERED: usize = 1024;

/// The course of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// To the gateway.
    Gateway,
    /// To one NIC.
    Port(usize),
    /// To all but the one that it came from.
    Flood,
    /// Nowhere: it is none, or its receiver is where it came from.
    Nowhere,
}

/// Which address was seen at which port.
#[derive(Debug)]
pub(super) struct Fabric {
    gateway: Ipv4Addr,
    seen: HashMap<EthernetAddress, usize>,
}

impl Fabric {
    pub fn new(gateway: Ipv4Addr) -> Self {
        Self {
            gateway,
            seen: HashMap::new(),
        }
    }

    /// `from` is `None` for what the gateway sends.
    pub fn course(&mut self, from: Option<usize>, frame: &[u8]) -> Course {
        let Ok(frame) = EthernetFrame::new_checked(frame) else {
            return Course::Nowhere;
        };
        let (source, destination) = (frame.src_addr(), frame.dst_addr());
        if let Some(port) = from {
            if source == GATEWAY_MAC {
                return Course::Nowhere;
            }
            if source.is_unicast() && (self.seen.len() < REMEMBERED || self.seen.contains_key(&source)) {
                self.seen.insert(source, port);
            }
            if destination == GATEWAY_MAC || self.asks_for_gateway(&frame) {
                return Course::Gateway;
            }
        }
        match self.seen.get(&destination) {
            Some(port) if Some(*port) == from => Course::Nowhere,
            Some(port) => Course::Port(*port),
            None => Course::Flood,
        }
    }

    /// Forgets who was at a port.
    pub fn unplug(&mut self, port: usize) {
        self.seen.retain(|_, at| *at != port);
    }

    fn asks_for_gateway(&self, frame: &EthernetFrame<&[u8]>) -> bool {
        frame.ethertype() == EthernetProtocol::Arp
            && ArpPacket::new_checked(frame.payload())
                .is_ok_and(|arp| arp.target_protocol_addr() == self.gateway.octets())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(from: u8, to: u8) -> Vec<u8> {
        let mut frame = vec![0x52, 0x54, 0, 0, 0, to, 0x52, 0x54, 0, 0, 0, from, 0x08, 0];
        frame.resize(60, 0);
        frame
    }

    #[test]
    fn it_learns_and_forgets() {
        let mut fabric = Fabric::new(Ipv4Addr::new(10, 9, 0, 1));
        assert_eq!(fabric.course(Some(0), &frame(1, 2)), Course::Flood);
        assert_eq!(fabric.course(Some(1), &frame(2, 1)), Course::Port(0));
        assert_eq!(fabric.course(Some(0), &frame(1, 2)), Course::Port(1));
        assert_eq!(fabric.course(Some(1), &frame(3, 2)), Course::Nowhere);
        fabric.unplug(1);
        assert_eq!(fabric.course(Some(0), &frame(1, 2)), Course::Flood);
    }

    #[test]
    fn nobody_takes_the_gateways_place() {
        let mut fabric = Fabric::new(Ipv4Addr::new(10, 9, 0, 1));
        let mut false_one = frame(1, 2);
        false_one[6..12].copy_from_slice(GATEWAY_MAC.as_bytes());
        assert_eq!(fabric.course(Some(0), &false_one), Course::Nowhere);
        let mut to_it = frame(1, 2);
        to_it[..6].copy_from_slice(GATEWAY_MAC.as_bytes());
        assert_eq!(fabric.course(Some(0), &to_it), Course::Gateway);
    }

    proptest! {
        #[test]
        fn no_frame_makes_it_panic_or_comes_back(frames in proptest::collection::vec((0usize..4, proptest::collection::vec(any::<u8>(), 0..60)), 0..40)) {
            let mut fabric = Fabric::new(Ipv4Addr::new(10, 9, 0, 1));
            for (port, frame) in frames {
                prop_assert_ne!(fabric.course(Some(port), &frame), Course::Port(port));
            }
        }
    }
}
