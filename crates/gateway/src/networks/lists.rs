//! Named lists of networks, shared by the policies that name them, and swapped while requests are served.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use weft_kernel::Name;

use super::set::NetworkSet;

/// The lists of a node, by name.
#[derive(Clone, Debug, Default)]
pub struct NetworkLists(Arc<Mutex<HashMap<Name, Arc<ArcSwap<NetworkSet>>>>>);

impl NetworkLists {
    /// The list of a name, empty until it is [put in force](Self::replace). It is the same one for as long as anybody
    /// holds it.
    pub(super) fn list(&self, name: &Name) -> Arc<ArcSwap<NetworkSet>> {
        Arc::clone(self.0.lock().entry(name.clone()).or_default())
    }

    /// Puts lists in force. One that is not among them is forgotten, and stays as it is for policies that still
    /// name it.
    pub fn replace(&self, lists: impl IntoIterator<Item = (Name, Arc<NetworkSet>)>) {
        let mut all = self.0.lock();
        let mut now = HashMap::new();
        for (name, set) in lists {
            let list = all.remove(&name).unwrap_or_default();
            list.store(set);
            now.insert(name, list);
        }
        *all = now;
    }

    /// The number of networks in each, for metrics.
    pub fn sizes(&self) -> Vec<(Name, usize)> {
        let all = self.0.lock();
        let mut sizes: Vec<_> =
            all.iter().map(|(name, set)| (name.clone(), set.load().len())).collect();
        sizes.sort();
        sizes
    }
}
