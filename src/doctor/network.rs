//! Firewall and DHCP server, tried in a network namespace of their own; and who drops forwarded packets.

use std::time::Duration;

use tokio::process::Command;

use super::{Check, Verdict};
use crate::agent::host::command::{self, Ran};

const LIMIT: Duration = Duration::from_secs(10);

/// What libvirt's NAT networks need of the kernel: a masquerading chain and a filter that rejects.
const TABLE: &str = "table ip libvirt_resource_doctor {\n\
    chain nat { type nat hook postrouting priority 100; ip saddr 192.0.2.0/24 masquerade; }\n\
    chain forward { type filter hook forward priority 0; ct state established accept; ip saddr 192.0.2.0/24 reject; }\n\
    }\n";

pub(super) async fn examine() -> Vec<Check> {
    if !super::privileges::has_bridges() {
        let found = "not needed: the nodes' networks are user-mode here";
        return vec![Check::new("firewall", "firewall (NAT)", Verdict::Skip, found)];
    }
    let (firewall, dnsmasq, forward) = tokio::join!(firewall(), dnsmasq(), forward_policy());
    vec![firewall, dnsmasq, forward]
}

async fn firewall() -> Check {
    let (id, title) = ("firewall", "firewall (NAT)");
    if !super::daemons::may_make_namespaces() {
        let mut list = Command::new("iptables");
        list.args(["-w", "5", "-t", "nat", "-S"]);
        return match command::run(list, "", LIMIT).await {
            Ok(ran) if ran.succeeded() => Check::new(id, title, Verdict::Ok, "iptables lists its NAT rules"),
            Ok(ran) => Check::new(id, title, Verdict::Fail, format!("iptables: {}", ran.failure())),
            Err(error) => Check::new(id, title, Verdict::Fail, format!("iptables: {error}")),
        }
        .cured_by_firewall();
    }
    let ran = apart(&["nft", "-f", "-"], TABLE).await;
    let nft = match &ran {
        Ok(ran) if ran.succeeded() => {
            return Check::new(id, title, Verdict::Ok, "nft makes a table with NAT");
        }
        Ok(ran) => ran.failure(),
        Err(error) => error.to_string(),
    };
    let rule = [
        "iptables",
        "-w",
        "-t",
        "nat",
        "-A",
        "POSTROUTING",
        "-s",
        "192.0.2.0/24",
        "-j",
        "MASQUERADE",
    ];
    match apart(&rule, "").await {
        Ok(ran) if ran.succeeded() => Check::new(
            id,
            title,
            Verdict::Ok,
            format!("iptables makes a NAT rule (nft: {nft})"),
        ),
        Ok(ran) => Check::new(
            id,
            title,
            Verdict::Fail,
            format!("neither nft ({nft}) nor iptables ({}) works", ran.failure()),
        ),
        Err(error) => Check::new(
            id,
            title,
            Verdict::Fail,
            format!("neither nft ({nft}) nor iptables ({error}) works"),
        ),
    }
    .cured_by_firewall()
}

impl Check {
    fn cured_by_firewall(self) -> Self {
        if self.verdict == Verdict::Ok {
            return self;
        }
        self.cured_by(
            "Make the container privileged (`privileged: true`); where it is, load the modules on the worker: `modprobe -a nf_tables nft_chain_nat nft_masq nft_ct nft_reject_ipv4`.",
        )
    }
}

async fn dnsmasq() -> Check {
    let (id, title) = ("dnsmasq", "dnsmasq (DHCP, DNS)");
    let mut command = Command::new("dnsmasq");
    command.args(["--test", "--conf-file=/dev/null"]);
    let usable = match command::run(command, "", LIMIT).await {
        Ok(ran) if ran.succeeded() => Ok(()),
        Ok(ran) => Err(ran.failure()),
        Err(error) => Err(error.to_string()),
    };
    match usable {
        Ok(()) => Check::new(id, title, Verdict::Ok, "runs"),
        Err(reason) => Check::new(id, title, Verdict::Fail, format!("does not run: {reason}"))
            .cured_by("The image lacks dnsmasq-base or a part of it: use the image as it was built."),
    }
}

/// Whether somebody (Docker, mostly) drops forwarded packets in this network namespace.
async fn forward_policy() -> Check {
    let (id, title) = ("forward_policy", "forwarded packets");
    let listed = |program: &'static str, arguments: &'static [&'static str]| async move {
        let mut command = Command::new(program);
        command.args(arguments);
        command::run(command, "", LIMIT)
            .await
            .ok()
            .filter(Ran::succeeded)
            .map(|ran| ran.stdout)
    };
    let (nft, iptables) = tokio::join!(
        listed("nft", &["list", "chains"]),
        listed("iptables", &["-w", "-S", "FORWARD"])
    );
    if nft.is_none() && iptables.is_none() {
        return Check::new(id, title, Verdict::Skip, "the firewall cannot be read");
    }
    let drops = nft.as_deref().is_some_and(nft_drops_forward)
        || iptables.as_deref().is_some_and(iptables_drops_forward);
    if !drops {
        return Check::new(id, title, Verdict::Ok, "not dropped by policy");
    }
    Check::new(id, title, Verdict::Warn, "dropped by policy (Docker sets it): nodes may have no way out").cured_by(
        "Run it in a network namespace of its own (a Concourse container has one; docker run without --network host), or `iptables -I DOCKER-USER -j ACCEPT`.",
    )
}

/// Whether `nft list chains` shows a forward hook whose policy is drop.
fn nft_drops_forward(listing: &str) -> bool {
    listing
        .lines()
        .any(|line| line.contains("hook forward ") && line.contains("policy drop"))
}

/// Whether `iptables -S FORWARD` shows the policy DROP.
fn iptables_drops_forward(listing: &str) -> bool {
    listing.lines().any(|line| line.trim() == "-P FORWARD DROP")
}

/// Runs a program in a network namespace of its own, so that nothing is left of what it makes.
async fn apart(program: &[&str], input: &str) -> std::io::Result<Ran> {
    let mut command = Command::new("unshare");
    command.arg("--net").arg("--").args(program).env("LC_ALL", "C");
    command::run(command, input, LIMIT).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_policy_is_seen() {
        let nft = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n";
        assert!(nft_drops_forward(nft));
        assert!(!nft_drops_forward(&nft.replace("policy drop", "policy accept")));
        assert!(!nft_drops_forward(
            "\t\ttype filter hook input priority filter; policy drop;\n"
        ));
        assert!(iptables_drops_forward(
            "-P FORWARD DROP\n-A FORWARD -j DOCKER-USER\n"
        ));
        assert!(!iptables_drops_forward("-P FORWARD ACCEPT\n-A FORWARD -j DROP\n"));
    }
}
