//! Runs tests, each in a process of its own and several at a time, and ends a test that takes too long.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::peers;
use super::process::TestProcess;
use super::summary::Summary;

/// The longest that a test may take. Most take a second, and the longest a minute and a half; a busy machine is several times slower.
pub(super) const LIMIT: Duration = Duration::from_mins(6);

/// Tests that run at a time, for each CPU: most of them wait for most of their time.
const TESTS_PER_CPU: usize = 2;

/// Time between two looks at the tests that run.
const PAUSE: Duration = Duration::from_millis(5);

/// A test harness that cargo built.
#[derive(Clone, Debug)]
pub(super) struct Harness {
    /// What the tests are called by, before their own names: `tcpwatch`, `kernel`.
    pub(super) name: String,
    /// The program.
    pub(super) executable: PathBuf,
    /// The folder of its package, where cargo starts tests.
    pub(super) package: PathBuf,
}

/// One test of a harness.
#[derive(Clone, Debug)]
pub(super) struct Test {
    harness: Harness,
    name: String,
}

impl Harness {
    /// Asks the harness for the tests that `arguments` select.
    fn tests(&self, arguments: &[OsString]) -> Result<Vec<Test>> {
        let output = self
            .command()
            .args(["--list", "--format=terse"])
            .args(arguments)
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start {}", self.executable.display()))?;
        if !output.status.success() {
            bail!("{} lists no tests: {}", self.executable.display(), output.status);
        }
        let text = String::from_utf8(output.stdout).context("the name of a test is not UTF-8")?;
        Ok(text
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .map(|name| Test {
                harness: self.clone(),
                name: name.to_owned(),
            })
            .collect())
    }

    /// Itself as arguments of `run-tests`.
    pub(super) fn arguments(&self) -> [OsString; 4] {
        let Self {
            name,
            executable,
            package,
        } = self;
        ["--harness".into(), name.into(), executable.into(), package.into()]
    }

    /// The harness of the three values of such an argument.
    pub(super) fn from_arguments(values: &[OsString]) -> Option<Self> {
        let [name, executable, package] = values else {
            return None;
        };
        Some(Self {
            name: name.to_str()?.to_owned(),
            executable: executable.into(),
            package: package.into(),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.package).stdin(Stdio::null());
        if let Some(packages) = peers::python(&self.executable) {
            command.env("PYTHONPATH", packages);
        }
        command
    }
}

impl Test {
    /// The command that runs this test and no other.
    fn command(&self) -> Command {
        let mut command = self.harness.command();
        command.args(["--exact", &self.name]);
        command
    }

    /// The name that people see.
    pub(super) fn label(&self) -> String {
        format!("{} {}", self.harness.name, self.name)
    }
}

/// How many tests of `harnesses` `arguments` select.
pub(super) fn count(harnesses: &[Harness], arguments: &[OsString]) -> Result<usize> {
    let mut tests = 0;
    for harness in harnesses {
        tests += harness.tests(arguments)?.len();
    }
    Ok(tests)
}

/// Runs the tests of `harnesses` that `arguments` select; `limit` is the longest that each may take.
pub(super) fn run(harnesses: &[Harness], arguments: &[OsString], limit: Duration) -> Result<Summary> {
    let mut tests = Vec::new();
    for harness in harnesses {
        tests.extend(harness.tests(arguments)?);
    }
    let at_a_time = thread::available_parallelism().map_or(1, usize::from) * TESTS_PER_CPU;
    eprintln!("\nrunning {} tests, {at_a_time} at a time", tests.len());
    let mut waiting = VecDeque::from(spread(tests));
    let mut running: Vec<TestProcess> = Vec::new();
    let mut summary = Summary::default();
    while !(waiting.is_empty() && running.is_empty()) {
        while running.len() < at_a_time
            && let Some(test) = waiting.pop_front()
        {
            let command = test.command();
            running.push(TestProcess::start(test, command)?);
        }
        let mut index = 0;
        while index < running.len() {
            match running[index].poll(limit)? {
                Some(outcome) => {
                    let test = running.swap_remove(index);
                    summary.add(test.test().label(), outcome);
                }
                None => index += 1,
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(summary)
}

/// Puts tests that stand beside each other far apart: neighbours are alike, and would want the same at the same time.
fn spread(tests: Vec<Test>) -> Vec<Test> {
    const STRIDE: usize = 16;
    let mut order: Vec<(usize, Test)> = tests.into_iter().enumerate().collect();
    order.sort_by_key(|(index, _)| index % STRIDE);
    order.into_iter().map(|(_, test)| test).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::time::Duration;

    use super::{Harness, run};

    /// A harness made of a shell script: of four tests one passes, one hangs, one leaves a process behind and one fails. The one that
    /// hangs has children that it started in several ways.
    const SCRIPT: &str = r#"#!/bin/sh
case "$1 $2" in
"--list "*) echo "passes: test"; echo "hangs: test"; echo "leaves: test"; echo "fails: test" ;;
"--exact passes") echo "script: NOT RUN: passes: no such kernel" >&2; echo "ok. 1 passed" ;;
"--exact fails") echo "it is wrong"; exit 101 ;;
"--exact leaves") sleep 1000 & echo $! >>pids; echo "ok. 1 passed" ;;
"--exact hangs")
  sleep 1000 & echo $! >>pids
  setsid sleep 1000 & echo $! >>pids
  env --unset=TCPWATCH_TEST sleep 1000 & echo $! >>pids
  (sleep 1000 & echo $! >>pids)
  [ "$(id -u)" = 0 ] || user="--user --map-root-user"
  unshare --net $user sleep 1000 & echo $! >>pids
  echo $$ >>pids
  wait ;;
esac
"#;

    fn harness(folder: &Path) -> Harness {
        let executable = folder.join("harness");
        // By a copy that another process makes: a file that this one has open for writing cannot be executed.
        fs::write(folder.join("script"), SCRIPT).unwrap();
        let copied = std::process::Command::new("cp")
            .arg(folder.join("script"))
            .arg(&executable)
            .status();
        assert!(copied.unwrap().success());
        fs::set_permissions(&executable, fs::Permissions::from_mode(0o755)).unwrap();
        Harness {
            name: "script".to_owned(),
            executable,
            package: folder.to_owned(),
        }
    }

    /// The processes whose ids the script wrote down, of those that still run.
    fn running(folder: &Path) -> (usize, Vec<String>) {
        let pids = fs::read_to_string(folder.join("pids")).unwrap();
        let runs =
            |pid: &&str| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        (
            pids.lines().count(),
            pids.lines().filter(runs).map(str::to_owned).collect(),
        )
    }

    #[test]
    fn a_test_that_hangs_is_named_and_ended_with_all_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let arguments: [OsString; 0] = [];
        let summary = run(&[harness(folder.path())], &arguments, Duration::from_secs(1)).unwrap();
        let failures: Vec<String> = summary.failures().map(|(test, why)| format!("{test}: {why}")).collect();
        assert_eq!(failures.len(), 3, "{failures:?}");
        let not_run: Vec<&str> = summary.not_run().collect();
        assert_eq!(not_run, ["passes: no such kernel"]);
        let of = |test: &str| failures.iter().find(|line| line.starts_with(test)).unwrap().as_str();
        assert!(of("script hangs").contains("ran for longer than 1 s"), "{failures:?}");
        assert!(of("script hangs").matches("(sleep)").count() == 5, "{failures:?}");
        assert!(of("script leaves").contains("left processes behind"), "{failures:?}");
        assert!(of("script fails").contains("exit status: 101"), "{failures:?}");
        assert_eq!(running(folder.path()), (7, Vec::new()));
    }
}
