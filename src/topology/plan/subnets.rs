//! Which subnets are free.

use std::net::Ipv4Addr;
use std::ops::Range;

use ipnet::Ipv4Net;
use rand::Rng;

/// Whether two subnets share an address.
pub fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// Nodes get their addresses from here on, so that a person sees at a glance what is a node's.
const FIRST: u64 = 11;

/// In a subnet too small for that, right after the gateway.
const FIRST_IN_SMALL: u64 = 2;

/// How many nodes have room in a subnet beside its gateway.
pub fn room(subnet: Ipv4Net) -> u64 {
    // Neither the network's own address nor the broadcast address nor the gateway is a node's.
    (1u64 << (32 - subnet.prefix_len())).saturating_sub(3)
}

/// The subnet's address with that number: 0 is the network's own. `None` where it lies outside.
fn numbered(subnet: Ipv4Net, number: u64) -> Option<Ipv4Addr> {
    let number = u32::try_from(number).ok()?;
    let address = u32::from(subnet.network())
        .checked_add(number)
        .map(Ipv4Addr::from)?;
    subnet.contains(&address).then_some(address)
}

/// The bridge's own address.
pub fn gateway(subnet: Ipv4Net) -> Option<Ipv4Addr> {
    numbered(subnet, 1)
}

/// The addresses of so many nodes, in order: `.11` and on, or `.2` and on where that would not fit.
pub fn addresses(subnet: Ipv4Net, nodes: u64) -> Option<Vec<Ipv4Addr>> {
    if nodes > room(subnet) {
        return None;
    }
    let last = room(subnet) + 1;
    let first = if FIRST + nodes.saturating_sub(1) <= last {
        FIRST
    } else {
        FIRST_IN_SMALL
    };
    (first..first + nodes)
        .map(|number| numbered(subnet, number))
        .collect()
}

/// What software that runs on nodes and beside them commonly takes: Flannel's and kubeadm's pods, kubeadm's services, K3s'
/// pods and services, Docker's bridge, Concourse's containers.
const COMMON: [(Ipv4Addr, u8); 6] = [
    (Ipv4Addr::new(10, 244, 0, 0), 16),
    (Ipv4Addr::new(10, 96, 0, 0), 12),
    (Ipv4Addr::new(10, 42, 0, 0), 16),
    (Ipv4Addr::new(10, 43, 0, 0), 16),
    (Ipv4Addr::new(172, 17, 0, 0), 16),
    (Ipv4Addr::new(10, 80, 0, 0), 16),
];

/// The usual pod and service ranges, which `auto` leaves alone although no route leads to them yet.
pub fn common() -> impl Iterator<Item = Ipv4Net> {
    COMMON
        .into_iter()
        .filter_map(|(address, prefix)| Ipv4Net::new(address, prefix).ok())
}

/// Where `auto` looks, the widest first (RFC 1918).
const POOLS: [(Ipv4Addr, u8); 3] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// A private subnet that overlaps none of `taken` and has room for so many nodes: a /24, or larger where it must be.
///
/// Begins at a random one, so that clusters side by side, which cannot see each other, hardly ever choose the same.
pub fn choose(nodes: u64, taken: &[Ipv4Net], rng: &mut impl Rng) -> Option<Ipv4Net> {
    let prefix = (8..=24u8).rev().find(|prefix| {
        Ipv4Net::new(Ipv4Addr::UNSPECIFIED, *prefix).is_ok_and(|net| FIRST - 2 + nodes <= room(net))
    })?;
    POOLS.into_iter().find_map(|(base, pool)| {
        let blocks = 1u32 << prefix.checked_sub(pool)?;
        let start = rng.random_range(0..blocks);
        // From there to the pool's end, then from its beginning to there.
        free_block(base, prefix, start..blocks, taken).or_else(|| free_block(base, prefix, 0..start, taken))
    })
}

/// The first free one among the blocks of that size after `base`. Jumps over what is taken rather than through it.
fn free_block(base: Ipv4Addr, prefix: u8, blocks: Range<u32>, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let size = 32 - prefix;
    let mut block = blocks.start;
    while blocks.contains(&block) {
        let address = u32::from(base) + (block << size);
        let candidate = Ipv4Net::new(Ipv4Addr::from(address), prefix).ok()?;
        let Some(hit) = taken.iter().find(|net| overlap(**net, candidate)) else {
            return Some(candidate);
        };
        let past = (u32::from(hit.broadcast()).max(address) - u32::from(base)) >> size;
        block = past.checked_add(1)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn any_net() -> impl Strategy<Value = Ipv4Net> {
        (any::<u32>(), 0u8..=32)
            .prop_map(|(address, prefix)| Ipv4Net::new(address.into(), prefix).unwrap().trunc())
    }

    #[test]
    fn small_subnets() {
        let net = "10.9.0.0/29".parse().unwrap();
        assert_eq!(room(net), 5);
        let five = addresses(net, 5).unwrap();
        assert_eq!(
            (five[0], five[4]),
            ("10.9.0.2".parse().unwrap(), "10.9.0.6".parse().unwrap())
        );
        assert_eq!(addresses(net, 6), None);
        let net = "10.9.0.0/28".parse().unwrap();
        assert_eq!(addresses(net, 4).unwrap()[0], Ipv4Addr::new(10, 9, 0, 11));
        assert_eq!(addresses(net, 5).unwrap()[0], Ipv4Addr::new(10, 9, 0, 2));
    }

    #[test]
    fn nothing_is_left() {
        let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"].map(|net| net.parse().unwrap());
        assert_eq!(choose(1, &private, &mut StdRng::seed_from_u64(1)), None);
        let but_one = choose(1, &private[..2], &mut StdRng::seed_from_u64(1)).unwrap();
        assert!(private[2].contains(&but_one));
    }

    proptest! {
        #[test]
        fn overlap_is_what_it_says(a in any_net(), b in any_net()) {
            let (first, last) = (a.network().max(b.network()), a.broadcast().min(b.broadcast()));
            prop_assert_eq!(overlap(a, b), first <= last);
        }

        #[test]
        fn what_is_chosen_is_free(nodes in 1u64..=1000, taken in prop::collection::vec(any_net(), 0..30), seed: u64) {
            if let Some(net) = choose(nodes, &taken, &mut StdRng::seed_from_u64(seed)) {
                prop_assert!(taken.iter().all(|other| !overlap(*other, net)));
                prop_assert!(net.network().is_private() && net.broadcast().is_private());
                prop_assert_eq!(addresses(net, nodes).unwrap()[0], numbered(net, 11).unwrap());
            }
        }

        #[test]
        fn addresses_lie_inside(net in any_net(), nodes in 0u64..300) {
            if let Some(all) = addresses(net, nodes) {
                prop_assert_eq!(all.len() as u64, nodes);
                for address in all {
                    prop_assert!(net.contains(&address));
                    prop_assert!(address != net.network() && address != net.broadcast());
                    prop_assert!(Some(address) != gateway(net));
                }
            }
        }
    }
}
