//! The settings that decide which connection can have which port.

use super::range::PortRange;
use super::reuse::TwReuse;

/// The port settings of a network namespace; `None` is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The ports that there are.
    pub range: Option<PortRange>,
    /// How long TIME_WAIT keeps one from connect(2).
    pub reuse: Option<TwReuse>,
    /// `ip_autobind_reuse` (ip-sysctl.rst): whether bind(2) to port 0 may share one, where all who have it set `SO_REUSEADDR`.
    pub autobind_reuse: Option<bool>,
}
