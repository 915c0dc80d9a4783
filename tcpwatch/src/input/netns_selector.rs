//! Selects network namespaces (`--netns`).

use std::convert::Infallible;
use std::path::{Path, PathBuf};
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

/// Where ip-netns(8) keeps the namespaces that have names.
const NAMED: &str = "/run/netns";

impl FromStr for NetnsSelector {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "self" => Self::Own,
            "all" => Self::All,
            _ => match text.parse() {
                Ok(pid) => Self::Pid(pid),
                Err(_) if text.contains('/') => Self::Path(text.into()),
                Err(_) => Self::Path(Path::new(NAMED).join(text)),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_without_a_slash_is_a_name() {
        let path = |text: &str| NetnsSelector::Path(text.into());
        for (text, selected) in [
            ("self", NetnsSelector::Own),
            ("all", NetnsSelector::All),
            ("812", NetnsSelector::Pid(812)),
            ("web", path("/run/netns/web")),
            ("-1", path("/run/netns/-1")),
            ("./web", path("./web")),
            ("/proc/1/ns/net", path("/proc/1/ns/net")),
        ] {
            assert_eq!(text.parse(), Ok(selected), "{text}");
        }
    }
}
