//! The DHCP server: each NIC of the plan has its address for ever, nobody else has any.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};

use super::fabric::GATEWAY_MAC;
use super::packet::{Datagram, frame};
use crate::topology::model::NetworkKind;
use crate::topology::plan::{Plan, PlannedNetwork};

/// The server's port, and the client's (RFC 2131 §4.1).
pub(super) const SERVER: u16 = 67;
const CLIENT: u16 = 68;

/// A lease without end (RFC 2131 §3.3).
const FOR_EVER: u32 = u32::MAX;

/// Options that smoltcp has no field for (RFC 2132).
const HOST_NAME: u8 = 12;
const DOMAIN_NAME: u8 = 15;
const INTERFACE_MTU: u8 = 26;

/// The addresses of one network.
#[derive(Debug)]
pub(super) struct Dhcp {
    gateway: Ipv4Addr,
    mask: Ipv4Addr,
    mtu: u16,
    domain: String,
    /// Whether it leads outwards.
    router: bool,
    /// Whether it is some node's first: then it tells the name server.
    resolver: bool,
    hosts: HashMap<EthernetAddress, (Ipv4Addr, Option<String>)>,
}

impl Dhcp {
    /// As libvirt's dnsmasq has them on a bridge.
    pub fn new(plan: &Plan, network: &PlannedNetwork) -> Self {
        let mut hosts = HashMap::new();
        let mut resolver = false;
        for node in &plan.nodes {
            let first = node.nics.first().is_some_and(|nic| nic.network == network.name);
            resolver |= first;
            for nic in node.nics.iter().filter(|nic| nic.network == network.name) {
                let name = first.then(|| node.name().to_string());
                hosts.insert(EthernetAddress(nic.mac.0), (nic.address, name));
            }
        }
        Self {
            gateway: network.gateway,
            mask: network.subnet.netmask(),
            mtu: u16::try_from(network.mtu).unwrap_or(u16::MAX),
            domain: plan.dns_domain(),
            router: network.kind == NetworkKind::Nat,
            resolver,
            hosts,
        }
    }

    /// With one host, for [`super::read_frame`].
    pub fn any(gateway: Ipv4Addr) -> Self {
        Self {
            gateway,
            mask: Ipv4Addr::new(255, 255, 255, 0),
            mtu: 1500,
            domain: "test".to_owned(),
            router: true,
            resolver: true,
            hosts: HashMap::from([(
                EthernetAddress([0x52, 0x54, 0, 0, 0, 1]),
                (gateway, Some("a".to_owned())),
            )]),
        }
    }

    /// The frame that answers a message to the server; `None` where there is nothing to say.
    pub fn answer(&self, datagram: &Datagram<'_>) -> Option<Vec<u8>> {
        let packet = DhcpPacket::new_checked(datagram.payload).ok()?;
        let asked = DhcpRepr::parse(&packet).ok()?;
        let (address, name) = self.hosts.get(&asked.client_hardware_address)?;
        if asked
            .server_identifier
            .is_some_and(|server| server != self.gateway)
        {
            return None;
        }
        let wanted = asked
            .requested_ip
            .or(Some(asked.client_ip).filter(|address| !address.is_unspecified()));
        let message_type = match asked.message_type {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            DhcpMessageType::Request if wanted.is_none_or(|wanted| wanted == *address) => {
                DhcpMessageType::Ack
            }
            DhcpMessageType::Request => DhcpMessageType::Nak,
            _ => return None,
        };
        let given = message_type != DhcpMessageType::Nak;
        let mtu = self.mtu.to_be_bytes();
        let mut more = Vec::new();
        if given {
            let option = |kind, data| DhcpOption { kind, data };
            more.push(option(INTERFACE_MTU, mtu.as_slice()));
            more.extend(name.as_ref().map(|name| option(HOST_NAME, name.as_bytes())));
            if self.resolver {
                more.push(option(DOMAIN_NAME, self.domain.as_bytes()));
            }
        }
        let answer = DhcpRepr {
            message_type,
            transaction_id: asked.transaction_id,
            secs: 0,
            client_hardware_address: asked.client_hardware_address,
            client_ip: if given {
                asked.client_ip
            } else {
                Ipv4Addr::UNSPECIFIED
            },
            your_ip: if given { *address } else { Ipv4Addr::UNSPECIFIED },
            server_ip: self.gateway,
            router: (given && self.router).then_some(self.gateway),
            subnet_mask: given.then_some(self.mask),
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: asked.broadcast,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(self.gateway),
            parameter_request_list: None,
            dns_servers: (given && self.resolver).then(|| [self.gateway].into_iter().collect()),
            max_size: None,
            lease_duration: given.then_some(FOR_EVER),
            renew_duration: None,
            rebind_duration: None,
            additional_options: &more,
        };
        let mut payload = vec![0; answer.buffer_len()];
        answer
            .emit(&mut DhcpPacket::new_unchecked(&mut payload[..]))
            .ok()?;
        // A client that has no address yet may only hear what is meant for all (RFC 2131 §4.1).
        let to = if asked.broadcast || !given {
            (
                EthernetAddress::BROADCAST,
                SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT),
            )
        } else {
            (asked.client_hardware_address, SocketAddrV4::new(*address, CLIENT))
        };
        let from = (GATEWAY_MAC, SocketAddrV4::new(self.gateway, SERVER));
        Some(frame(from, to, &payload))
    }
}
