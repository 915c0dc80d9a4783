//! Nothing is left behind: when the program has ended, so have its BPF programs, maps and links, and no mount is new.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use aya::maps::loaded_maps;
use aya::programs::{loaded_links, loaded_programs};

use crate::nothing_left::traces;
use crate::support::clock::eventually;
use crate::support::fdinfo::{self, Object};
use crate::support::netns::in_netns_without_tracefs;
use crate::support::program::leaks::Leaks;
use crate::support::program::snapshot::snapshot;
use crate::support::program::trace::Trace;
use crate::support::program::{Hook, on_both_hooks};

/// Time between two walks. A walk opens each map and closes it again. Where the kernel is still clearing a jump table that nobody else
/// has open, closing it once more leaks the table (`prog_array_map_clear` takes a reference for work that is queued already; seen on
/// Linux 6.12): so the walks leave it time.
const BETWEEN_WALKS: Duration = Duration::from_secs(1);

on_both_hooks!(nothing_is_left);

fn nothing_is_left(hook: Hook) {
    in_netns_without_tracefs(|_| {
        let before = traces();
        let trace = Trace::start(hook, &[]);
        let leaks = Leaks::start(hook, "1", "1", &["--stacks"]);
        let mut objects = fdinfo::objects(trace.running().pid());
        objects.extend(fdinfo::objects(leaks.running().pid()));
        let loaded = loaded();
        for kind in [
            |object: &Object| matches!(object, Object::Program(_)),
            |object: &Object| matches!(object, Object::Map(_)),
        ] {
            let there = objects.iter().filter(|object| kind(object));
            assert!(there.clone().count() > 0, "{objects:?}");
            let unlisted: Vec<_> = there.filter(|object| !loaded.contains(object)).collect();
            assert!(unlisted.is_empty(), "the kernel lists what is loaded: {unlisted:?}");
        }
        snapshot(&["--source", "auto"]);
        trace.finish();
        leaks.finish(0);
        // The kernel frees them a moment after their last holder ended; maps come after the programs that use them.
        let gone = |what: &str, loaded: fn() -> BTreeSet<Object>| {
            eventually(what, || {
                thread::sleep(BETWEEN_WALKS);
                let loaded = loaded();
                let left: Vec<_> = objects.intersection(&loaded).collect();
                if left.is_empty() {
                    Ok(())
                } else {
                    Err(format!("{left:?} are there"))
                }
            });
        };
        gone("programs and links to be gone", all_programs_and_links);
        gone("maps to be gone", all_maps);
        assert_eq!(traces(), before);
    });
}

/// All BPF programs, maps and links of this kernel.
fn loaded() -> BTreeSet<Object> {
    &all_programs_and_links() | &all_maps()
}

/// All BPF programs and links. What goes between two steps of the walk is no longer there.
fn all_programs_and_links() -> BTreeSet<Object> {
    let programs = loaded_programs().flatten().map(|program| Object::Program(program.id()));
    let links = loaded_links().flatten().map(|link| Object::Link(link.id()));
    programs.chain(links).collect()
}

/// All BPF maps.
fn all_maps() -> BTreeSet<Object> {
    loaded_maps().flatten().map(|map| Object::Map(map.id())).collect()
}
