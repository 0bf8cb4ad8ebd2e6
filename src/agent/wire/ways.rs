//! The way to a node: through the bridge of its network and no other, or through the switch that the agent is itself.
//!
//! While a bridge is not up yet, or no longer, its subnet is somewhere on the far side of the container's own default
//! route: the worker's network may well have the same one. A connection that is bound to the bridge goes to a node or
//! nowhere.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use ipnet::Ipv4Net;
use tokio::net::{TcpSocket, TcpStream};

use crate::agent::switch::{Line, Switches};
use crate::topology::plan::Plan;

/// How long a node may take to accept. One that is not up yet does not answer at all, and whoever asks tries again.
const CONNECT: Duration = Duration::from_secs(5);

/// The networks of a cluster, as the agent reaches them.
#[derive(Clone, Debug)]
pub struct Ways(Vec<Way>);

#[derive(Clone, Debug)]
struct Way {
    subnet: Ipv4Net,
    gateway: Ipv4Addr,
    through: Through,
}

#[derive(Clone, Debug)]
enum Through {
    Bridge(String),
    Switch(Line),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    /// The address is no node's: of another network, or the agent's own.
    #[error("that address is in none of the cluster's networks")]
    NotAllowed,
    /// The node is up, and nothing listens at that port.
    #[error("the node refuses the connection")]
    Refused,
    /// No answer in time, or the system has no way there.
    #[error("the node does not answer")]
    Silent,
}

impl Ways {
    /// To the networks of a plan.
    pub fn new(plan: &Plan) -> Self {
        let ways = plan.networks.iter().map(|network| Way {
            subnet: network.subnet,
            gateway: network.gateway,
            through: Through::Bridge(network.bridge.clone()),
        });
        Self(ways.collect())
    }

    /// To the networks of a plan of which the agent is the switch.
    pub fn through(switches: &Switches, plan: &Plan) -> Self {
        let ways = plan.networks.iter().filter_map(|network| {
            Some(Way {
                subnet: network.subnet,
                gateway: network.gateway,
                through: Through::Switch(switches.line(&network.name)?),
            })
        });
        Self(ways.collect())
    }

    /// The network that an address is in, where a node may have it: not the bridge's own address, behind which is the
    /// container with its agent, nor those that address all nodes at once.
    fn to(&self, address: Ipv4Addr) -> Option<&Way> {
        self.0.iter().find(|way| {
            way.subnet.contains(&address)
                && address != way.gateway
                && address != way.subnet.network()
                && address != way.subnet.broadcast()
        })
    }

    /// Whether an address could be a node's.
    pub fn lead_to(&self, address: Ipv4Addr) -> bool {
        self.to(address).is_some()
    }

    /// Connects to a node, or gives up.
    pub async fn connect(&self, to: SocketAddrV4) -> Result<TcpStream, Unreached> {
        let way = self.to(*to.ip()).ok_or(Unreached::NotAllowed)?;
        let connection = async {
            match &way.through {
                Through::Bridge(bridge) => {
                    let socket = TcpSocket::new_v4()?;
                    socket.bind_device(Some(bridge.as_bytes()))?;
                    socket.set_nodelay(true)?;
                    socket.connect(to.into()).await
                }
                Through::Switch(line) => line.connect(to).await,
            }
        };
        match tokio::time::timeout(CONNECT, connection).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Unreached::Refused),
            _ => Err(Unreached::Silent),
        }
    }

    /// Connects to a node for the agent itself, which knows that the networks are up: without a limit, and with the
    /// system's own word where there is no connection.
    pub async fn reach(&self, to: SocketAddrV4) -> io::Result<TcpStream> {
        match self.to(*to.ip()).map(|way| &way.through) {
            Some(Through::Switch(line)) => line.connect(to).await,
            _ => TcpStream::connect(to).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ways() -> Ways {
        Ways(vec![Way {
            subnet: "10.9.0.0/24".parse().unwrap(),
            gateway: Ipv4Addr::new(10, 9, 0, 1),
            through: Through::Bridge("none-such".to_owned()),
        }])
    }

    #[test]
    fn what_is_never_a_node() {
        for address in [
            "10.9.0.0",
            "10.9.0.1",
            "10.9.0.255",
            "10.9.1.2",
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "10.80.0.7",
        ] {
            assert!(!ways().lead_to(address.parse().unwrap()), "{address}");
        }
        assert!(ways().lead_to(Ipv4Addr::new(10, 9, 0, 2)));
    }

    #[tokio::test]
    async fn a_bridge_that_is_not_there_leads_nowhere() {
        let to = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 2), 22);
        assert!(matches!(ways().connect(to).await, Err(Unreached::Silent)));
    }

    proptest! {
        #[test]
        fn nothing_outside_the_subnets_is_led_to(address: u32) {
            let address = Ipv4Addr::from(address);
            prop_assert!(!ways().lead_to(address) || address.octets()[..3] == [10, 9, 0]);
        }
    }
}
