//! Prints the results of the tests: a line for each test that ends, with its output if it failed. At the end, the slowest tests, and the
//! tests that failed with their panics.

use std::collections::BTreeSet;
use std::time::Duration;

use super::process::EndedTest;

/// How many of the slowest tests are listed.
const SLOWEST: usize = 10;

/// Precedes the name of a test that could not run, in what it prints.
const NOT_RUN: &str = "NOT RUN: ";

/// Lines of a panic that the end repeats.
const REPEATED_LINES: usize = 6;
/// Characters of each.
const REPEATED_CHARS: usize = 300;
/// Comes before the place of a panic.
const PANICKED: &str = " panicked at ";

/// What is known of the tests that ended.
#[derive(Debug, Default)]
pub(super) struct Summary {
    took: Vec<(Duration, String)>,
    failed: Vec<(String, EndedTest)>,
    not_run: BTreeSet<String>,
}

impl Summary {
    /// Prints the line of a test that ended, and keeps its outcome.
    pub(super) fn add(&mut self, label: String, outcome: EndedTest) {
        let result = outcome.failure.as_deref().unwrap_or("ok");
        eprint!("{}", outcome.stderr);
        eprintln!("test {label} ... {result} ({:.2} s)", outcome.took.as_secs_f64());
        self.took.push((outcome.took, label.clone()));
        let not_run = outcome.stderr.lines().filter_map(|line| line.split_once(NOT_RUN));
        self.not_run.extend(not_run.map(|(_, what)| what.to_owned()));
        if outcome.failure.is_some() {
            eprintln!("---- {label} ----\n{}----", outcome.stdout);
            self.failed.push((label, outcome));
        }
    }

    /// Whether every test passed.
    pub(super) fn all_passed(&self) -> bool {
        self.failed.is_empty()
    }

    /// The names of the tests that failed, each with what was wrong.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.failed
            .iter()
            .map(|(label, outcome)| (label.as_str(), outcome.failure.as_deref().unwrap_or_default()))
    }

    /// Tests that could not run, each with the reason. They count as passed.
    pub(super) fn not_run(&self) -> impl Iterator<Item = &str> {
        self.not_run.iter().map(String::as_str)
    }

    /// Prints the slowest tests, the tests that failed, and the tests that could not run. `took` is the time of all tests.
    pub(super) fn print(&mut self, took: Duration) {
        self.took.sort_unstable_by(|one, other| other.cmp(one));
        eprintln!("\nslowest:");
        for (took, label) in self.took.iter().take(SLOWEST) {
            eprintln!("{:8.2} s  {label}", took.as_secs_f64());
        }
        if !self.all_passed() {
            eprintln!("\nfailed:");
            for ((label, failure), (_, outcome)) in self.failures().zip(&self.failed) {
                eprintln!("  {label}: {failure}");
                for line in repeated(&outcome.stdout) {
                    eprintln!("    {line}");
                }
            }
        }
        if !self.not_run.is_empty() {
            eprintln!("\nNOT RUN:");
            self.not_run().for_each(|line| eprintln!("  {line}"));
        }
        let failed = self.failed.len();
        eprintln!(
            "\n{} passed, {failed} failed, in {:.0} s",
            self.took.len() - failed,
            took.as_secs_f64()
        );
    }
}

/// The first lines of the last panic in what a test printed: what the test itself failed by.
fn repeated(stdout: &str) -> Vec<String> {
    let lines: Vec<&str> = stdout.lines().collect();
    let is_first = |line: &&str| line.starts_with("thread '") && line.contains(PANICKED);
    let Some(first) = lines.iter().rposition(is_first) else {
        return Vec::new();
    };
    let is_over = |line: &&&str| line.is_empty() || line.starts_with("note: ") || line.starts_with("stack backtrace:");
    let panic = lines[first..].iter().take_while(|line| !is_over(line));
    let panic = panic.map(|line| line.split_once(PANICKED).map_or(*line, |(_, place)| place));
    let cut = |line: &str| line.chars().take(REPEATED_CHARS).collect();
    panic.take(REPEATED_LINES).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_test_failed_by_is_repeated() {
        let stdout = "\nthread 'main' (4) panicked at a.rs:1:5:\nearlier\n\nthread 'b::c' (12) panicked at b.rs:7:9:\n`left == \
                      right`\n  left: 'f' (1)\n right: 2\nnote: run with more\n\nfailures:\n";
        let panic = ["b.rs:7:9:", "`left == right`", "  left: 'f' (1)", " right: 2"];
        assert_eq!(repeated(stdout), panic);
        assert_eq!(repeated("running 1 test\n"), [""; 0], "no panic");
    }
}
