//! Commands that need no root.

use crate::run::{Unprivileged, finish};

#[test]
fn snapshot_prints_every_state() {
    let nobody = Unprivileged::new();
    for source in ["auto", "sock_diag", "proc"] {
        let finished = finish(&nobody.tcpwatch(&["snapshot", "-o", "json", "--source", source]));
        assert_eq!(
            (finished.code, finished.stderr.as_str()),
            (Some(0), ""),
            "--source {source}: {finished:?}"
        );
        let json: serde_json::Value = serde_json::from_str(&finished.stdout).expect("one object");
        assert_eq!(json["schema"], "tcpwatch.snapshot/1");
        assert_eq!(json["states"].as_object().expect("states").len(), 11, "{json}");
    }
}

#[test]
fn count_prints_a_bare_number() {
    let finished = finish(&Unprivileged::new().tcpwatch(&["snapshot", "--count"]));
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished
        .stdout
        .trim_end_matches('\n')
        .parse::<u64>()
        .unwrap_or_else(|error| panic!("{error}: {finished:?}"));
}

#[test]
fn every_csv_line_has_as_many_fields_as_the_header() {
    let finished = finish(&Unprivileged::new().tcpwatch(&["snapshot", "-o", "csv"]));
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let fields: Vec<usize> = finished.stdout.lines().map(|line| line.split(',').count()).collect();
    assert!(fields.len() >= 2, "a header and a row: {finished:?}");
    assert!(fields.iter().all(|&count| count == fields[0]), "{finished:?}");
}

#[test]
fn help_and_version_are_printed() {
    let nobody = Unprivileged::new();
    for (args, word) in [
        (&["--help"][..], "snapshot"),
        (&["trace", "--help"], "--lport"),
        (&["--version"], "tcpwatch"),
    ] {
        let finished = finish(&nobody.tcpwatch(args));
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
        assert!(finished.stdout.contains(word), "{word:?} is not in it: {finished:?}");
    }
    let finished = finish(&nobody.tcpwatch(&["--version", "-v"]));
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for word in ["abi", "hook"] {
        assert!(
            finished.stdout.to_lowercase().contains(word),
            "{word:?} is not in it: {finished:?}"
        );
    }
}
