//! The kernel side, loaded: attach it, read its ledger, follow its stream, walk the sockets.

mod beside;
mod histograms;
mod ledger;
mod listeners;
mod load;
mod misses;
pub mod object;
mod passes;
mod pick;
mod stacks;
mod stream;

pub use listeners::Listeners;
pub use load::{Carries, Hook, Kernel, Options, StreamOptions};
pub use passes::count;
pub use pick::pick;
pub use stacks::StackRing;
pub use stream::Stream;
