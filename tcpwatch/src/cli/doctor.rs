//! The arguments of `doctor`.

use std::path::PathBuf;

use clap::Args;

use super::OutputArgs;
use crate::input::netns_selector::NetnsSelector;

/// The arguments of `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Check another host: read copies of its proc and etc from this directory
    #[arg(long, value_name = "DIR", conflicts_with = "netns")]
    pub root: Option<PathBuf>,
    /// Exit with code 3 if there is a warning or a critical finding
    #[arg(long)]
    pub strict: bool,
    /// Network namespace: self, all, a PID, a name of ip netns or a path
    #[arg(long, default_value = "self", value_name = "WHICH")]
    pub netns: NetnsSelector,
    /// Output options.
    #[command(flatten)]
    pub output: OutputArgs,
}
