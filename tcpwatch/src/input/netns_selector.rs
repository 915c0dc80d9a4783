//! Which network namespaces a user asks for.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

/// Which network namespaces to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetnsSelector {
    /// The one tcpwatch runs in, as `ss` does.
    #[default]
    Own,
    /// Every one found under /proc and /run/netns.
    All,
    /// That of a process.
    Pid(u32),
    /// The one a file stands for: `/run/netns/NAME`, `/proc/PID/ns/net`.
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
