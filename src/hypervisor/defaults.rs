//! What programs on top of libvirt expect to be there: a network and a storage pool, both called `default`.

use ipnet::Ipv4Net;

use super::connection::Connection;
use super::error::{Action, HypervisorError, Thing};
use super::text::Text;

/// The name of both.
const DEFAULT: &str = "default";

impl Connection {
    /// Defines and starts the network `default`: NAT, its bridge `virbr0`, addresses by DHCP. Blocks.
    pub fn define_default_network(&self, subnet: Ipv4Net) -> Result<(), HypervisorError> {
        let made = || {
            let network = self.connect().define_network_xml(&network_xml(subnet))?;
            network.set_autostart(true)?;
            network.create().map(drop)
        };
        made()
            .map_err(|error| HypervisorError::refused(Action::Create, Thing::Network(DEFAULT.into()), error))
    }

    /// Defines and starts the pool `default`, the files of a directory. Blocks.
    pub fn define_default_pool(&self, directory: &str) -> Result<(), HypervisorError> {
        let path = Text::new(directory);
        let xml = format!(
            "<pool type='dir'><name>{DEFAULT}</name><target><path>{}</path></target></pool>",
            quick_xml::escape::escape(path.as_str())
        );
        let made = || {
            let pool = self.connect().define_storage_pool_xml(&xml, 0)?;
            pool.set_autostart(true)?;
            pool.create(0).map(drop)
        };
        made().map_err(|error| HypervisorError::refused(Action::Create, Thing::Pool(DEFAULT.into()), error))
    }

    /// Cuts every machine's power and takes every network down, its bridge and firewall rules with it. Blocks.
    pub fn end_everything(&self) -> Result<(), HypervisorError> {
        for domain in self.domains()? {
            self.destroy_domain(&domain.name)?;
        }
        for network in self.networks()? {
            self.destroy_network(&network)?;
        }
        Ok(())
    }
}

/// From the second address on: the first is the bridge's.
fn network_xml(subnet: Ipv4Net) -> String {
    let mut hosts = subnet.hosts();
    let gateway = hosts.next().unwrap_or(subnet.addr());
    let first = hosts.next().unwrap_or(gateway);
    let last = hosts.last().unwrap_or(first);
    format!(
        "<network><name>{DEFAULT}</name><forward mode='nat'/><bridge name='virbr0' stp='off' delay='0'/>\
         <ip address='{gateway}' netmask='{}'><dhcp><range start='{first}' end='{last}'/></dhcp></ip></network>",
        subnet.netmask()
    )
}
