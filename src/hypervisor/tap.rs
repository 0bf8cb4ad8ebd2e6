//! Reads along on the host's end of a node's cable: a packet socket (packet(7)) on the tap that libvirt made for a NIC.
//!
//! The kernel filters: of all that goes over the link, the frames of ARP, of DHCP and neighbour advertisements alone are
//! copied. Unsafe is what no crate has a safe form for: the address to bind to, and a socket of this kind in
//! Tokio's hands.
#![allow(unsafe_code)]

use std::io::{self, Read as _};
use std::mem::size_of;

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::frames::{self, LinkNews};

/// An open ear on one tap, frames in both directions. Ends when dropped.
#[derive(Debug)]
pub struct TapEar(AsyncFd<Socket>);

/// `struct sockaddr_ll` of packet(7), as far as bind(2) reads it.
#[repr(C)]
struct LinkAddress {
    family: u16,
    /// Network byte order.
    protocol: u16,
    index: i32,
    hardware: u16,
    kind: u8,
    length: u8,
    address: [u8; 8],
}

const AF_PACKET: u16 = 17;
/// All frames, those that leave included (linux/if_ether.h).
const ETH_P_ALL: u16 = 3;
/// More than the longest message of DHCP that Ethernet carries.
const LONGEST: usize = 2048;

impl TapEar {
    /// Listens on a network interface of this network namespace. To be called on a Tokio runtime.
    ///
    /// # Errors
    /// Where there is no such interface, or the right CAP_NET_RAW is missing.
    pub fn open(interface: &str) -> io::Result<Self> {
        // Protocol 0: nothing is received before it is bound, with the filter in place.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        let index = rustix::net::netdevice::name_to_index(&socket, interface)?;
        socket.set_nonblocking(true)?;
        socket.attach_filter(&filter())?;
        socket.bind(&address(index)?)?;
        // SAFETY: the socket owns its descriptor: it is the same one, and open, until the socket is dropped.
        Ok(Self(unsafe { AsyncFd::register(socket)? }))
    }

    /// The next news. Loses nothing when cancelled.
    ///
    /// # Errors
    /// When the interface is gone.
    pub async fn next(&mut self) -> io::Result<LinkNews> {
        let mut frame = [0; LONGEST];
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|socket| socket.get_ref().read(&mut frame));
            let Ok(length) = read else { continue };
            if let Some(news) = frames::parse(frame.get(..length?).unwrap_or_default()) {
                return Ok(news);
            }
        }
    }
}

fn address(index: u32) -> io::Result<SockAddr> {
    let mut storage = SockAddrStorage::zeroed();
    let index = i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the type is plain numbers, laid out as C does, and smaller than the storage, which is aligned for any
    // address and was zeroed.
    unsafe {
        *storage.view_as::<LinkAddress>() = LinkAddress {
            family: AF_PACKET,
            protocol: ETH_P_ALL.to_be(),
            index,
            hardware: 0,
            kind: 0,
            length: 0,
            address: [0; 8],
        };
    }
    // SAFETY: the storage holds an address of this family and length.
    Ok(unsafe { SockAddr::new(storage, size_of::<LinkAddress>() as u32) })
}

/// Classic BPF (the kernel's Documentation/networking/filter.rst): accepts ARP; UDP from port 67 or 68; ICMPv6 neighbour
/// advertisements. A jump skips so many instructions: the first number where its question is true, else the second.
fn filter() -> [SockFilter; 18] {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF_BEHIND_HEADER: u16 = 0x48;
    const IPV4_HEADER_LENGTH: u16 = 0xb1;
    const IF_EQUAL: u16 = 0x15;
    const IF_GREATER: u16 = 0x25;
    const IF_NOT_LESS: u16 = 0x35;
    const IF_ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    [
        // The frame's type.
        SockFilter::new(LOAD_HALF, 0, 0, 12),
        SockFilter::new(IF_EQUAL, 14, 0, 0x0806),
        SockFilter::new(IF_EQUAL, 0, 4, 0x86dd),
        // IPv6: next header ICMPv6, type advertisement.
        SockFilter::new(LOAD_BYTE, 0, 0, 20),
        SockFilter::new(IF_EQUAL, 0, 12, 58),
        SockFilter::new(LOAD_BYTE, 0, 0, 54),
        SockFilter::new(IF_EQUAL, 9, 10, 136),
        // IPv4: UDP, no later fragment, source port 67 or 68.
        SockFilter::new(IF_EQUAL, 0, 9, 0x0800),
        SockFilter::new(LOAD_BYTE, 0, 0, 23),
        SockFilter::new(IF_EQUAL, 0, 7, 17),
        SockFilter::new(LOAD_HALF, 0, 0, 20),
        SockFilter::new(IF_ANY_BIT, 5, 0, 0x1fff),
        SockFilter::new(IPV4_HEADER_LENGTH, 0, 0, 14),
        SockFilter::new(LOAD_HALF_BEHIND_HEADER, 0, 0, 14),
        SockFilter::new(IF_NOT_LESS, 0, 2, 67),
        SockFilter::new(IF_GREATER, 1, 0, 68),
        SockFilter::new(RETURN, 0, 0, LONGEST as u32),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::frames::tests::{arp_frame, dhcp_frame};
    use super::*;

    /// The loopback interface carries Ethernet frames too, both ways.
    #[tokio::test]
    async fn of_all_frames_those_that_matter_are_heard() {
        let (mouth, mut ear) = match (TapEar::open("lo"), TapEar::open("lo")) {
            (Ok(mouth), Ok(ear)) => (mouth, ear),
            (mouth, _) => {
                eprintln!("skipped: no packet socket here: {:?}", mouth.err());
                return;
            }
        };
        let mut dns = dhcp_frame(1, [0; 4], &[53, 1, 1, 255]);
        dns[14 + 20 + 1] = 53;
        let mut fragment = dhcp_frame(1, [0; 4], &[53, 1, 1, 255]);
        fragment[14 + 7] = 1;
        let lease = dhcp_frame(2, [10, 0, 0, 9], &[53, 1, 5, 255]);
        let neighbour = arp_frame(2, [10, 0, 0, 9]);
        for frame in [&dns, &fragment, &lease, &neighbour] {
            if let Err(error) = mouth.0.get_ref().send(frame) {
                eprintln!("skipped: the loopback interface is down: {error}");
                return;
            }
        }
        let mut wanted = [frames::parse(&lease), frames::parse(&neighbour)]
            .into_iter()
            .flatten();
        let mut next = wanted.next();
        while let Some(news) = next {
            // Each is seen twice: as it leaves, and as it comes back.
            if ear.next().await.unwrap() == news {
                next = wanted.next();
            }
        }
    }

    #[tokio::test]
    async fn an_interface_that_is_not_there_is_an_error() {
        assert!(TapEar::open("no-such-tap").is_err());
    }
}
