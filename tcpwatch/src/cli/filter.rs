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
    /// TCP states, separated by commas. snapshot and leaks select sockets by their current state; trace and latency select
    /// transitions from or to it; life selects by the last state before CLOSE; stat shows the connections in it and the transitions
    /// from or to it
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = parse_state)]
    pub state: Vec<TcpState>,
    /// Process that holds the socket (snapshot, leaks) or owns the connection (trace, life), by PID; accepts lists: 812,813.
    /// One of them must exist
    #[arg(short, long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<NonZeroU32>,
    /// Process that holds the socket (snapshot, leaks) or owns the connection (trace, life), by name (its first 15
    /// bytes). trace, life, leaks -d and leaks --watch wait for one, and exit with 1 if nothing matched
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub comm: Vec<String>,
    /// Cgroup of the process: a path or part of a path, a container ID or a pod UID; waited for like --comm
    #[arg(long, value_name = "CGROUP", value_parser = NonEmptyStringValueParser::new())]
    pub cgroup: Vec<String>,
    /// Network namespace: self, all, a PID or a path (/run/netns/NAME)
    #[arg(long, default_value = "self", value_name = "WHICH")]
    pub netns: NetnsSelector,
}

impl FilterArgs {
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
            },
        }
    }
}
