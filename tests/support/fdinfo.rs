//! What the kernel says about the BPF programs a process holds.

use std::collections::BTreeSet;
use std::fs;

/// One program a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) id: u32,
    pub(crate) recursion_misses: i64,
}

/// What a process has open of one kind, by the kernel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Object {
    Program(u32),
    Map(u32),
    Link(u32),
}

/// The BPF programs, maps and links `pid` holds by descriptors.
pub(crate) fn objects(pid: u32) -> BTreeSet<Object> {
    let mut objects = BTreeSet::new();
    for file in fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .into_iter()
        .flatten()
        .flatten()
    {
        // A descriptor may be gone before it is read.
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let object = match key {
                "prog_id" => Object::Program,
                "map_id" => Object::Map,
                "link_id" => Object::Link,
                _ => continue,
            };
            objects.insert(object(value.trim().parse().expect("a number")));
        }
    }
    objects
}

/// The BPF programs `pid` holds by a descriptor.
pub(crate) fn programs(pid: u32) -> Vec<Program> {
    let directory = fs::read_dir(format!("/proc/{pid}/fdinfo"));
    let files = directory.into_iter().flatten().flatten();
    // A descriptor may be gone before it is read.
    files
        .filter_map(|file| parse(&fs::read_to_string(file.path()).ok()?))
        .collect()
}

fn parse(text: &str) -> Option<Program> {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse::<i64>().ok())
    };
    // A link shows its program's id too, but no number of misses.
    let recursion_misses = field("recursion_misses:")?;
    Some(Program {
        id: u32::try_from(field("prog_id:")?).ok()?,
        recursion_misses,
    })
}

/// Runs of the programs of `pid` that the kernel skipped.
pub(crate) fn missed(pid: u32) -> i64 {
    programs(pid).iter().map(|program| program.recursion_misses).sum()
}
