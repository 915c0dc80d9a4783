//! What is wrong: detectors look at frames of the model, and tell findings. Pure, so that a recording finds the same.

pub mod finding;
pub mod kind;

use finding::Finding;

use crate::model::churn::ChurnFrame;
use crate::model::stat::StatFrame;

/// A frame of the model, of any command.
#[derive(Clone, Copy, Debug)]
pub enum Frame<'a> {
    /// The host's counts.
    Stat(&'a StatFrame),
    /// Who opens connections; the host's counts are in it too.
    Churn(&'a ChurnFrame),
}

/// Looks at frames, one after another, for one kind of trouble.
pub trait Detector {
    /// Adds what `frame` shows to `findings`. A frame that says nothing of it adds nothing.
    fn look(&mut self, frame: Frame<'_>, findings: &mut Vec<Finding>);
}
