//! Columns of transitions, connections and what they consist of.

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};

use tcpwatch_common::record::SPENT;
use tcpwatch_common::{Evidence, TcpState};

use super::columns::{Sensitive, column_as, column_bytes, column_names, column_struct};
use crate::input::connection::{Connection, Opened, Traffic, Transition};
use crate::input::container::Cgroup;
use crate::input::owner::{Comm, How, Owner, Process, UnknownOwner};
use crate::input::socket::{Address, Family};

column_names!(TcpState: TcpState::ALL, TcpState::key);
column_names!(Opened: [Opened::Active, Opened::Passive], Opened::key);
column_names!(Family: [Family::Ipv4, Family::Ipv6], Family::key);
column_names!(How: How::ALL, How::key);
column_names!(UnknownOwner: UnknownOwner::ALL, UnknownOwner::key);

// The kernel takes any bytes as a name.
column_bytes!(Comm, Some(Sensitive::Name), Comm::as_bytes, |bytes| Some(Comm::new(
    bytes
)));
/// A cgroup in columns. The container follows from the path.
pub(crate) struct CgroupRow {
    path: String,
    pod_name: Option<String>,
}

column_struct!(CgroupRow { path: String, pod_name: Option<String> });
column_as!(
    Cgroup as CgroupRow,
    |cgroup| CgroupRow {
        path: cgroup.path.clone(),
        pod_name: cgroup.pod().and_then(|pod| pod.name.clone()),
    },
    |row| Ok(Cgroup::with_pod_names(row.path, |_| row.pod_name))
);
column_struct!(Address { ip: IpAddr, zone: u32 });
column_struct!(Owner { pid: Option<NonZeroU32>, comm: Comm, how: How, cgroup: Option<NonZeroU64> });
column_struct!(Process { pid: Option<NonZeroU32>, comm: Comm });
column_struct!(Evidence {
    err: u16,
    flags: u16,
    from: u8,
    shutdown: u8,
    reason: u8,
    reserved: u8
});
column_struct!(Traffic { sent: u64, received: u64, srtt_us: Option<u32>, retransmits: u32 });
column_struct!(Transition {
    unix_ns: i64,
    monotonic_ns: u64,
    id: Option<NonZeroU64>,
    cookie: Option<NonZeroU64>,
    family: Family,
    local: Address,
    lport: Option<NonZeroU16>,
    remote: Address,
    rport: Option<NonZeroU16>,
    from: TcpState,
    to: TcpState,
    opened: Option<Opened>,
    bound: Option<bool>,
    dwell_ns: Option<u64>,
    netns: Option<NonZeroU32>,
    owner: Option<Owner>,
    inode: Option<NonZeroU32>,
    evidence: Option<Evidence>,
});
column_struct!(Connection {
    last: Transition,
    spent_ns: [u64; SPENT.len()],
    traffic: Option<Traffic>,
    closer: Option<Owner>,
});
