//! Datagrams in frames: read, and made.

use std::net::SocketAddrV4;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ETHERNET_HEADER_LEN, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IPV4_HEADER_LEN,
    IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, UDP_HEADER_LEN, UdpPacket, UdpRepr,
};

/// A datagram, whole: none of it in another fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Datagram<'a> {
    pub source_mac: EthernetAddress,
    pub source: SocketAddrV4,
    pub destination: SocketAddrV4,
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// `None` for every other kind of frame.
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        if ethernet.ethertype() != EthernetProtocol::Ipv4 {
            return None;
        }
        let source_mac = ethernet.src_addr();
        let ip = Ipv4Packet::new_checked(frame.get(ETHERNET_HEADER_LEN..)?).ok()?;
        if ip.next_header() != IpProtocol::Udp || ip.more_frags() || ip.frag_offset() != 0 {
            return None;
        }
        let start = ETHERNET_HEADER_LEN + usize::from(ip.header_len());
        let end = ETHERNET_HEADER_LEN + usize::from(ip.total_len());
        let inner = frame.get(start..end)?;
        let udp = UdpPacket::new_checked(inner).ok()?;
        Some(Self {
            source_mac,
            source: SocketAddrV4::new(ip.src_addr(), udp.src_port()),
            destination: SocketAddrV4::new(ip.dst_addr(), udp.dst_port()),
            payload: inner.get(UDP_HEADER_LEN..usize::from(udp.len()))?,
        })
    }
}

/// A frame that holds a datagram. The payload must fit: 65,507 bytes at the most.
pub(super) fn frame(
    from: (EthernetAddress, SocketAddrV4),
    to: (EthernetAddress, SocketAddrV4),
    payload: &[u8],
) -> Vec<u8> {
    let length = UDP_HEADER_LEN + payload.len();
    let mut frame = vec![0; ETHERNET_HEADER_LEN + IPV4_HEADER_LEN + length];
    let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
    EthernetRepr {
        src_addr: from.0,
        dst_addr: to.0,
        ethertype: EthernetProtocol::Ipv4,
    }
    .emit(&mut ethernet);
    let checksums = ChecksumCapabilities::default();
    let mut ip = Ipv4Packet::new_unchecked(ethernet.payload_mut());
    Ipv4Repr {
        src_addr: *from.1.ip(),
        dst_addr: *to.1.ip(),
        next_header: IpProtocol::Udp,
        payload_len: length,
        hop_limit: 64,
    }
    .emit(&mut ip, &checksums);
    let mut udp = UdpPacket::new_unchecked(ip.payload_mut());
    UdpRepr {
        src_port: from.1.port(),
        dst_port: to.1.port(),
    }
    .emit(
        &mut udp,
        &IpAddress::Ipv4(*from.1.ip()),
        &IpAddress::Ipv4(*to.1.ip()),
        payload.len(),
        |place| place.copy_from_slice(payload),
        &checksums,
    );
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_made_is_read(payload in proptest::collection::vec(any::<u8>(), 0..2000), from: (u32, u16), to: (u32, u16)) {
            let (from, to) = (SocketAddrV4::new(from.0.into(), from.1), SocketAddrV4::new(to.0.into(), to.1));
            let mac = EthernetAddress([2, 0, 0, 0, 0, 1]);
            let frame = frame((mac, from), (EthernetAddress::BROADCAST, to), &payload);
            let read = Datagram::parse(&frame).unwrap();
            prop_assert_eq!(read, Datagram { source_mac: mac, source: from, destination: to, payload: &payload });
        }

        #[test]
        fn no_bytes_make_it_panic(frame in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut frame = frame;
            let _ = Datagram::parse(&frame);
            if frame.len() > 34 {
                frame[12..15].copy_from_slice(&[8, 0, 0x45]);
                frame[23] = 17;
                let _ = Datagram::parse(&frame);
            }
        }
    }
}
