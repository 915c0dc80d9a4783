//! Columns of ephemeral ports and of what holds them.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use hashbrown::HashMap;

use super::columns::{column_as, column_bytes, column_names, column_struct};
use crate::input::PortsSample;
use crate::input::ports::bits::PortBits;
use crate::input::ports::ends::Ends;
use crate::input::ports::range::PortRange;
use crate::input::ports::reuse::{Allowed, TwReuse};
use crate::input::ports::settings::Settings;
use crate::input::ports::walk::{Held, Ports, Walk};

column_bytes!(PortBits, None, PortBits::to_bytes, PortBits::from_bytes);

/// A range of ports in columns.
pub(crate) struct RangeRow {
    first: u16,
    last: u16,
    usable: PortBits,
}

column_struct!(RangeRow {
    first: u16,
    last: u16,
    usable: PortBits
});
column_as!(
    PortRange as RangeRow,
    |range| RangeRow {
        first: *range.bounds().start(),
        last: *range.bounds().end(),
        usable: range.usable_ports().clone(),
    },
    |row| Ok(PortRange::new(row.first..=row.last, row.usable))
);

impl Allowed {
    const ALL: [Self; 3] = [Self::Never, Self::Always, Self::Loopback];

    const fn key(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Always => "always",
            Self::Loopback => "loopback",
        }
    }
}

column_names!(Allowed: Allowed::ALL, Allowed::key);
column_struct!(TwReuse {
    allowed: Allowed,
    timestamps: bool,
    delay_ms: u32
});
column_struct!(Settings { range: Option<PortRange>, reuse: Option<TwReuse>, autobind_reuse: Option<bool> });

/// Ends in columns.
#[derive(Clone)]
pub(crate) struct EndsRow {
    source: IpAddr,
    destination: Option<Destination>,
}

#[derive(Clone)]
pub(crate) struct Destination {
    ip: IpAddr,
    port: u16,
}

column_struct!(Destination { ip: IpAddr, port: u16 });
column_struct!(EndsRow { source: IpAddr, destination: Option<Destination> });
column_as!(
    Ends as EndsRow,
    |ends| EndsRow {
        source: ends.source,
        destination: ends.destination.map(|to| Destination {
            ip: to.ip(),
            port: to.port(),
        }),
    },
    |row| Ok(Ends {
        source: row.source,
        destination: row.destination.map(|to| SocketAddr::new(to.ip, to.port)),
    })
);

/// A walk in columns.
pub(crate) struct WalkRow {
    destinations: HashMap<Ends, Held>,
    sources: HashMap<IpAddr, Ports>,
    left_out: u64,
}

column_struct!(Held {
    used: u64,
    time_wait: u64
});
column_struct!(Ports {
    held: PortBits,
    live: PortBits
});
column_struct!(WalkRow { destinations: HashMap<Ends, Held>, sources: HashMap<IpAddr, Ports>, left_out: u64 });
column_as!(
    Walk as WalkRow,
    |walk| WalkRow {
        destinations: walk.destinations.clone(),
        sources: walk.sources.clone(),
        left_out: walk.left_out,
    },
    |row| {
        let mut walk = Walk::default();
        (walk.destinations, walk.sources, walk.left_out) = (row.destinations, row.sources, row.left_out);
        Ok(walk)
    }
);
column_struct!(PortsSample { netns: Option<NonZeroU32>, monotonic_ns: u64, settings: Settings, walk: Walk });
