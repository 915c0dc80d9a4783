//! `snapshot`: what is open now.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail};
use jiff::Timestamp;

use super::OUTPUT;
use super::screen::screen;
use crate::cli::{SnapshotArgs, SourceArg};
use crate::input::netns_selector::NetnsSelector;
use crate::input::socket::Socket;
use crate::input::socket_owner::SocketOwner;
use crate::model::counts::StateCounts;
use crate::model::filter::Filter;
use crate::model::snapshot::{By, Origin, Snapshot, Tally};
use crate::source::ebpf;
use crate::source::owners::Owners;
use crate::source::sockets::Sockets;
use crate::sys::caps;
use crate::sys::netns::{self, Namespace};
use crate::view::{Output, csv, json, text, words};

/// Reads the sockets `args` asks for and writes them to `out`, which `time` is the time of.
///
/// # Errors
/// One line, where neither way to the sockets is open; those of `out`, as [`io::Error`].
pub fn run(args: &SnapshotArgs, time: Timestamp, out: &mut impl Write) -> anyhow::Result<()> {
    let filter = Filter {
        uid: args.uid,
        ..args.filter.to_filter()
    };
    let namespaces = netns::resolve(Path::new("/"), &args.filter.netns)?;
    let mut tally = Tally::new(&args.by);
    let mut owners = None;
    if tally.needs_owners() || !filter.owner.is_any() {
        let mut found = Owners::scan(Path::new("/"))?;
        found.ensure_match(&filter.owner)?;
        owners = Some(found);
    }
    let states_alone = args.uid.is_none() && filter.owner.is_any() && args.by.iter().all(|by| *by == By::State);
    let origin = fill(
        &mut tally,
        args.source,
        states_alone,
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
        ..tally.finish(time, netns, origin, limit)
    };
    // Where the output has no place for it.
    if let Some(unseen) = snapshot.unseen.as_ref().and_then(words::unseen)
        && (args.count || args.output.output == Output::Csv)
    {
        log::warn!("{unseen}");
    }
    if args.count {
        write_count(args.output.output, &snapshot, out).context(OUTPUT)?;
    } else {
        let mut asked = words::filter(&filter);
        asked.push(words::namespaces(&args.filter.netns, namespaces.len()));
        write(args, &snapshot, &asked, out).context(OUTPUT)?;
    }
    out.flush().context(OUTPUT)
}

/// Counts the sockets of `namespaces` into `tally`, inside the kernel where `states_alone` are asked for; how they were read.
fn fill(
    tally: &mut Tally,
    source: SourceArg,
    states_alone: bool,
    filter: &Filter,
    namespaces: &[Namespace],
    owners: Option<&mut Owners>,
) -> anyhow::Result<Origin> {
    match source {
        SourceArg::Iter if !states_alone => {
            bail!("--source iter counts states alone, without --by, --uid, --pid, --comm and --cgroup")
        }
        SourceArg::Iter => tally.add_counts(&StateCounts::from(&ebpf::count(filter, namespaces)?), 0),
        SourceArg::Auto if states_alone && caps::missing_for_bpf().is_empty() => {
            match ebpf::count(filter, namespaces) {
                Ok(pass) => tally.add_counts(&StateCounts::from(&pass), 0),
                Err(why) => {
                    log::info!("no count inside the kernel: {why:#}");
                    return walk(tally, source, filter, namespaces, owners);
                }
            }
        }
        _ => return walk(tally, source, filter, namespaces, owners),
    }
    Ok(Origin::Iter)
}

/// Counts the sockets of `namespaces` into `tally` one by one; how they were read.
fn walk(
    tally: &mut Tally,
    source: SourceArg,
    filter: &Filter,
    namespaces: &[Namespace],
    mut owners: Option<&mut Owners>,
) -> anyhow::Result<Origin> {
    let mut origin = Origin::SockDiag;
    for namespace in namespaces {
        origin = walk_one(source, namespace, filter, tally, owners.as_deref_mut())?;
    }
    Ok(origin)
}

/// Counts the sockets of one namespace into `tally`; how they were read.
fn walk_one(
    source: SourceArg,
    namespace: &Namespace,
    filter: &Filter,
    tally: &mut Tally,
    mut owners: Option<&mut Owners>,
) -> anyhow::Result<Origin> {
    let inode = namespace.inode;
    let root = Path::new("/");
    let mut sockets = match source {
        SourceArg::SockDiag => namespace.run(|| Sockets::sock_diag(inode))?,
        SourceArg::Proc => namespace.run(|| Sockets::proc(root, inode))?,
        SourceArg::Auto | SourceArg::Iter => namespace.run(|| Sockets::open(root, inode))?,
    };
    if filter.is_any_socket() && tally.needs_no_sockets() {
        tally.add_counts(&StateCounts::from(&sockets.count(filter.states)?), inode);
    } else {
        sockets.walk(filter.states, |socket| {
            if filter.matches_ends(socket) {
                match &mut owners {
                    Some(owners) => add_held(tally, socket, filter, owners),
                    None => tally.add(socket, &SocketOwner::default()),
                }
            }
        })?;
    }
    Ok(sockets.origin())
}

/// Counts `socket` into `tally` if one of those who hold it is asked for.
fn add_held(tally: &mut Tally, socket: &Socket, filter: &Filter, owners: &mut Owners) {
    let mut held = owners.of(socket.inode);
    if filter.owner.is_any() || held.match_filter(&filter.owner) {
        let whose = if tally.needs_owners() {
            held.whose()
        } else {
            SocketOwner::default()
        };
        tally.add(socket, &whose);
    }
}

/// Writes the number of connections alone.
fn write_count(output: Output, snapshot: &Snapshot, out: &mut impl Write) -> io::Result<()> {
    match output {
        Output::Json => json::snapshot::write_count(out, snapshot),
        Output::Csv => csv::snapshot::write_count(out, snapshot),
        Output::Text => writeln!(out, "{}", snapshot.states.total()),
    }
}

/// Writes `snapshot` in the form asked for; `asked` says the filter and the namespaces in words.
fn write(args: &SnapshotArgs, snapshot: &Snapshot, asked: &[String], out: &mut impl Write) -> io::Result<()> {
    match args.output.output {
        Output::Json => json::snapshot::write(out, snapshot),
        Output::Csv => csv::snapshot::write(out, snapshot),
        Output::Text => text::snapshot::write(out, snapshot, asked, screen(args.output.color)),
    }
}
