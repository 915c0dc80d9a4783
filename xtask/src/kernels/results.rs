//! What was found on one kernel.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::image::NoKernel;

/// One kernel of the matrix.
pub(super) struct Column {
    /// As in `6.12`.
    pub(super) version: String,
    pub(super) outcome: KernelOutcome,
}

/// Whether a kernel was tested, and what was found.
pub(super) enum KernelOutcome {
    /// Debian serves no such kernel, as this says. That is a failure in CI alone.
    Untested(String),
    /// There is such a kernel, but it could not be fetched or booted, for this reason.
    Broken(String),
    /// It was tested.
    Ran(Run),
}

/// All that a kernel reported.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// `uname -r`.
    pub(super) release: String,
    /// What the kernel offers, in the order that tcpwatch lists it.
    pub(super) features: Vec<Feature>,
    /// Whether each test passed, by its name.
    pub(super) tests: BTreeMap<String, bool>,
    /// The programs that the kernel's verifier took.
    pub(super) programs: Vec<ProgramStats>,
    /// What failed, as the suite prints it.
    pub(super) failures: String,
    took: Duration,
    /// The suite's exit code, which comes last.
    exit: Option<i32>,
}

/// One thing that a kernel may offer or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Feature {
    pub(super) name: String,
    /// Why it is off; `None` where it is on.
    pub(super) off: Option<String>,
}

/// The verifier's statistics of a BPF program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProgramStats {
    pub(super) name: String,
    /// Instructions processed.
    pub(super) instructions: u64,
    /// Bytes of stack, all functions together.
    pub(super) stack: u64,
}

impl KernelOutcome {
    pub(super) fn from_run(run: Result<Run>) -> Self {
        match run {
            Ok(run) => Self::Ran(run),
            Err(error) => Self::Broken(format!("{error:#}")),
        }
    }
}

impl From<NoKernel> for KernelOutcome {
    fn from(why: NoKernel) -> Self {
        match why {
            NoKernel::NotServed(versions) => Self::Untested(format!("Debian serves no kernel {versions}")),
            NoKernel::FetchFailed(error) => Self::Broken(format!("{error:#}")),
        }
    }
}

impl Column {
    /// The run, where there was one.
    pub(super) fn run(&self) -> Option<&Run> {
        match &self.outcome {
            KernelOutcome::Ran(run) => Some(run),
            KernelOutcome::Untested(_) | KernelOutcome::Broken(_) => None,
        }
    }

    /// Whether the run of the matrix must fail because of this kernel.
    pub(super) fn failed(&self) -> bool {
        match &self.outcome {
            KernelOutcome::Untested(_) => false,
            KernelOutcome::Broken(_) => true,
            KernelOutcome::Ran(run) => !run.passed(),
        }
    }

    /// Prints how it went.
    pub(super) fn report(&self) {
        let version = &self.version;
        match &self.outcome {
            KernelOutcome::Untested(why) => eprintln!("{version}: UNTESTED: {why}"),
            KernelOutcome::Broken(why) => eprintln!("{version}: FAILED: {why}"),
            KernelOutcome::Ran(run) => {
                let passed = run.tests.values().filter(|passed| **passed).count();
                let verdict = if run.passed() { "ok" } else { "FAILED" };
                eprintln!(
                    "{version}: {verdict}: {passed} of {} tests passed on Linux {} in {} s",
                    run.tests.len(),
                    run.release,
                    run.took.as_secs()
                );
                if !run.passed() {
                    eprintln!("{}", run.failures);
                }
            }
        }
    }
}

impl Run {
    /// Reads what report.sh prints; what is missing at the end was never printed.
    pub(super) fn read(text: &str, took: Duration) -> Self {
        let mut run = Self {
            took,
            ..Self::default()
        };
        let (mut part, mut features) = ("", Vec::new());
        for line in text.lines().map(|line| line.trim_end_matches('\r')) {
            match (part, line) {
                (_, "features" | "suite" | "verifier") => part = line,
                ("features", line) => features.push(line),
                ("suite", line) => run.suite_line(line),
                ("verifier", line) => match line.strip_prefix("exit ") {
                    Some(code) => run.exit = code.parse().ok(),
                    None => run.programs.extend(program(line)),
                },
                (_, line) => {
                    if let Some(release) = line.strip_prefix("release ") {
                        release.clone_into(&mut run.release);
                    }
                }
            }
        }
        run.features = self::features(&features.concat());
        run
    }

    /// A line of the test harness.
    fn suite_line(&mut self, line: &str) {
        let test = line.strip_prefix("test ").and_then(|line| line.rsplit_once(" ... "));
        if let Some((name, result)) = test {
            self.tests.insert(name.to_owned(), result == "ok");
        } else {
            self.failures.extend([line, "\n"]);
        }
    }

    /// Whether the report came to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.exit.is_some()
    }

    /// Whether all tests ran, and passed.
    pub(super) fn passed(&self) -> bool {
        self.exit == Some(0) && !self.tests.is_empty() && self.tests.values().all(|passed| *passed)
    }
}

/// The features in `{"features": [{"name": …, "on": …, "reason": …}]}`.
fn features(json: &str) -> Vec<Feature> {
    let json: Value = serde_json::from_str(json).unwrap_or_default();
    let features = json["features"].as_array().into_iter().flatten();
    features
        .filter_map(|feature| {
            let reason = || feature["reason"].as_str().unwrap_or("no reason is given").to_owned();
            Some(Feature {
                name: feature["name"].as_str()?.to_owned(),
                off: (!feature["on"].as_bool()?).then(reason),
            })
        })
        .collect()
}

/// A program's statistics in `{"name": …, "instructions": …, "stack": [120, 80]}`.
fn program(line: &str) -> Option<ProgramStats> {
    let json: Value = serde_json::from_str(line).ok()?;
    Some(ProgramStats {
        name: json["name"].as_str()?.to_owned(),
        instructions: json["instructions"].as_u64()?,
        stack: json["stack"].as_array()?.iter().filter_map(Value::as_u64).sum(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::anyhow;

    use super::{Column, Feature, KernelOutcome, NoKernel, ProgramStats, Run};

    const WHOLE: &str = "release 6.1.0-56-cloud-amd64\r\n\
        features\r\n\
        {\"features\":[{\"name\":\"tp_btf\",\"on\":true},\r\n\
        {\"name\":\"reset_reasons\",\"on\":false,\"reason\":\"no such field\"}]}\r\n\
        suite\r\n\
        \r\n\
        running 2 tests\r\n\
        test matrix::stat::equals::tp_btf ... ok\r\n\
        test matrix::stat::equals::tracepoint ... FAILED\r\n\
        the cells differ\r\n\
        verifier\r\n\
        {\"name\":\"set_state\",\"instructions\":1234,\"stack\":[120,80]}\r\n\
        exit 101\r\n";

    fn read(text: &str) -> Run {
        Run::read(text, Duration::ZERO)
    }

    #[test]
    fn a_whole_report_is_read() {
        let run = read(WHOLE);
        assert_eq!(run.release, "6.1.0-56-cloud-amd64");
        assert_eq!(
            run.features,
            [("tp_btf", None), ("reset_reasons", Some("no such field"))].map(|(name, off)| Feature {
                name: name.to_owned(),
                off: off.map(str::to_owned),
            })
        );
        let tests: Vec<_> = run
            .tests
            .iter()
            .map(|(name, passed)| (name.as_str(), *passed))
            .collect();
        assert_eq!(
            tests,
            [
                ("matrix::stat::equals::tp_btf", true),
                ("matrix::stat::equals::tracepoint", false)
            ]
        );
        assert_eq!(
            run.programs,
            [ProgramStats {
                name: "set_state".to_owned(),
                instructions: 1234,
                stack: 200,
            }]
        );
        assert!(run.failures.contains("the cells differ"));
        assert!(run.is_whole() && !run.passed());
    }

    #[test]
    fn a_kernel_that_debian_does_not_serve_is_no_failure_and_a_failed_fetch_is() {
        let failed = |outcome| {
            let version = "6.1".to_owned();
            Column { version, outcome }.failed()
        };
        assert!(!failed(NoKernel::NotServed("6.1".to_owned()).into()));
        assert!(failed(NoKernel::FetchFailed(anyhow!("no route to host")).into()));
        assert!(failed(KernelOutcome::from_run(Err(anyhow!("cannot start QEMU")))));
        assert!(failed(KernelOutcome::from_run(Ok(read(WHOLE)))));
    }

    #[test]
    fn only_a_whole_report_without_failures_passes() {
        let good = WHOLE.replace("FAILED", "ok").replace("exit 101", "exit 0");
        assert!(read(&good).passed());
        assert!(
            !read(&good.replace("exit 0", "exit 101")).passed(),
            "the harness says otherwise"
        );
        assert!(!read(&good.replace("test matrix", "# matrix")).passed(), "no test ran");
        let cut = good.split("verifier").next().unwrap_or_default();
        assert!(!read(cut).is_whole() && !read(cut).passed(), "the guest ended early");
        assert!(!read("").passed());
    }
}
