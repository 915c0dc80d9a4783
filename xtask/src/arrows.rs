//! The arrows between the rooms of `tcpwatch/src`: what each may use of the others. ARCHITECTURE.md draws them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and those that it may use.
const ROOMS: [(&str, &[&str]); 12] = [
    (
        "commands",
        &[
            "cli", "engine", "view", "source", "doctor", "detect", "explain", "model", "input", "clock", "sys",
        ],
    ),
    ("cli", &["view", "explain", "model", "input"]),
    ("engine", &["view", "source", "detect", "model", "input", "sys"]),
    ("view", &["doctor", "detect", "explain", "model", "input"]),
    ("source", &["model", "input", "clock", "sys"]),
    ("doctor", &["detect", "explain", "model", "input"]),
    ("detect", &["explain", "model", "input"]),
    ("explain", &["model", "input"]),
    ("model", &["input"]),
    ("input", &[]),
    ("clock", &["sys"]),
    ("sys", &["input"]),
];

/// What a file may not use, and does: `model/world.rs uses source`.
fn wrong(file: &str, source: &str) -> Vec<String> {
    let room = file.split(['/', '.']).next().unwrap_or_default();
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{file} is in no room")];
    };
    let used = used(source);
    let known = used.iter().filter(|name| ROOMS.iter().any(|(room, _)| room == *name));
    let others = known.filter(|name| *name != room && !allowed.contains(&name.as_str()));
    others.map(|name| format!("{file} uses {name}")).collect()
}

/// The names that follow `crate::` in the code of a file, without its comments and its unit tests.
fn used(source: &str) -> BTreeSet<String> {
    let code = source.split("mod tests {").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut names = BTreeSet::new();
    for line in lines {
        for after in line.split("crate::").skip(1) {
            let grouped = after.strip_prefix('{').map(|group| group.split(','));
            let firsts: Vec<&str> = grouped.map_or_else(|| vec![after], Iterator::collect);
            for first in firsts {
                let name: String = first
                    .trim()
                    .chars()
                    .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
                    .collect();
                names.insert(name);
            }
        }
    }
    names
}

/// The Rust files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn arrows_point_down_only() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tcpwatch/src");
    let mut all = Vec::new();
    let files = files(&top);
    assert!(files.len() > 100, "the project's files are elsewhere");
    for path in files {
        let name = path.strip_prefix(&top).expect("below it").display().to_string();
        // Only below the project's folder: that may lie in one called `tests`.
        let has_only_tests = name.split('/').any(|part| ["tests", "tests.rs"].contains(&part));
        if !has_only_tests && !["main.rs", "lib.rs"].contains(&name.as_str()) {
            all.extend(wrong(&name, &fs::read_to_string(&path).expect("a file")));
        }
    }
    assert_eq!(all, [""; 0], "ARCHITECTURE.md says why");
}

#[test]
fn a_wrong_arrow_is_found_and_comments_and_tests_are_none() {
    let source = "#[cfg(test)]\nmod tests;\nuse crate::{clock, sys::netns};\n// crate::view\nfn f() -> crate::source::live::Live {}\n\
                  #[cfg(test)]\nmod tests {\n    use crate::view::View;\n}\n";
    assert_eq!(
        wrong("model/world.rs", source),
        [
            "model/world.rs uses clock",
            "model/world.rs uses source",
            "model/world.rs uses sys"
        ]
    );
    assert_eq!(wrong("commands/stat.rs", source), [""; 0]);
    assert_eq!(wrong("attic/old.rs", ""), ["attic/old.rs is in no room"]);
}

#[test]
fn the_document_has_the_same_table() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let document = fs::read_to_string(document).expect("ARCHITECTURE.md");
    for (room, allowed) in ROOMS {
        let line = document.lines().find(|line| line.starts_with(&format!("| `{room}` |")));
        let cell = line
            .and_then(|line| line.split('|').nth(3))
            .expect("a line of each room");
        let names: BTreeSet<&str> = cell.split('`').skip(1).step_by(2).collect();
        let all = cell.trim() == "all below";
        assert!(all || names == allowed.iter().copied().collect(), "{room}: {cell}");
    }
}
