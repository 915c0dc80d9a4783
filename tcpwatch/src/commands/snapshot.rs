//! `tcpwatch snapshot`: the sockets of this moment by state, and in groups.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use tcpwatch_common::StateSet;

use super::OUTPUT;
use super::screen::screen;
use crate::cli::{SnapshotArgs, SourceArg};
use crate::input::namespace::NamespaceNames;
use crate::input::netns_selector::NetnsSelector;
use crate::input::socket::Socket;
use crate::input::socket_owner::{SocketOwner, Unseen};
use crate::model::counts::StateCounts;
use crate::model::filter::Filter;
use crate::model::format::thousands;
use crate::model::snapshot::{GroupBy, Origin, Snapshot, SnapshotBuilder};
use crate::model::socket_list::{ListBuilder, SocketList};
use crate::source::ebpf;
use crate::source::namespace_names::name_all;
use crate::source::owners::{Owners, ensure_match};
use crate::source::sockets::Sockets;
use crate::source::totals::Totals;
use crate::sys::netns::{self, Namespace, unless_left_out};
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
    if args.list {
        return list(args, &filter, &namespaces, time, out);
    }
    let mut builder = SnapshotBuilder::new(&args.by);
    let mut owners = None;
    if builder.needs_owners() || !filter.owner.is_any() {
        ensure_match(Path::new("/"), &filter.owner)?;
        owners = Some(Owners::scan(Path::new("/"))?);
    }
    let origin = fill(&mut builder, args, &filter, &namespaces, owners.as_mut())?;
    let limit = args.limit.and_then(|limit| usize::try_from(limit).ok());
    let snapshot = Snapshot {
        unseen: owners.as_ref().map(Owners::unseen),
        namespace_names: names(args, &namespaces),
        ..builder.finish(time, the_one(args, &namespaces), origin, limit)
    };
    warn_of_unseen(args, snapshot.unseen.as_ref());
    if args.count {
        write_count(args.output.output, &snapshot, out).context(OUTPUT)?;
    } else {
        write(args, &snapshot, &scope(args, &filter, &namespaces), out).context(OUTPUT)?;
    }
    out.flush().context(OUTPUT)
}

/// Lists the sockets that `args` select, with their owners.
fn list(
    args: &SnapshotArgs,
    filter: &Filter,
    namespaces: &[Namespace],
    time: Timestamp,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    ensure_match(Path::new("/"), &filter.owner)?;
    // Sockets first: one that is opened meanwhile has no owner in an earlier scan.
    let limit = args.limit.and_then(|limit| usize::try_from(limit).ok());
    let mut builder = ListBuilder::new(limit);
    let mut origin = Origin::SockDiag;
    let mut owners = if filter.owner.is_any() {
        None
    } else {
        Some(Owners::scan(Path::new("/"))?)
    };
    for namespace in namespaces {
        let Some(sockets) = unless_left_out(open(args.source, namespace), &args.filter.netns)? else {
            continue;
        };
        let mut sockets = sockets.of(filter);
        sockets.walk_with_queues(filter.states, |detail| {
            let is_held = |owners: &mut Owners| owners.find_holders(detail.socket.inode).match_filter(&filter.owner);
            if filter.matches_socket(&detail.socket) && owners.as_mut().is_none_or(is_held) {
                builder.add(detail);
            }
        })?;
        origin = sockets.origin();
    }
    let (mut sockets, left_out) = builder.finish();
    let mut owners = match owners {
        Some(owners) => owners,
        None => Owners::scan(Path::new("/"))?,
    };
    for listed in &mut sockets {
        let mut held = owners.find_holders(listed.socket.inode);
        (listed.holders, listed.owner) = (held.holders(), held.owner());
    }
    let list = SocketList {
        time,
        netns: the_one(args, namespaces),
        origin,
        sockets,
        left_out,
        unseen: owners.unseen(),
        namespace_names: names(args, namespaces),
    };
    warn_of_unseen(args, Some(&list.unseen));
    if left_out > 0 && args.output.output == Output::Csv {
        log::warn!("{} more sockets are left out", thousands(left_out as u64));
    }
    match args.output.output {
        Output::Json => json::socket_list::write(out, &list),
        Output::Csv => csv::socket_list::write(out, &list),
        Output::Text => {
            let scope = scope(args, filter, namespaces);
            text::socket_list::write(out, &list, &scope, screen(args.output.color))
        }
    }
    .and_then(|()| out.flush())
    .context(OUTPUT)
}

/// Warns of owners that could not be seen, where the output has no place for that: CSV and a bare count.
fn warn_of_unseen(args: &SnapshotArgs, unseen: Option<&Unseen>) {
    if let Some(unseen) = unseen.and_then(words::unseen)
        && (args.count || args.output.output == Output::Csv)
    {
        log::warn!("{unseen}");
    }
}

/// The inode number of the one network namespace that `args` select; `None` for all.
fn the_one(args: &SnapshotArgs, namespaces: &[Namespace]) -> Option<u32> {
    match namespaces {
        [one] if args.filter.netns != NetnsSelector::All => Some(one.inode),
        _ => None,
    }
}

/// The names of the `namespaces`, if text output shows them.
fn names(args: &SnapshotArgs, namespaces: &[Namespace]) -> NamespaceNames {
    let shows = args.list && namespaces.len() > 1 || args.by.contains(&GroupBy::Netns);
    if shows && args.output.output == Output::Text {
        name_all(Path::new("/"), namespaces)
    } else {
        NamespaceNames::default()
    }
}

/// The filter and the namespaces in words.
fn scope(args: &SnapshotArgs, filter: &Filter, namespaces: &[Namespace]) -> Vec<String> {
    let mut scope = words::filter(filter);
    scope.push(words::namespaces(&args.filter.netns, namespaces.len()));
    scope
}

/// Adds the sockets of `namespaces` to `builder`, by the cheapest way that answers `args`. Returns how they were read.
fn fill(
    builder: &mut SnapshotBuilder,
    args: &SnapshotArgs,
    filter: &Filter,
    namespaces: &[Namespace],
    mut owners: Option<&mut Owners>,
) -> anyhow::Result<Origin> {
    if args.source == SourceArg::Iter {
        builder.add_counts(
            &StateCounts::from(&ebpf::count(filter, namespaces, &args.filter.netns)?),
            0,
        );
        return Ok(Origin::Iter);
    }
    let is_total = filter.is_any_socket() && filter.states == StateSet::ALL && builder.needs_no_sockets();
    let mut origin = None;
    for namespace in namespaces {
        let this = if is_total && args.source == SourceArg::Auto {
            let totals = namespace.run(|| Totals::open(Path::new("/"), namespace.inode));
            let Some(mut totals) = unless_left_out(totals, &args.filter.netns)? else {
                continue;
            };
            let (pass, this) = totals.count()?;
            builder.add_counts(&StateCounts::from(&pass), namespace.inode);
            this
        } else {
            let walked = walk(builder, args.source, filter, namespace, owners.as_deref_mut());
            let Some(this) = unless_left_out(walked, &args.filter.netns)? else {
                continue;
            };
            this
        };
        // In several namespaces: by counters, if any of them was.
        origin = origin.filter(|before| *before == Origin::Counters).or(Some(this));
    }
    Ok(origin.unwrap_or(Origin::SockDiag))
}

/// Adds the sockets of one namespace to `builder`, or counts them where that is enough. Returns how they were read.
fn walk(
    builder: &mut SnapshotBuilder,
    source: SourceArg,
    filter: &Filter,
    namespace: &Namespace,
    mut owners: Option<&mut Owners>,
) -> anyhow::Result<Origin> {
    let inode = namespace.inode;
    let mut sockets = open(source, namespace)?.of(filter);
    if sockets.selects_all_of(filter) && builder.needs_no_sockets() {
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

/// Opens the reader of the sockets of `namespace` that `source` asks for.
fn open(source: SourceArg, namespace: &Namespace) -> anyhow::Result<Sockets> {
    let (root, inode) = (Path::new("/"), namespace.inode);
    match source {
        SourceArg::SockDiag => namespace.run(|| Sockets::sock_diag(inode)),
        SourceArg::Proc => namespace.run(|| Sockets::proc(root, inode)),
        SourceArg::Auto | SourceArg::Iter => namespace.run(|| Sockets::open(root, inode)),
    }
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
