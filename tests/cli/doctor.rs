//! `doctor` without root, on trees copied from hosts.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::run::{Finished, Unprivileged, finish, tcpwatch};

/// The folder of the copied trees, each beside the expected output.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/doctor")
}

/// The trees, and whether `doctor` should find a problem there.
const TREES: [(&str, bool); 5] = [
    ("4.9-tw-recycle", true),
    ("6.1-listen-overflow", true),
    ("healthy", false),
    ("garbage", false),
    ("bare", false),
];

fn doctor(root: &Path, more: &[&str]) -> Finished {
    let root = root.to_str().expect("UTF-8");
    finish(&tcpwatch(&[&["doctor", "--root", root], more].concat()))
}

/// Parses findings, one object per line.
fn findings(output: &str) -> Vec<Value> {
    let lines = output.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("one object a line")
}

/// The expected output was written by hand, and is compared word for word.
#[test]
fn copied_trees_get_the_expected_report() {
    for (tree, wrong) in TREES {
        let root = fixtures().join(tree);
        let expected = |form: &str| fs::read_to_string(fixtures().join(format!("{tree}.{form}"))).expect("it is there");
        let text = doctor(&root, &[]);
        assert_eq!((text.code, text.stderr.as_str()), (Some(0), ""), "{tree}");
        assert_eq!(text.stdout, expected("txt"), "{tree}");
        let json = doctor(&root, &["-o", "json"]);
        assert_eq!(json.code, Some(0), "{tree}");
        let mut found = findings(&json.stdout);
        for finding in &mut found {
            let time = finding.as_object_mut().and_then(|object| object.remove("time"));
            assert!(time.is_some_and(|time| time.is_string()), "{finding}");
        }
        assert_eq!(found, findings(&expected("json")), "{tree}");
        let strict = doctor(&root, &["--strict"]);
        assert_eq!(strict.code, Some(if wrong { 3 } else { 0 }), "{tree}");
        assert_eq!(strict.stdout, text.stdout, "{tree}");
    }
}

/// JSON has no place for files that could not be read.
#[test]
fn missing_files_are_named_on_stderr() {
    let finished = doctor(&fixtures().join("bare"), &["-o", "json"]);
    assert!(finished.stderr.contains("/proc/net: not copied"), "{finished:?}");
    assert!(
        finished
            .stdout
            .contains("tcp_fin_timeout is unknown (default 60): No such file"),
        "{finished:?}"
    );
}

/// Every setting has a line, and none has advice, because nothing can be read.
#[test]
fn unreadable_trees_give_no_advice() {
    let root = tempfile::tempdir().expect("a directory");
    let at = |path: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        path
    };
    let check = |what: &str| {
        let finished = doctor(root.path(), &["--strict", "-o", "json"]);
        assert_eq!(finished.code, Some(0), "{what}: {finished:?}");
        let found = findings(&finished.stdout);
        assert_eq!(found.len(), 23, "{what}");
        assert!(
            found.iter().all(|finding| finding["advice"] == Value::Array(vec![])),
            "{what}: {found:?}"
        );
        let text = doctor(root.path(), &[]);
        assert!(!text.stdout.contains(['\x1b', '\0']), "{what}");
        assert!(text.stdout.len() < 20_000, "{what}: {}", text.stdout.len());
    };
    doctor(root.path(), &["--strict"]).refuses(1, "no proc/sys, no proc/net and no etc");
    fs::write(at("proc/net/snmp"), vec![b'x'; 8 << 20]).expect("a file");
    fs::write(at("proc/net/tcp"), vec![b'\n'; 8 << 20]).expect("a file");
    fs::write(at("proc/sys/net/core/somaxconn"), vec![b'7'; 1 << 20]).expect("a file");
    fs::write(at("etc/sysctl.conf"), vec![b'='; 8 << 20]).expect("a file");
    check("huge files");
    symlink("tcp_timestamps", at("proc/sys/net/ipv4/tcp_timestamps")).expect("a link");
    symlink("../../proc", at("proc/self")).expect("a link");
    symlink(".", at("etc/sysctl.d")).expect("a link");
    check("circular links");
    let fifo = at("proc/sys/net/ipv4/tcp_retries2");
    let made = Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .expect("mkfifo, from coreutils, starts");
    assert!(made.success());
    check("a pipe without a writer");
    fs::create_dir_all(at("proc/sys/net/ipv4/tcp_syncookies/x")).expect("a directory");
    symlink("/proc/kmsg", at("proc/sys/fs/nr_open")).expect("a link");
    symlink("/dev/zero", at("proc/sys/fs/file-max")).expect("a link");
    check("directories and devices");
}

#[test]
fn a_file_without_permission_is_reported_as_unknown() {
    let root = tempfile::tempdir().expect("a directory");
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let ipv4 = root.path().join("proc/sys/net/ipv4");
    fs::create_dir_all(&ipv4).expect("directories");
    fs::write(ipv4.join("tcp_fin_timeout"), "30\n").expect("a file");
    fs::set_permissions(ipv4.join("tcp_fin_timeout"), fs::Permissions::from_mode(0o000)).expect("chmod");
    let nobody = Unprivileged::new();
    let root = root.path().to_str().expect("UTF-8");
    let finished = finish(&nobody.tcpwatch(&["doctor", "--root", root, "-o", "json"]));
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished
            .stdout
            .contains("tcp_fin_timeout is unknown (default 60): Permission denied"),
        "{finished:?}"
    );
}

#[test]
fn a_wrong_root_or_namespace_is_refused() {
    let too_deep = fixtures().join("healthy/proc");
    doctor(&too_deep, &["--strict"]).refuses(1, "the top of a tree");
    finish(&tcpwatch(&["doctor", "--root", "/nowhere"])).refuses(1, "try --root");
    finish(&tcpwatch(&["doctor", "--root", "/dev/null"])).refuses(1, "Not a directory");
    finish(&tcpwatch(&["doctor", "--netns", "4194305"])).refuses(1, "no such process");
    finish(&tcpwatch(&["doctor", "--root", "/", "--netns", "all"])).refuses(2, "--netns");
    finish(&tcpwatch(&["doctor", "-o", "csv"])).refuses(2, "json");
}
