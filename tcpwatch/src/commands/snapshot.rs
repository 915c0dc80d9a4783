//! `tcpwatch snapshot`: the sockets of this moment by state, and in groups.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;

use super::OUTPUT;
use super::screen::screen;
use crate::cli::{SnapshotArgs, SourceArg};
use crate::input::netns_selector::NetnsSelector;
use crate::input::socket::Socket;
use crate::input::socket_owner::SocketOwner;
use crate::model::counts::StateCounts;
use crate::model::filter::Filter;
use crate::model::snapshot::{Origin, Snapshot, SnapshotBuilder};
use crate::source::ebpf;
use crate::source::owners::{Owners, ensure_match};
use crate::source::sockets::Sockets;
use crate::sys::caps;
use crate::sys::netns::{self, Namespace};
use crate::view::{Output, csv, json, text, words};

/// Counts the sockets that `args` select and writes a snapshot with the time `time` to `out`.
///
/// # Errors
/// Sockets cannot be read, no process matches the filter, or `out` cannot be written to.
pub fn run(args: &SnapshotArgs, time: Timestamp, out: &mut impl Write) -> anyhow::Result<()> {
    let filter = Filter {
        uid: args.uid,
        ..args.filter.to_filter()
    };
    let namespaces = netns::resolve(Path::new("/"), &args.filter.netns)?;
    let mut builder = SnapshotBuilder::new(&args.by);
    let mut owners = None;
    if builder.needs_owners() || !filter.owner.is_any() {
        ensure_match(Path::new("/"), &filter.owner)?;
        owners = Some(Owners::scan(Path::new("/"))?);
    }
    let origin = fill(
        &mut builder,
        args.source,
        args.states_alone(),
        &filter,
        &namespaces,
        owners.as_mut(),
    )?;
    let netns = match namespaces.as_slice() {
        [one] if args.filter.netns != NetnsSelector::All => Some(one.inode),
        _ => None,
    };
    let limit = args.limit.and_then(|limit| usize::try_from(limit).ok());
    let snapshot = Snapshot {
        unseen: owners.as_ref().map(Owners::unseen),
        ..builder.finish(time, netns, origin, limit)
    };
    // CSV and a bare count have no place for this.
    if let Some(unseen) = snapshot.unseen.as_ref().and_then(words::unseen)
        && (args.count || args.output.output == Output::Csv)
    {
        log::warn!("{unseen}");
    }
    if args.count {
        write_count(args.output.output, &snapshot, out).context(OUTPUT)?;
    } else {
        let mut scope = words::filter(&filter);
        scope.push(words::namespaces(&args.filter.netns, namespaces.len()));
        write(args, &snapshot, &scope, out).context(OUTPUT)?;
    }
    out.flush().context(OUTPUT)
}

/// Adds the sockets of `namespaces` to `builder`. If `states_alone` are needed, the kernel counts them. Returns how they were read.
fn fill(
    builder: &mut SnapshotBuilder,
    source: SourceArg,
    states_alone: bool,
    filter: &Filter,
    namespaces: &[Namespace],
    owners: Option<&mut Owners>,
) -> anyhow::Result<Origin> {
    match source {
        SourceArg::Iter => builder.add_counts(&StateCounts::from(&ebpf::count(filter, namespaces)?), 0),
        SourceArg::Auto if states_alone && caps::missing_for_bpf().is_empty() => {
            match ebpf::count(filter, namespaces) {
                Ok(pass) => builder.add_counts(&StateCounts::from(&pass), 0),
                Err(why) => {
                    log::info!("the kernel cannot count the sockets, so they are read one by one: {why:#}");
                    return walk(builder, source, filter, namespaces, owners);
                }
            }
        }
        _ => return walk(builder, source, filter, namespaces, owners),
    }
    Ok(Origin::Iter)
}

/// Adds the sockets of `namespaces` to `builder` one by one. Returns how they were read.
fn walk(
    builder: &mut SnapshotBuilder,
    source: SourceArg,
    filter: &Filter,
    namespaces: &[Namespace],
    mut owners: Option<&mut Owners>,
) -> anyhow::Result<Origin> {
    let mut origin = Origin::SockDiag;
    for namespace in namespaces {
        origin = walk_one(source, namespace, filter, builder, owners.as_deref_mut())?;
    }
    Ok(origin)
}

/// Adds the sockets of one namespace to `builder`. Returns how they were read.
fn walk_one(
    source: SourceArg,
    namespace: &Namespace,
    filter: &Filter,
    builder: &mut SnapshotBuilder,
    mut owners: Option<&mut Owners>,
) -> anyhow::Result<Origin> {
    let inode = namespace.inode;
    let root = Path::new("/");
    let mut sockets = match source {
        SourceArg::SockDiag => namespace.run(|| Sockets::sock_diag(inode))?,
        SourceArg::Proc => namespace.run(|| Sockets::proc(root, inode))?,
        SourceArg::Auto | SourceArg::Iter => namespace.run(|| Sockets::open(root, inode))?,
    };
    if filter.is_any_socket() && builder.needs_no_sockets() {
        builder.add_counts(&StateCounts::from(&sockets.count(filter.states)?), inode);
    } else {
        sockets.walk(filter.states, |socket| {
            if filter.matches_socket(socket) {
                match &mut owners {
                    Some(owners) => add_owned(builder, socket, filter, owners),
                    None => builder.add(socket, &SocketOwner::default()),
                }
            }
        })?;
    }
    Ok(sockets.origin())
}

/// Adds `socket` to `builder`, if one of the processes that hold it matches `filter`.
fn add_owned(builder: &mut SnapshotBuilder, socket: &Socket, filter: &Filter, owners: &mut Owners) {
    let mut held = owners.find_holders(socket.inode);
    if filter.owner.is_any() || held.match_filter(&filter.owner) {
        let owner = if builder.needs_owners() {
            held.owner()
        } else {
            SocketOwner::default()
        };
        builder.add(socket, &owner);
    }
}

/// Writes the number of sockets alone.
fn write_count(output: Output, snapshot: &Snapshot, out: &mut impl Write) -> io::Result<()> {
    match output {
        Output::Json => json::snapshot::write_count(out, snapshot),
        Output::Csv => csv::snapshot::write_count(out, snapshot),
        Output::Text => writeln!(out, "{}", snapshot.states.total()),
    }
}

/// Writes `snapshot` in the chosen format; `scope` are the filter and the namespaces in words.
fn write(args: &SnapshotArgs, snapshot: &Snapshot, scope: &[String], out: &mut impl Write) -> io::Result<()> {
    match args.output.output {
        Output::Json => json::snapshot::write(out, snapshot),
        Output::Csv => csv::snapshot::write(out, snapshot),
        Output::Text => text::snapshot::write(out, snapshot, scope, screen(args.output.color)),
    }
}
