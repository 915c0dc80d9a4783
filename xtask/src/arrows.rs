//! The arrows between the rooms of `tcpwatch/src`: what each may use of the others. ARCHITECTURE.md draws them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and those that it may use.
const ROOMS: [(&str, &[&str]); 14] = [
    (
        "commands",
        &[
            "cli",
            "engine",
            "view",
            "record",
            "source",
            "symboliser",
            "doctor",
            "detect",
            "explain",
            "model",
            "input",
            "clock",
            "sys",
        ],
    ),
    ("cli", &["view", "explain", "model", "input"]),
    (
        "engine",
        &["view", "record", "source", "detect", "model", "input", "sys"],
    ),
    ("view", &["doctor", "detect", "explain", "model", "input"]),
    ("record", &["input", "sys"]),
    ("source", &["symboliser", "model", "input", "clock", "sys"]),
    ("symboliser", &["input", "clock"]),
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
    let used = used(file, source);
    let known = used.iter().filter(|name| ROOMS.iter().any(|(room, _)| room == *name));
    let others = known.filter(|name| *name != room && !allowed.contains(&name.as_str()));
    let unread = used.iter().filter(|name| name.is_empty());
    let unread = unread.map(|_| format!("{file} has a path from the crate's root that cannot be read"));
    others.map(|name| format!("{file} uses {name}")).chain(unread).collect()
}

/// The names that follow `crate::`, or as many `super::` as lead there, in the code of `file`, without its comments and its unit
/// tests. An empty name stands for one that cannot be read.
fn used(file: &str, source: &str) -> BTreeSet<String> {
    let code = source.split("mod tests {").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    // Without blanks, a path or a group of several lines is one word.
    let code: String = lines
        .flat_map(str::chars)
        .filter(|letter| !letter.is_whitespace())
        .collect();
    let depth = file.trim_end_matches("/mod.rs").matches('/').count() + 1;
    let above = "super::".repeat(depth);
    let mut names = BTreeSet::new();
    for root in ["crate::", &above] {
        for after in code.split(root).skip(1) {
            match after.strip_prefix('{') {
                Some(group) => names.extend(group_names(group)),
                None => _ = names.insert(first_name(after)),
            }
        }
    }
    names
}

/// The first names of the paths in a group that its closing brace ends: `clock,sys::{netns,caps}}`.
fn group_names(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                // A comma may precede the brace.
                if at > start {
                    names.push(first_name(&group[start..at]));
                }
                start = at + 1;
                if letter == '}' {
                    return names;
                }
            }
            _ => {}
        }
    }
    vec![String::new()]
}

/// The name at the beginning of `path`.
fn first_name(path: &str) -> String {
    let is_name = |letter: &char| letter.is_alphanumeric() || *letter == '_';
    path.chars().take_while(is_name).collect()
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
    let lines = "use crate::{\n    clock,\n    model::{\n        frame,\n        sys,\n    },\n    sys::{netns, view},\n};\n\
                 fn f() { crate::source\n    ::live() }\n";
    assert_eq!(
        wrong("model/world.rs", lines),
        [
            "model/world.rs uses clock",
            "model/world.rs uses source",
            "model/world.rs uses sys"
        ]
    );
    let above = "use super::super::view::View;\nuse super::sys;\n";
    assert_eq!(wrong("model/world.rs", above), ["model/world.rs uses view"]);
    assert_eq!(wrong("model/world/mod.rs", above), ["model/world/mod.rs uses view"]);
    assert_eq!(wrong("model/ports/row.rs", above), [""; 0]);
    assert_eq!(
        wrong("model/world.rs", "use crate::{clock;"),
        ["model/world.rs has a path from the crate's root that cannot be read"]
    );
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
