//! UDP to the outside: a socket for each pair of ends, which is closed when neither has said anything for a while.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use smoltcp::wire::EthernetAddress;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::core::Input;
use super::fabric::GATEWAY_MAC;
use super::packet::{Datagram, frame};

/// As long as common routers remember one (RFC 4787 §4.3 asks for 2 minutes at the least).
const SILENCE: Duration = Duration::from_secs(120);

/// How many there are at once; each is a file.
const AT_ONCE: usize = 512;

/// Datagrams that wait for their socket.
const QUEUE: usize = 64;

/// The greatest that fits into a frame of the usual size; a larger answer is lost, as on a network without fragments.
const LARGEST: usize = 65_507;

/// The pairs: a node's end, and the one that it speaks to.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    flows: HashMap<(SocketAddrV4, SocketAddrV4), mpsc::Sender<Vec<u8>>>,
    tasks: JoinSet<()>,
}

impl Datagrams {
    /// Passes one on to `real`, from which answers seem to come from where the node has sent it.
    pub fn send(&mut self, datagram: &Datagram<'_>, real: SocketAddrV4, core: &mpsc::Sender<Input>) {
        while self.tasks.try_join_next().is_some() {}
        let flow = (datagram.source, datagram.destination);
        self.flows.retain(|_, sender| !sender.is_closed());
        if !self.flows.contains_key(&flow) {
            if self.flows.len() >= AT_ONCE {
                return;
            }
            let (sender, queue) = mpsc::channel(QUEUE);
            self.flows.insert(flow, sender);
            let (mac, core) = (datagram.source_mac, core.clone());
            self.tasks.spawn(async move {
                // A socket that fails is like a network that loses packets.
                let _ = carry(mac, flow, real, queue, core).await;
            });
        }
        if let Some(sender) = self.flows.get(&flow) {
            let _ = sender.try_send(datagram.payload.to_vec());
        }
    }
}

async fn carry(
    mac: EthernetAddress,
    (node, seen): (SocketAddrV4, SocketAddrV4),
    real: SocketAddrV4,
    mut queue: mpsc::Receiver<Vec<u8>>,
    core: mpsc::Sender<Input>,
) -> std::io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(real).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let next = async {
            tokio::select! {
                payload = queue.recv() => match payload {
                    Some(payload) => socket.send(&payload).await.map(|_| true),
                    None => Ok(false),
                },
                received = socket.recv(&mut buffer) => {
                    let payload = &buffer[..received?];
                    let frame = frame((GATEWAY_MAC, seen), (mac, node), payload);
                    Ok(core.send(Input::FromGateway(frame)).await.is_ok())
                }
            }
        };
        match tokio::time::timeout(SILENCE, next).await {
            Ok(Ok(true)) => {}
            // Nobody listens there just now (ICMP): the node finds out by itself.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            Ok(Err(error)) => return Err(error),
            Ok(Ok(false)) | Err(_) => return Ok(()),
        }
    }
}
