//! The kernel side, loaded: attach it, read its ledger, follow its stream, walk the sockets.

mod aux_programs;
mod chain;
mod feature;
mod histograms;
mod ledger;
mod listeners;
mod load;
mod misses;
mod needs;
pub mod object;
mod open;
mod probe;
mod refusal;
mod sock_iter;
mod stacks;
mod stream;

pub use feature::{Feature, FeatureKind, Features};
pub use listeners::Listeners;
pub use load::{Hook, Kernel, Request};
pub use needs::Needs;
pub use open::{Choice, best_hook, open};
pub use sock_iter::count;
pub use stacks::StackRing;
pub use stream::Stream;
