//! What a state, an ending, a finding, a setting means: text as data, one source for all that tell it.

pub mod setting;
pub mod topic;
