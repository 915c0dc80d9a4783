//! `replay`, `completions` and `man`, without privileges.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use tcpwatch::record::{Header, Recorder};

use crate::run::{Unprivileged, finish};

#[test]
fn what_is_no_recording_is_refused_in_one_line() {
    let nobody = Unprivileged::new();
    let place = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).expect("a directory of ours");
    let make = |name: &str, index: Option<&str>| {
        let dir = place.path().join(name);
        fs::create_dir(&dir).expect("a directory");
        if let Some(index) = index {
            fs::write(dir.join("index"), index).expect("a file");
        }
    };
    make("none", None);
    make("empty", Some(""));
    make("noise", Some("\u{0}\n\n\n"));
    make(
        "newer",
        Some("00000000 {\"run\":{\"format\":9,\"of\":\"the future\"}}\n"),
    );
    for (name, why) in [
        ("missing", "it does not exist"),
        ("none", "has no index"),
        ("empty", "its index is empty"),
        ("noise", "line 1 of its index"),
        (
            "newer",
            "its format is 9, and this tcpwatch reads up to 1; try a newer tcpwatch",
        ),
    ] {
        let dir = place.path().join(name);
        let finished = finish(&nobody.tcpwatch(&["replay", dir.to_str().expect("UTF-8")]));
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
        assert!(finished.stderr.contains(why), "{finished:?}");
    }
}

#[test]
fn a_recording_without_inputs_leaves_nothing() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let dir = place.path().join("recording");
    let recorder = Recorder::create(&dir, &Header::new(Vec::new()), None).expect("a new directory");
    recorder.finish(true).expect("nothing to write");
    assert!(!dir.exists());
}

#[test]
fn completions_and_manual_pages_name_all_commands() {
    let nobody = Unprivileged::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let finished = finish(&nobody.tcpwatch(&["completions", shell]));
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
        assert!(
            finished.stdout.contains("netns") && finished.stdout.contains("replay"),
            "{shell}"
        );
    }
    for (command, word) in [("stat", "tcpwatch\\-stat"), ("leaks", "fail\\-if\\-leak")] {
        let page = finish(&nobody.tcpwatch(&["man", command]));
        assert_eq!((page.code, page.stderr.as_str()), (Some(0), ""), "{page:?}");
        assert!(page.stdout.contains(".TH") && page.stdout.contains(word), "{page:?}");
    }
    let page = finish(&nobody.tcpwatch(&["man"])).stdout;
    for command in [
        "stat", "trace", "life", "churn", "latency", "leaks", "snapshot", "record", "replay",
    ] {
        assert!(page.contains(command), "{command}: {page}");
    }
    finish(&nobody.tcpwatch(&["man", "nonsense"])).refuses(2, "nonsense: no such command");
}
