//! The page for users: what works on which kernel, and why the rest does not.

use super::results::{Column, KernelOutcome, Run};

const HEAD: &str = "\
<!-- Written by `cargo xtask kernels`: change xtask/src/kernels/page.rs and run that, not this file. -->

# Kernels

tcpwatch needs Linux 5.10 or later. The statically linked program was tested on each kernel of this table. It watched 20 connections
of each kind in IPv4 and in IPv6: active, passive and half closes, linger and unread resets, refused connects. \"yes\" means that every
number, owner and ending was right, on both hooks. The cells of a kernel that was not tested are empty. Releases with `cloud` in their
names are Debian's kernels for virtual machines.
";

const FEATURES: &str = "\
## Features

`tcpwatch --version -v` lists the features of the kernel it runs on. The number after \"off\" is that of the reason below the table.
tcpwatch prints `?`, and `null` in JSON, for a value that needs a feature which is off.
";

const STATISTICS: &str = "\
## What the verifier processes

Each cell shows the instructions that the kernel's verifier processes for a BPF program, and the most bytes of stack that a chain of
its calls can take. The kernel refuses a program that needs more than 1,000,000 instructions or 512 bytes. The tests fail above 250,000
instructions or 400 bytes. An empty cell: tcpwatch does not load the program, because this kernel lacks a feature or a tracepoint field
that the program needs.
";

/// Modules of the suite's matrix, and what each shows.
const ROWS: [(&str, &str); 15] = [
    ("stat", "`stat`"),
    ("trace", "`trace`"),
    ("lives", "`life`"),
    ("churn", "`churn`"),
    ("latency", "`latency`"),
    ("leaks", "`leaks --watch --stacks`"),
    ("snapshot", "`snapshot`, from every source"),
    ("doctor", "`doctor`"),
    ("skipped_runs", "nothing is missed where the kernel skips runs"),
    ("seccomp", "one line where bpf(2) is refused"),
    ("limits", "one line where memory or a capability is missing"),
    ("nothing_left", "leaves nothing behind"),
    ("kernel_log", "the kernel logs no warning"),
    ("features", "`--version -v` lists the hooks that attach"),
    ("verifier", "BPF programs have room to spare"),
];

/// The page; where `stats`, with the statistics of the verifier.
pub(super) fn page(columns: &[Column], stats: bool) -> String {
    let mut lines = vec![HEAD.to_owned()];
    lines.extend(head(columns));
    lines.push(row("tested on", columns.iter().map(release)));
    let modules = distinct(columns, |run| {
        run.tests.keys().filter_map(|test| module(test)).collect()
    });
    let known = ROWS.iter().filter(|(module, _)| modules.contains(module)).copied();
    let others = modules
        .iter()
        .filter(|module| ROWS.iter().all(|(known, _)| known != *module));
    for (module, name) in known.chain(others.map(|module| (*module, *module))) {
        lines.push(row(name, cells(columns, |run| works(run, module))));
    }
    lines.push(String::new());
    lines.extend(columns.iter().filter_map(why_untested));
    lines.extend(features(columns));
    if stats {
        lines.extend(statistics(columns));
    }
    let page = lines.join("\n");
    format!("{}\n", page.trim_end())
}

/// What each kernel offers, and why the rest is off.
fn features(columns: &[Column]) -> Vec<String> {
    let names = distinct(columns, |run| {
        run.features.iter().map(|feature| feature.name.as_str()).collect()
    });
    if names.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![FEATURES.to_owned()];
    lines.extend(head(columns));
    let reasons = distinct(columns, |run| {
        run.features
            .iter()
            .filter_map(|feature| feature.off.as_deref())
            .collect()
    });
    for name in names {
        let cell = |run: &Run| {
            let feature = run.features.iter().find(|feature| feature.name == name);
            feature.map_or_else(String::new, |feature| {
                let place = reasons
                    .iter()
                    .position(|reason| Some(*reason) == feature.off.as_deref());
                place.map_or_else(|| "on".to_owned(), |place| format!("off ({})", place + 1))
            })
        };
        lines.push(row(&format!("`{name}`"), cells(columns, cell)));
    }
    lines.push(String::new());
    let numbered = reasons.iter().enumerate();
    lines.extend(numbered.map(|(place, reason)| format!("{}. {reason}", place + 1)));
    lines.push(String::new());
    lines
}

/// The statistics of the verifier.
fn statistics(columns: &[Column]) -> Vec<String> {
    let names = distinct(columns, |run| {
        run.programs.iter().map(|program| program.name.as_str()).collect()
    });
    let mut lines = vec![STATISTICS.to_owned()];
    lines.extend(head(columns));
    for name in names {
        let figures = |run: &Run| {
            let program = run.programs.iter().find(|program| program.name == name);
            program.map_or_else(String::new, |program| {
                format!("{}, {} B", grouped(program.instructions), program.stack)
            })
        };
        lines.push(row(&format!("`{name}`"), cells(columns, figures)));
    }
    lines
}

/// The head of a table, and the line below it.
fn head(columns: &[Column]) -> [String; 2] {
    let versions = columns.iter().map(|column| column.version.clone());
    [row("", versions), row("---", columns.iter().map(|_| "---".to_owned()))]
}

/// A row of a table.
fn row(name: &str, cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {name} | {} |", cells.join(" | "))
}

/// A cell for each kernel; empty where nothing ran.
fn cells(columns: &[Column], cell: impl Fn(&Run) -> String) -> Vec<String> {
    columns
        .iter()
        .map(|column| column.run().map_or_else(String::new, &cell))
        .collect()
}

/// All names that any run has, in the order in which they come first.
fn distinct<'a>(columns: &'a [Column], names: impl Fn(&'a Run) -> Vec<&'a str>) -> Vec<&'a str> {
    let mut all = Vec::new();
    for name in columns.iter().filter_map(Column::run).flat_map(names) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// Which kernel was tested.
fn release(column: &Column) -> String {
    match &column.outcome {
        KernelOutcome::Ran(run) => run.release.clone(),
        KernelOutcome::Untested(_) => "untested".to_owned(),
        KernelOutcome::Broken(_) => "failed to start".to_owned(),
    }
}

fn why_untested(column: &Column) -> Option<String> {
    match &column.outcome {
        KernelOutcome::Untested(why) => Some(format!("{} is untested: {why}.", column.version)),
        KernelOutcome::Ran(_) | KernelOutcome::Broken(_) => None,
    }
}

/// The module in `matrix::MODULE::TEST`.
fn module(test: &str) -> Option<&str> {
    test.strip_prefix("matrix::")?.split("::").next()
}

/// Whether all tests of a module passed; else which did, by the hook.
fn works(run: &Run, module: &str) -> String {
    let tests = run.tests.iter().filter(|(test, _)| self::module(test) == Some(module));
    let (passed, failed): (Vec<_>, Vec<_>) = tests.partition(|(_, passed)| **passed);
    if failed.is_empty() {
        return if passed.is_empty() { "" } else { "yes" }.to_owned();
    }
    let hooks: Vec<&str> = passed.iter().filter_map(|(test, _)| test.rsplit("::").next()).collect();
    if hooks.is_empty() {
        "no".to_owned()
    } else {
        format!("{} alone", hooks.join(", "))
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::results::{Column, KernelOutcome, Run};
    use super::{grouped, page};

    fn column(version: &str, outcome: KernelOutcome) -> Column {
        Column {
            version: version.to_owned(),
            outcome,
        }
    }

    fn ran(text: &str) -> KernelOutcome {
        KernelOutcome::Ran(Run::read(text, Duration::ZERO))
    }

    #[test]
    fn a_cell_shows_what_works() {
        let columns = [
            column(
                "5.10",
                ran("release 5.10.0\nfeatures\n\
                    {\"features\":[{\"name\":\"cookies\",\"on\":false,\"reason\":\"unknown func|x\"}]}\nsuite\n\
                    test matrix::stat::equals::tp_btf ... ok\ntest matrix::stat::equals::tracepoint ... FAILED\n\
                    test matrix::trace::equals::tp_btf ... FAILED\n\
                    verifier\n{\"name\":\"set_state\",\"instructions\":12345,\"stack\":[64,32]}\nexit 101\n"),
            ),
            column("6.1", KernelOutcome::Untested("Debian serves no kernel 6.1".to_owned())),
            column(
                "7.3",
                ran(
                    "release 7.3.4\nfeatures\n{\"features\":[{\"name\":\"cookies\",\"on\":true}]}\nsuite\n\
                    test matrix::stat::equals::tp_btf ... ok\ntest matrix::stat::equals::tracepoint ... ok\n\
                    test matrix::other::test ... ok\nverifier\nexit 0\n",
                ),
            ),
        ];
        let page = page(&columns, true);
        for line in [
            "|  | 5.10 | 6.1 | 7.3 |",
            "| tested on | 5.10.0 | untested | 7.3.4 |",
            "| `stat` | tp_btf alone |  | yes |",
            "| `trace` | no |  |  |",
            "| other |  |  | yes |",
            "6.1 is untested: Debian serves no kernel 6.1.",
            "| `cookies` | off (1) |  | on |",
            "1. unknown func|x",
            "| `set_state` | 12,345, 96 B |  |  |",
        ] {
            assert!(page.lines().any(|there| there == line), "no {line:?} in {page}");
        }
        assert!(!super::page(&columns, false).contains("set_state"));
    }

    #[test]
    fn digits_are_grouped() {
        assert_eq!(
            [1, 123, 1234, 1_234_567].map(grouped),
            ["1", "123", "1,234", "1,234,567"]
        );
    }
}
