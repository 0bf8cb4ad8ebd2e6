//! What the frames on a link tell of its nodes' addresses: DHCP (RFC 2131), ARP (RFC 826), neighbour advertisements
//! (RFC 4861).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::topology::plan::MacAddress;

/// One frame, as far as it tells of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkNews {
    /// A DHCP message.
    Dhcp {
        /// The client that it is from, or for.
        mac: MacAddress,
        /// Which.
        kind: DhcpKind,
        /// The address asked for, offered or given.
        address: Option<Ipv4Addr>,
    },
    /// Somebody has the address: it answered for it, or used it.
    Neighbour {
        /// Who.
        mac: MacAddress,
        /// The address.
        address: IpAddr,
    },
}

/// The messages of DHCP (RFC 2132, 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DhcpKind {
    /// A client looks for a server.
    Discover,
    /// A server offers an address.
    Offer,
    /// A client asks for it.
    Request,
    /// A client found the address in use.
    Decline,
    /// The server gives it.
    Ack,
    /// The server refuses.
    Nak,
    /// A client gives it back.
    Release,
    /// Any other.
    Other,
}

/// Reads an Ethernet frame; `None` where it tells nothing of addresses, or is none.
pub fn parse(frame: &[u8]) -> Option<LinkNews> {
    let kind = be16(frame, 12)?;
    let packet = frame.get(14..)?;
    match kind {
        0x0806 => arp(packet),
        0x0800 => ipv4(packet),
        0x86dd => ipv6(packet),
        _ => None,
    }
}

fn arp(packet: &[u8]) -> Option<LinkNews> {
    // Ethernet, IPv4, addresses of 6 and 4 bytes, a request or an answer: both tell the sender's.
    let ours = packet.starts_with(&[0, 1, 8, 0, 6, 4, 0]) && matches!(packet.get(7), Some(1 | 2));
    let (mac, address) = (mac(packet, 8)?, ip(packet, 14)?);
    // A probe for an address that is not taken yet (RFC 5227) names none.
    (ours && usable(address)).then_some(LinkNews::Neighbour {
        mac,
        address: IpAddr::V4(address),
    })
}

fn ipv4(packet: &[u8]) -> Option<LinkNews> {
    let first = *packet.first()?;
    let header = usize::from(first & 0xf) * 4;
    let later_fragment = be16(packet, 6)? & 0x1fff != 0;
    if first >> 4 != 4 || header < 20 || later_fragment || packet.get(9) != Some(&17) {
        return None;
    }
    let udp = packet.get(header..)?;
    let ports = (be16(udp, 0)?, be16(udp, 2)?);
    match ports {
        (67 | 68, 67 | 68) => dhcp(udp.get(8..)?),
        _ => None,
    }
}

fn dhcp(message: &[u8]) -> Option<LinkNews> {
    // Of or to a client with an Ethernet address; the magic cookie tells DHCP from BOOTP.
    let ethernet = matches!(message, [1 | 2, 1, 6, ..]);
    if !ethernet || message.get(236..240) != Some(&[0x63, 0x82, 0x53, 0x63]) {
        return None;
    }
    let (mut kind, mut wanted) = (None, None);
    let mut options = message.get(240..)?;
    while let Some((&code, rest)) = options.split_first() {
        match code {
            0 => options = rest,
            255 => break,
            _ => {
                let (&length, rest) = rest.split_first()?;
                let (value, rest) = rest.split_at_checked(usize::from(length))?;
                match (code, value) {
                    (53, [number]) => kind = Some(*number),
                    (50, value) => wanted = ip(value, 0).filter(|_| value.len() == 4),
                    _ => {}
                }
                options = rest;
            }
        }
    }
    let kind = match kind? {
        1 => DhcpKind::Discover,
        2 => DhcpKind::Offer,
        3 => DhcpKind::Request,
        4 => DhcpKind::Decline,
        5 => DhcpKind::Ack,
        6 => DhcpKind::Nak,
        7 => DhcpKind::Release,
        _ => DhcpKind::Other,
    };
    let [client, yours] = [ip(message, 12)?, ip(message, 16)?];
    let address = [Some(yours), wanted, Some(client)];
    Some(LinkNews::Dhcp {
        mac: mac(message, 28)?,
        kind,
        address: address.into_iter().flatten().find(|address| usable(*address)),
    })
}

fn ipv6(packet: &[u8]) -> Option<LinkNews> {
    // ICMPv6 right behind the header; an advertisement's target and its option 2 (RFC 4861, 4.4 and 4.6.1).
    let advertisement = packet.get(6) == Some(&58) && packet.get(40) == Some(&136);
    let target: [u8; 16] = packet.get(48..64)?.try_into().ok()?;
    let option = packet.get(64..72)?;
    (advertisement && option.starts_with(&[2, 1])).then_some(LinkNews::Neighbour {
        mac: mac(option, 2)?,
        address: IpAddr::V6(Ipv6Addr::from(target)),
    })
}

fn usable(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_broadcast()
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn ip(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets))
}

fn mac(bytes: &[u8], at: usize) -> Option<MacAddress> {
    Some(MacAddress(bytes.get(at..at + 6)?.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODE: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    fn frame(kind: u16, packet: &[u8]) -> Vec<u8> {
        [&[0xff; 6][..], &NODE, &kind.to_be_bytes(), packet].concat()
    }

    pub(in super::super) fn arp_frame(operation: u8, sender: [u8; 4]) -> Vec<u8> {
        let packet = [
            &[0, 1, 8, 0, 6, 4, 0, operation][..],
            &NODE,
            &sender,
            &[0; 6],
            &[10, 0, 0, 1],
        ]
        .concat();
        frame(0x0806, &packet)
    }

    /// `yours` is yiaddr; the options come after the cookie as they are.
    pub(in super::super) fn dhcp_frame(operation: u8, yours: [u8; 4], options: &[u8]) -> Vec<u8> {
        let mut message = vec![0; 236];
        message[..4].copy_from_slice(&[operation, 1, 6, 0]);
        message[16..20].copy_from_slice(&yours);
        message[28..34].copy_from_slice(&NODE);
        message.extend([0x63, 0x82, 0x53, 0x63]);
        message.extend(options);
        let (from, to) = if operation == 1 { (68u16, 67u16) } else { (67, 68) };
        let length = message.len() as u16 + 8;
        let udp = [
            &from.to_be_bytes()[..],
            &to.to_be_bytes(),
            &length.to_be_bytes(),
            &[0, 0],
            &message,
        ]
        .concat();
        let mut header = vec![
            0x45, 0x10, 0, 0, 0, 0, 0, 0, 128, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255,
        ];
        header[2..4].copy_from_slice(&(length + 20).to_be_bytes());
        frame(0x0800, &[header, udp].concat())
    }

    fn dhcp_news(kind: DhcpKind, address: Option<[u8; 4]>) -> Option<LinkNews> {
        Some(LinkNews::Dhcp {
            mac: MacAddress(NODE),
            kind,
            address: address.map(Ipv4Addr::from),
        })
    }

    #[test]
    fn the_four_steps_of_a_lease() {
        let address = [10, 8, 0, 11];
        assert_eq!(
            parse(&dhcp_frame(1, [0; 4], &[53, 1, 1, 255])),
            dhcp_news(DhcpKind::Discover, None)
        );
        assert_eq!(
            parse(&dhcp_frame(2, address, &[53, 1, 2, 255])),
            dhcp_news(DhcpKind::Offer, Some(address))
        );
        let request = [
            0, 0, 12, 2, b'a', b'b', 53, 1, 3, 50, 4, 10, 8, 0, 11, 255, 1, 2, 3,
        ];
        assert_eq!(
            parse(&dhcp_frame(1, [0; 4], &request)),
            dhcp_news(DhcpKind::Request, Some(address))
        );
        assert_eq!(
            parse(&dhcp_frame(2, address, &[53, 1, 5])),
            dhcp_news(DhcpKind::Ack, Some(address))
        );
        assert_eq!(
            parse(&dhcp_frame(2, [0; 4], &[53, 1, 6, 255])),
            dhcp_news(DhcpKind::Nak, None)
        );
        assert_eq!(
            parse(&dhcp_frame(1, [0; 4], &[53, 1, 99, 255])),
            dhcp_news(DhcpKind::Other, None)
        );
    }

    #[test]
    fn what_is_no_dhcp_is_none() {
        assert_eq!(parse(&dhcp_frame(1, [0; 4], &[255])), None, "BOOTP");
        assert_eq!(parse(&dhcp_frame(1, [0; 4], &[53, 9, 1])), None, "cut off");
        let mut frame = dhcp_frame(1, [0; 4], &[53, 1, 1, 255]);
        frame[14 + 20 + 3] = 53;
        assert_eq!(parse(&frame), None, "another port");
        let mut frame = dhcp_frame(1, [0; 4], &[53, 1, 1, 255]);
        frame[14 + 7] = 1;
        assert_eq!(parse(&frame), None, "a later fragment");
        let mut frame = dhcp_frame(1, [0; 4], &[53, 1, 1, 255]);
        frame[14 + 20 + 8 + 236] = 0;
        assert_eq!(parse(&frame), None, "no cookie");
    }

    #[test]
    fn whoever_speaks_by_arp_has_its_address() {
        let has = Some(LinkNews::Neighbour {
            mac: MacAddress(NODE),
            address: IpAddr::from([10, 0, 0, 7]),
        });
        assert_eq!(parse(&arp_frame(2, [10, 0, 0, 7])), has);
        assert_eq!(parse(&arp_frame(1, [10, 0, 0, 7])), has);
        assert_eq!(parse(&arp_frame(1, [0; 4])), None, "a probe");
        assert_eq!(parse(&arp_frame(3, [10, 0, 0, 7])), None, "reverse ARP");
    }

    #[test]
    fn a_neighbour_advertisement_is_read() {
        let target: Ipv6Addr = "fe80::5054:ff:fe12:3456".parse().unwrap();
        let mut packet = vec![0x60, 0, 0, 0, 0, 32, 58, 255];
        packet.extend([0; 32]);
        packet.extend([136, 0, 0, 0, 0x60, 0, 0, 0]);
        packet.extend(target.octets());
        packet.extend([2, 1]);
        packet.extend(NODE);
        let news = LinkNews::Neighbour {
            mac: MacAddress(NODE),
            address: IpAddr::V6(target),
        };
        assert_eq!(parse(&frame(0x86dd, &packet)), Some(news));
        assert_eq!(parse(&frame(0x86dd, &packet[..packet.len() - 1])), None);
        packet[40] = 135;
        assert_eq!(parse(&frame(0x86dd, &packet)), None, "a solicitation");
    }

    proptest! {
        #[test]
        fn no_frame_is_a_panic(
            frame in prop::collection::vec(any::<u8>(), 0..400),
            kind in prop_oneof![Just(0x0806u16), Just(0x0800), Just(0x86dd), any::<u16>()],
        ) {
            let mut frame = frame;
            if let Some(place) = frame.get_mut(12..14) {
                place.copy_from_slice(&kind.to_be_bytes());
            }
            let _ = parse(&frame);
        }

        #[test]
        fn damaged_messages_are_no_panic(
            options in prop::collection::vec(any::<u8>(), 0..80),
            at in 0usize..360,
            byte: u8,
            length in 0usize..400,
        ) {
            let mut frame = dhcp_frame(2, [10, 0, 0, 9], &options);
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
            frame.truncate(length);
            let _ = parse(&frame);
        }

        #[test]
        fn options_in_any_order_tell_the_same(
            before in prop::collection::vec((1u8..50, prop::collection::vec(any::<u8>(), 0..20)), 0..6),
            wanted in any::<[u8; 4]>(),
        ) {
            let mut options = Vec::new();
            for (code, value) in &before {
                options.push(*code);
                options.push(value.len() as u8);
                options.extend(value);
            }
            options.extend([50, 4]);
            options.extend(wanted);
            options.extend([53, 1, 3, 255]);
            let address = Some(wanted).filter(|wanted| usable(Ipv4Addr::from(*wanted)));
            prop_assert_eq!(parse(&dhcp_frame(1, [0; 4], &options)), dhcp_news(DhcpKind::Request, address));
        }
    }
}
