//! The flags of `doctor`.

use std::path::PathBuf;

use clap::Args;

use super::OutputArgs;
use crate::input::netns_selector::NetnsSelector;
use crate::view::Output;

/// `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Read the files of another host, copied to this directory (proc and etc in it), instead of this one's
    #[arg(long, value_name = "DIR", conflicts_with = "netns")]
    pub root: Option<PathBuf>,
    /// Exit with 3 when something is wrong (a warning, or worse)
    #[arg(long)]
    pub strict: bool,
    /// Network namespace: self, all, a PID or a path
    #[arg(long, default_value = "self", value_name = "WHICH")]
    pub netns: NetnsSelector,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl DoctorArgs {
    /// What the parser cannot see.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.output.output {
            Output::Csv => Err("doctor writes no csv: type -o json, or nothing for text".into()),
            Output::Text | Output::Json => Ok(()),
        }
    }
}
