//! Fuzz targets: each gives bytes to parsers of tcpwatch, and checks what they make of them.
//!
//! `cargo xtask fuzz` runs them under libFuzzer. The environment variable `FUZZ_TARGET` selects one. The tests of this program give each
//! target its seeds.

#![cfg_attr(not(test), no_main)]
#![expect(clippy::expect_used, reason = "a target panics where something is wrong")]

mod memory;
mod on_purpose;
mod tree;

mod btf;
mod cgroup;
mod format;
mod functions;
mod host;
mod netlink;
mod perf_map;
mod proc_net;
mod process;
mod recording;
mod records;
mod reply;
mod sysctl_d;
mod unwind;

/// A target: it panics where a parser is wrong.
type Target = fn(&[u8]);

/// The targets by name.
const TARGETS: [(&str, Target); 14] = [
    ("btf", btf::run),
    ("cgroup", cgroup::run),
    ("format", format::run),
    ("functions", functions::run),
    ("host", host::run),
    ("netlink", netlink::run),
    ("perf_map", perf_map::run),
    ("proc_net", proc_net::run),
    ("process", process::run),
    ("recording", recording::run),
    ("records", records::run),
    ("reply", reply::run),
    ("sysctl_d", sysctl_d::run),
    ("unwind", unwind::run),
];

/// The target that the environment names, or one that fails on purpose.
#[cfg_attr(test, expect(dead_code, reason = "the tests run all targets"))]
fn selected() -> Target {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let mut all = TARGETS.iter().chain(&on_purpose::TARGETS);
    let found = all.find_map(|&(target, run)| (target == name).then_some(run));
    found.unwrap_or_else(|| {
        eprintln!("FUZZ_TARGET={name} is no target; try cargo xtask fuzz");
        std::process::exit(2);
    })
}

#[cfg(not(test))]
mod entry {
    use std::sync::OnceLock;

    use super::{Target, selected};

    static RUN: OnceLock<Target> = OnceLock::new();

    libfuzzer_sys::fuzz_target!(init: RUN.get_or_init(selected), |data: &[u8]| {
        RUN.get_or_init(selected)(data);
    });
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::TARGETS;

    fn seeds() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds"))
    }

    #[test]
    fn each_target_has_seeds_and_they_find_nothing() {
        for (name, run) in TARGETS {
            let seeds = fs::read_dir(seeds().join(name)).unwrap();
            let seeds: Vec<PathBuf> = seeds.map(|seed| seed.unwrap().path()).collect();
            assert!(!seeds.is_empty(), "{name} has no seed");
            for seed in seeds {
                println!("{}", seed.display());
                run(&fs::read(seed).unwrap());
            }
        }
    }

    #[test]
    fn each_folder_of_seeds_is_of_a_target() {
        let folders = fs::read_dir(seeds()).unwrap();
        let mut folders: Vec<String> = folders
            .map(|folder| folder.unwrap().file_name().into_string().unwrap())
            .collect();
        folders.sort();
        assert_eq!(folders, TARGETS.map(|(name, _)| name));
    }
}
