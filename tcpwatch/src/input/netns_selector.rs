//! Selects network namespaces (`--netns`).

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

/// The network namespaces to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetnsSelector {
    /// The namespace that tcpwatch runs in, as in `ss`.
    #[default]
    Own,
    /// Every namespace found in /proc and /run/netns.
    All,
    /// The namespace of a process.
    Pid(u32),
    /// The namespace of a file: `/run/netns/NAME`, `/proc/PID/ns/net`.
    Path(PathBuf),
}

impl FromStr for NetnsSelector {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "self" => Self::Own,
            "all" => Self::All,
            _ => text.parse().map_or_else(|_| Self::Path(text.into()), Self::Pid),
        })
    }
}
