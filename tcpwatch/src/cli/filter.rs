//! The options that select connections, the same for all commands.

use std::num::NonZeroU32;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use ipnet::IpNet;
use tcpwatch_common::{StateSet, TcpState};

use super::values::parse_range;
use crate::input::netns_selector::NetnsSelector;
use crate::input::owner::Comm;
use crate::input::socket::Family;
use crate::model::filter::owner::OwnerFilter;
use crate::model::filter::{Filter, PortSet, parse_state};
use crate::model::leaks;

/// The options that select connections.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Select connections")]
pub struct FilterArgs {
    /// Local port; accepts lists and ranges: 80,443,8000-8999
    #[arg(short = 'L', long, value_name = "PORTS")]
    pub lport: Vec<PortSet>,
    /// Remote port
    #[arg(short = 'R', long, value_name = "PORTS")]
    pub rport: Vec<PortSet>,
    /// Port on either side
    #[arg(long, value_name = "PORTS")]
    pub port: Vec<PortSet>,
    /// Local address or range: 10.0.0.0/8 (up to 8 times)
    #[arg(long, value_name = "CIDR", value_parser = parse_range)]
    pub local: Vec<IpNet>,
    /// Remote address or range (up to 8 times)
    #[arg(long, value_name = "CIDR", value_parser = parse_range)]
    pub remote: Vec<IpNet>,
    /// Only IPv4
    #[arg(short = '4', long)]
    pub ipv4: bool,
    /// Only IPv6, including IPv4-mapped addresses
    #[arg(short = '6', long)]
    pub ipv6: bool,
    /// TCP states, separated by commas
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = parse_state)]
    pub state: Vec<TcpState>,
    /// Process that holds the socket (snapshot, leaks) or owns the connection (others), by PID; accepts lists: 812,813.
    /// One of them must exist
    #[arg(short, long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<NonZeroU32>,
    /// Process that holds the socket (snapshot, leaks) or owns the connection (others), by name (its first 15 bytes).
    /// What watches waits for one, and exits with 1 if nothing matched
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub comm: Vec<String>,
    /// Cgroup of the process: a path or part of a path, a container ID or a pod UID; waited for like --comm
    #[arg(long, value_name = "CGROUP", value_parser = NonEmptyStringValueParser::new())]
    pub cgroup: Vec<String>,
    /// Container of the process: its ID or the first 12 digits of it; of LXC, nspawn and the like its name; waited for like --comm
    #[arg(long, value_name = "CONTAINER", value_parser = NonEmptyStringValueParser::new())]
    pub container: Vec<String>,
    /// Kubernetes pod of the process: NAME, NAMESPACE/NAME or UID; waited for like --comm
    #[arg(long, value_name = "POD", value_parser = NonEmptyStringValueParser::new())]
    pub pod: Vec<String>,
    /// Network namespace: self, all, a PID, a name of ip netns or a path
    #[arg(long, default_value = "self", value_name = "WHICH")]
    pub netns: NetnsSelector,
}

/// What a command supports of [`FilterArgs`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Support {
    pub(super) command: &'static str,
    /// Whether it selects by the owner of a connection.
    owners: bool,
    /// The states that can match. None: the command does not select by state.
    states: StateSet,
    /// What `--state` means.
    meaning: &'static str,
    /// Why the other states are not supported.
    why: &'static str,
}

/// All states but these, which no record or socket is in.
fn all_but(states: &[TcpState]) -> StateSet {
    let others = TcpState::ALL.into_iter().filter(|state| !states.contains(state));
    others.fold(StateSet::NONE, StateSet::with)
}

impl Support {
    /// What each command supports.
    pub(super) fn all() -> [Self; 8] {
        [
            Self {
                command: "stat",
                owners: false,
                states: StateSet::ALL,
                meaning: "stat shows the connections in these states and the transitions from or to them",
                why: "",
            },
            Self {
                command: "trace",
                owners: true,
                states: all_but(&[TcpState::TimeWait]),
                meaning: "trace shows the transitions from or to these states",
                why: "the kernel reports no transition from or to it",
            },
            Self {
                command: "life",
                owners: true,
                states: all_but(&[TcpState::TimeWait, TcpState::Close, TcpState::Listen]),
                meaning: "life shows the connections whose last state before CLOSE is one of these",
                why: "it is never the last state before CLOSE",
            },
            Self {
                command: "churn",
                owners: true,
                states: StateSet::NONE,
                meaning: "",
                why: "it counts whole connections",
            },
            Self {
                command: "latency",
                owners: true,
                states: all_but(&[TcpState::TimeWait, TcpState::Listen]),
                meaning: "latency measures at the transitions from or to these states",
                why: "no time is measured at a transition from or to it",
            },
            Self {
                command: "leaks",
                owners: true,
                states: leaks::possible_states(),
                meaning: "leaks shows the sockets that are stuck in these states",
                why: "no socket can get stuck in it",
            },
            Self {
                command: "record",
                owners: false,
                states: StateSet::NONE,
                meaning: "",
                why: "it records whole connections",
            },
            Self {
                command: "snapshot",
                owners: true,
                states: StateSet::ALL,
                meaning: "snapshot shows the sockets that are in these states",
                why: "",
            },
        ]
    }

    /// What `command` supports. `stat` runs if no command is given.
    pub(super) fn by(command: &str) -> Self {
        let all = Self::all();
        let found = all.iter().find(|support| support.command == command);
        *found.unwrap_or(&all[0])
    }

    /// Hides the options that are not supported from the help of `command`, and adds the meaning of `--state`.
    pub(super) fn adapt(&self, command: clap::Command) -> clap::Command {
        let owners = ["pid", "comm", "cgroup", "container", "pod"]
            .into_iter()
            .filter(|_| !self.owners);
        let hidden = owners.fold(command, |command, name| {
            command.mut_arg(name, |option| option.hide(true))
        });
        hidden.mut_arg("state", |option| match self.states {
            StateSet::NONE => option.hide(true),
            _ => option.help(format!("TCP states, separated by commas: {}", self.meaning)),
        })
    }
}

impl FilterArgs {
    /// Refuses the options that `command` does not support.
    pub(super) fn check(&self, command: &str) -> Result<(), String> {
        let support = Support::by(command);
        let owner = self.to_filter().owner;
        if !support.owners && !owner.is_any() {
            let flags = owner.flags();
            return Err(format!(
                "{command} does not support --pid, --comm, --cgroup, --container or --pod; try tcpwatch life{flags}, or tcpwatch snapshot{flags}"
            ));
        }
        let keys = |states: &mut dyn Iterator<Item = TcpState>| {
            let keys: Vec<&str> = states.map(TcpState::key).collect();
            keys.join(",")
        };
        let refused = keys(
            &mut self
                .state
                .iter()
                .copied()
                .filter(|&state| !support.states.contains(state)),
        );
        if refused.is_empty() {
            return Ok(());
        }
        let supported = match support.states {
            StateSet::NONE => String::new(),
            states => format!(
                "tcpwatch {command} --state {}, or ",
                keys(&mut TcpState::ALL.into_iter().filter(|&state| states.contains(state)))
            ),
        };
        Err(format!(
            "{command} does not support --state {refused}: {}; try {supported}tcpwatch stat --state {refused}",
            support.why
        ))
    }

    /// Converts the options to a [`Filter`].
    #[must_use]
    pub fn to_filter(&self) -> Filter {
        let ports = |sets: &[PortSet]| {
            sets.iter().cloned().fold(PortSet::default(), |mut all, set| {
                all.extend(set);
                all
            })
        };
        Filter {
            lport: ports(&self.lport),
            rport: ports(&self.rport),
            port: ports(&self.port),
            local: self.local.clone(),
            remote: self.remote.clone(),
            family: match (self.ipv4, self.ipv6) {
                (true, false) => Some(Family::Ipv4),
                (false, true) => Some(Family::Ipv6),
                _ => None,
            },
            states: match self.state.as_slice() {
                [] => StateSet::ALL,
                states => states.iter().fold(StateSet::NONE, |set, &state| set.with(state)),
            },
            uid: None,
            owner: OwnerFilter {
                pids: self.pid.clone(),
                comms: self.comm.iter().map(|name| Comm::new(name.as_bytes())).collect(),
                cgroups: self.cgroup.clone(),
                containers: self.container.clone(),
                pods: self.pod.clone(),
            },
        }
    }
}
