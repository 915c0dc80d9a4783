//! `snapshot` as text: a line with the filter and the total, then bars or a table.

use std::io::{self, Write};

use super::fit::write_prose;
use crate::model::format::several;
use crate::model::snapshot::{Origin, Snapshot};
use crate::view::screen::Screen;
use crate::view::text::{bars, group_table};
use crate::view::words;

/// Writes `snapshot`; `scope` are the filter and the namespaces in words.
///
/// # Errors
/// `out` cannot be written to.
pub fn write(out: &mut impl Write, snapshot: &Snapshot, scope: &[String], screen: Screen) -> io::Result<()> {
    let total = snapshot.states.total();
    write_heading(out, scope, total, &snapshot.origin, screen)?;
    if total == 0 {
    } else if snapshot.by.is_empty() {
        bars::write(out, &snapshot.states, screen)?;
    } else {
        group_table::write(out, snapshot, screen)?;
    }
    match snapshot.unseen.as_ref().and_then(words::unseen) {
        Some(unseen) => write_prose(&unseen, 0, screen, out),
        None => Ok(()),
    }
}

/// Writes the selection and the number of sockets. If netlink was refused, also that they were read from /proc.
pub(super) fn write_heading(
    out: &mut impl Write,
    scope: &[String],
    total: u64,
    origin: &Origin,
    screen: Screen,
) -> io::Result<()> {
    let mut heading = scope.to_vec();
    heading.push(several(total, "socket", "sockets"));
    if let Origin::Proc { refused: Some(why) } = origin {
        heading.push(format!("read from /proc/net/tcp: netlink refused ({why})"));
    }
    write_prose(&heading.join(", "), 0, screen, out)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::input::socket::{Address, Family, Kind, Socket};
    use crate::input::socket_owner::SocketOwner;
    use crate::input::socket_owner::Unseen;
    use crate::model::snapshot::GroupBy;
    use crate::model::snapshot::SnapshotBuilder;

    fn socket(remote: &str, state: TcpState) -> Socket {
        let address = |text: &str| Address::new(text.parse().unwrap(), 0);
        Socket {
            family: Family::Ipv4,
            state,
            kind: Some(Kind::Full),
            local: address("10.0.0.5"),
            lport: 8080,
            remote: address(remote),
            rport: 40000,
            uid: None,
            inode: None,
            netns: 9,
        }
    }

    /// 1,311 sockets with 10.0.3.17, 101 with 10.0.3.22, and one with each of three others.
    fn snapshot(by: &[GroupBy], limit: Option<usize>, origin: Origin) -> Snapshot {
        let mut builder = SnapshotBuilder::new(by);
        for (remote, state, sockets) in [
            ("10.0.3.17", TcpState::Established, 1290),
            ("10.0.3.17", TcpState::TimeWait, 12),
            ("10.0.3.17", TcpState::CloseWait, 9),
            ("10.0.3.22", TcpState::Established, 83),
            ("10.0.3.22", TcpState::TimeWait, 18),
            ("10.0.4.1", TcpState::TimeWait, 1),
            ("10.0.4.2", TcpState::TimeWait, 1),
            ("10.0.4.3", TcpState::TimeWait, 1),
        ] {
            for _ in 0..sockets {
                builder.add(&socket(remote, state), &SocketOwner::default());
            }
        }
        builder.finish(Timestamp::UNIX_EPOCH, Some(9), origin, limit)
    }

    fn text(snapshot: &Snapshot, width: usize) -> String {
        let mut out = Vec::new();
        write(
            &mut out,
            snapshot,
            &["this network namespace".into()],
            Screen::plain(width),
        )
        .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_has_columns_of_the_states_that_occur_and_a_line_for_the_other_groups() {
        let want = "this network namespace, 1,415 sockets\n\
            remote     total  ESTAB  TIME_WAIT  CLOSE_WAIT\n\
            10.0.3.17  1,311  1,290         12           9\n\
            10.0.3.22    101     83         18           ·\n\
            other (3)      3      ·          3           ·\n";
        assert_eq!(text(&snapshot(&[GroupBy::Remote], Some(2), Origin::SockDiag), 80), want);
    }

    #[test]
    fn narrow_terminals_get_short_names_of_states() {
        let want = "this network namespace, 1,415 sockets\n\
            remote     lport  total  estab  tw  clwt\n\
            10.0.3.17  8080   1,311  1,290  12     9\n\
            other (4)           104     83  21     ·\n";
        assert_eq!(
            text(
                &snapshot(&[GroupBy::Remote, GroupBy::Lport], Some(1), Origin::SockDiag),
                40
            ),
            want
        );
    }

    #[test]
    fn groups_by_state_have_no_columns_of_states() {
        let table = text(&snapshot(&[GroupBy::State], None, Origin::Iter), 80);
        assert!(table.contains("established  1,373\n"), "{table}");
        assert!(!table.contains("ESTAB"));
    }

    #[test]
    fn the_last_line_names_owners_that_could_not_be_seen() {
        let unseen = Some(Unseen {
            sockets: 3,
            processes: 2,
            ..Unseen::default()
        });
        let partial = Snapshot {
            unseen,
            ..snapshot(&[GroupBy::Process], None, Origin::SockDiag)
        };
        let line = "3 sockets have an unknown owner: 2 processes could not be read\n";
        let text_of_all = text(&partial, 80);
        assert!(
            text_of_all.contains("\n?        1,415  ") && text_of_all.ends_with(line),
            "{text_of_all}"
        );
        let none = SnapshotBuilder::new(&[]).finish(Timestamp::UNIX_EPOCH, None, Origin::SockDiag, None);
        let none = text(&Snapshot { unseen, ..none }, 80);
        assert_eq!(none, format!("this network namespace, 0 sockets\n{line}"));
    }

    #[test]
    fn the_first_line_names_proc_as_the_source_and_counts_zero() {
        let refused = Origin::Proc {
            refused: Some("not permitted".into()),
        };
        let bars = text(&snapshot(&[], None, refused.clone()), 120);
        assert!(bars.starts_with(
            "this network namespace, 1,415 sockets, read from /proc/net/tcp: netlink refused (not permitted)\n  ESTAB"
        ));
        let empty =
            SnapshotBuilder::new(&[GroupBy::Remote]).finish(Timestamp::UNIX_EPOCH, None, Origin::SockDiag, None);
        assert_eq!(text(&empty, 80), "this network namespace, 0 sockets\n");
    }
}
