//! How many may be in at once, and who has to leave when it is full.
//!
//! Every container of a worker can connect. When there is no room left, the one that takes most of it yields: so a
//! container that opens connections without end shuts out itself and nobody else.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Which connection of the greediest peer yields to another peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yields {
    /// The one that has had most time: for what should be over in no time.
    Oldest,
    /// The one that came last: for what may rightly last. The greediest peer itself gets nothing more.
    Newest,
}

/// A limited number of places.
#[derive(Clone, Debug)]
pub struct Door(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: usize,
    yields: Yields,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    /// In the order in which they came.
    all: BTreeMap<u64, (IpAddr, Arc<Notify>)>,
    by_peer: HashMap<IpAddr, usize>,
}

/// A place; free again when dropped.
#[derive(Debug)]
pub struct Pass {
    door: Door,
    number: u64,
    turned_out: Arc<Notify>,
}

impl Door {
    /// With so many places.
    pub fn new(places: usize, yields: Yields) -> Self {
        Self(Arc::new(Inner {
            places,
            yields,
            inside: Mutex::default(),
        }))
    }

    /// A place for somebody; `None` where nobody yields to that peer.
    pub fn enter(&self, peer: IpAddr) -> Option<Pass> {
        let mut inside = self.inside();
        if inside.all.len() >= self.0.places {
            let (&greediest, &most) = inside.by_peer.iter().max_by_key(|(_, count)| **count)?;
            let greedy = inside.by_peer.get(&peer).is_some_and(|own| *own >= most);
            let mut theirs = inside
                .all
                .iter()
                .filter(|(_, (who, _))| *who == if greedy { peer } else { greediest });
            let number = match (self.0.yields, greedy) {
                (Yields::Newest, true) => return None,
                (Yields::Newest, false) => *theirs.next_back()?.0,
                (Yields::Oldest, _) => *theirs.next()?.0,
            };
            if let Some(turned_out) = inside.leave(number) {
                turned_out.notify_one();
            }
        }
        let number = inside.next;
        inside.next += 1;
        let turned_out = Arc::new(Notify::new());
        inside.all.insert(number, (peer, turned_out.clone()));
        *inside.by_peer.entry(peer).or_default() += 1;
        Some(Pass {
            door: self.clone(),
            number,
            turned_out,
        })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn leave(&mut self, number: u64) -> Option<Arc<Notify>> {
        let (peer, turned_out) = self.all.remove(&number)?;
        if let Some(count) = self.by_peer.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&peer);
            }
        }
        Some(turned_out)
    }
}

impl Pass {
    /// Returns when the place is given to somebody else.
    pub async fn turned_out(&self) {
        self.turned_out.notified().await;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.door.inside().leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    fn is_out(pass: &Pass) -> bool {
        !pass.door.inside().all.contains_key(&pass.number)
    }

    #[test]
    fn the_greediest_yields_its_oldest() {
        let door = Door::new(3, Yields::Oldest);
        let passes: Vec<Pass> = [1, 2, 1].map(|who| door.enter(peer(who)).unwrap()).into();
        let more = door.enter(peer(3)).unwrap();
        assert_eq!(
            passes.iter().map(is_out).collect::<Vec<_>>(),
            [true, false, false]
        );
        // All have one now: whoever comes again yields to itself.
        let again = door.enter(peer(3)).unwrap();
        assert!(is_out(&more) && !is_out(&again));
    }

    #[test]
    fn the_greediest_gets_nothing_more_and_yields_its_newest() {
        let door = Door::new(3, Yields::Newest);
        let passes: Vec<Pass> = [1, 1, 2].map(|who| door.enter(peer(who)).unwrap()).into();
        assert!(door.enter(peer(1)).is_none());
        let other = door.enter(peer(2)).unwrap();
        assert_eq!(
            passes.iter().map(is_out).collect::<Vec<_>>(),
            [false, true, false]
        );
        drop((passes, other));
        assert!(door.enter(peer(1)).is_some());
    }

    proptest! {
        #[test]
        fn never_more_than_there_are_places_and_none_is_lost(
            places in 1usize..6,
            oldest: bool,
            steps in proptest::collection::vec((0u8..4, any::<bool>(), 0usize..8), 0..60),
        ) {
            let door = Door::new(places, if oldest { Yields::Oldest } else { Yields::Newest });
            let mut passes = Vec::new();
            for (who, comes, which) in steps {
                if comes {
                    let had = passes.iter().any(|(peer, pass)| *peer == who && !is_out(pass));
                    let pass = door.enter(peer(who));
                    // One that has nothing yet is always let in.
                    prop_assert!(had || pass.is_some() || places < 4);
                    passes.extend(pass.map(|pass| (who, pass)));
                } else if !passes.is_empty() {
                    passes.remove(which % passes.len());
                }
                let inside = door.inside();
                prop_assert!(inside.all.len() <= places);
                prop_assert_eq!(inside.by_peer.values().sum::<usize>(), inside.all.len());
            }
            drop(passes);
            prop_assert_eq!(door.inside().all.len(), 0);
        }
    }
}
