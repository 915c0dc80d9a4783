//! Text shows local times, also in a time zone that is named.

use std::fs;

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::support::clock::wall;
use crate::support::netns::in_netns;
use crate::support::program::run::{finish, tcpwatch};

/// A zone that is nine hours ahead, as tzfile(5) has it.
fn nine_hours_ahead() -> Vec<u8> {
    const NAME: &[u8; 4] = b"NIN\0";
    let counts: [u32; 6] = [0, 0, 0, 0, 1, 4];
    let block = [
        &b"TZif2"[..],
        &[0; 15],
        &counts.map(u32::to_be_bytes).concat(),
        &(9 * 3600_i32).to_be_bytes(),
        // No daylight saving time, and where the name begins.
        &[0, 0],
        NAME,
    ]
    .concat();
    // Once with times of 32 bits and once of 64, of which there are none.
    [&block[..], &block, b"\nNIN-9\n"].concat()
}

#[test]
fn by_its_name() {
    in_netns(|_| {
        let place = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(place.path().join("Some")).expect("a directory");
        fs::write(place.path().join("Some/Where"), nine_hours_ahead()).expect("a zone");
        let mut stat = tcpwatch(&["stat", "0.1", "1"]);
        stat.env("TZDIR", place.path()).env("TZ", "Some/Where");
        let finished = finish(&stat);
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
        let row = finished.stdout.lines().last().expect("a row");
        let shown = row.split_whitespace().next().expect("a time");
        let zone = TimeZone::fixed(Offset::constant(9));
        let now = Timestamp::try_from(wall()).expect("a time of today");
        // It was printed a moment ago.
        let recent = (0..300).map(|ago| now - SignedDuration::from_secs(ago));
        let mut recent = recent.map(|time| time.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string());
        assert!(recent.any(|time| time == shown), "{shown}, and now it is {now}");
    });
}
