//! Sockets by state as a JSON object: every state, zeros too, in the order of the kernel's numbers.

use serde::ser::{Serialize, Serializer};

use crate::model::counts::StateCounts;

/// `{"established":0, …}`
#[derive(Clone, Copy, Debug)]
pub struct States<'a>(pub &'a StateCounts);

impl Serialize for States<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(state, sockets)| (state.key(), sockets)))
    }
}
