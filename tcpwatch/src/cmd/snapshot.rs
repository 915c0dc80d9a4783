//! `snapshot`: what is open now.

use std::io::{self, Write};
use std::path::Path;

use anyhow::bail;
use jiff::Timestamp;

use crate::cli::values::NetnsArg;
use crate::cli::{Output, SnapshotArgs, SourceArg};
use crate::model::counts::StateCounts;
use crate::model::filter::Filter;
use crate::model::snapshot::{Origin, Snapshot, Tally};
use crate::source::sockets::Sockets;
use crate::sys::netns::{self, Namespace};
use crate::sys::terminal;
use crate::view::{csv, json, text, words};

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
    let mut origin = Origin::SockDiag;
    for namespace in &namespaces {
        origin = read(args.source, namespace, &filter, &mut tally)?;
    }
    let netns = match namespaces.as_slice() {
        [one] if args.filter.netns != NetnsArg::All => Some(one.inode),
        _ => None,
    };
    let limit = args.limit.and_then(|limit| usize::try_from(limit).ok());
    let snapshot = tally.finish(time, netns, origin, limit);
    if args.count {
        writeln!(out, "{}", snapshot.states.total())?;
    } else {
        let mut asked = words::filter(&filter);
        asked.push(words::namespaces(&args.filter.netns, namespaces.len()));
        write(args, &snapshot, &asked, out)?;
    }
    Ok(out.flush()?)
}

/// Counts the sockets of one namespace into `tally`; how they were read.
fn read(source: SourceArg, namespace: &Namespace, filter: &Filter, tally: &mut Tally) -> anyhow::Result<Origin> {
    let inode = namespace.inode;
    let root = Path::new("/");
    let mut sockets = match source {
        SourceArg::Iter => {
            bail!("--source iter: this build has no BPF iterator (--source takes auto, sock_diag or proc)")
        }
        SourceArg::Auto => namespace.run(|| Sockets::open(root, inode))?,
        SourceArg::SockDiag => namespace.run(|| Sockets::sock_diag(inode))?,
        SourceArg::Proc => namespace.run(|| Sockets::proc(root, inode))?,
    };
    if filter.is_any_socket() && tally.needs_no_sockets() {
        tally.add_counts(&StateCounts::from(&sockets.count(filter.states)?), inode);
    } else {
        sockets.walk(filter.states, |socket| {
            if filter.matches_ends(socket) {
                tally.add(socket);
            }
        })?;
    }
    Ok(sockets.origin())
}

/// Writes `snapshot` in the form asked for; `asked` says the filter and the namespaces in words.
fn write(args: &SnapshotArgs, snapshot: &Snapshot, asked: &[String], out: &mut impl Write) -> io::Result<()> {
    match args.output.output {
        Output::Json => json::snapshot::write(out, snapshot),
        Output::Csv => csv::snapshot::write(out, snapshot),
        Output::Text => text::snapshot::write(out, snapshot, asked, terminal::screen(args.output.color)),
    }
}
