//! Loads and attaches the BPF programs, reads their maps and records, and walks the sockets.

mod attach;
mod aux_programs;
mod bpf;
mod chain;
mod feature;
mod histograms;
mod hook_choice;
mod kernel;
mod ledger;
mod listeners;
mod map_sizes;
mod mapped_words;
mod memory_budget;
mod namespaces;
mod needs;
pub mod object;
mod prepare;
mod probe;
mod refusal;
mod sock_iter;
mod stack_ring;
mod stream;
mod verifier_stats;

pub use feature::{Feature, FeatureKind, Features};
pub use hook_choice::{Choice, open, survey};
pub use kernel::{Hook, Kernel};
pub use ledger::LedgerSum;
pub use listeners::Listeners;
pub use needs::{KernelNeeds, LatencyGroups};
pub use prepare::{NamespacesUnknown, Request};
pub use refusal::explained;
pub use sock_iter::{Unwalked, count};
pub use stack_ring::StackRing;
pub use stream::Stream;
pub use verifier_stats::{ProgramStats, verifier_stats};
