//! What the bench says: text as it goes, and every sample at the end for those who want them.

use std::fs::File;
use std::io::{self, Write as _};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use super::sandbox::load;
use super::table;
use super::target::Target;

/// Collects what is measured.
pub(super) struct Report {
    samples: Map<String, Value>,
    targets: Vec<Target>,
    not_run: Vec<String>,
}

impl Report {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            samples: Map::new(),
            targets: Vec::new(),
            not_run: Vec::new(),
        }
    }

    /// Begins a part.
    pub(super) fn title(&mut self, title: &str) -> Result<()> {
        self.line("")?;
        self.line(title)
    }

    /// Prints a line.
    #[expect(clippy::unused_self, reason = "lines belong to the report")]
    pub(super) fn line(&mut self, line: &str) -> Result<()> {
        writeln!(io::stdout().lock(), "{line}").context("cannot print")
    }

    /// Says on stderr how far it is, for it takes minutes.
    #[expect(clippy::unused_self, reason = "progress belongs to the report")]
    pub(super) fn progress(&self, part: &str, round: usize, rounds: usize) {
        eprintln!("{part}: {} of {rounds}", round + 1);
    }

    /// Keeps samples under `name`.
    pub(super) fn raw(&mut self, name: &str, samples: Value) {
        self.samples.insert(name.to_owned(), samples);
    }

    /// Keeps a target for the table at the end.
    pub(super) fn target(&mut self, target: Target) {
        self.targets.push(target);
    }

    /// Keeps what could not run, and why.
    pub(super) fn not_run(&mut self, reason: String) {
        eprintln!("NOT RUN: {reason}");
        self.not_run.push(reason);
    }

    /// Prints the table of targets, writes the samples to `json`, and fails when something could not run.
    pub(super) fn finish(mut self, json: Option<File>) -> Result<()> {
        let title = if self.targets.is_empty() { "end" } else { "targets" };
        self.title(&format!("{title} (load average now {})", load()))?;
        let rows: Vec<[String; 4]> = self
            .targets
            .iter()
            .map(|target| {
                [
                    target.promise.clone(),
                    target.limit.clone(),
                    target.measured.clone(),
                    target.verdict().to_owned(),
                ]
            })
            .collect();
        for line in table::lines(&["", "target", "measured", ""], &rows)
            .iter()
            .filter(|_| !rows.is_empty())
        {
            self.line(line)?;
        }
        if let Some(file) = json {
            let targets: Vec<Value> = self
                .targets
                .iter()
                .map(|target| {
                    json!({
                        "what": target.promise,
                        "target": target.limit,
                        "measured": target.measured,
                        "met": target.met,
                    })
                })
                .collect();
            let all = json!({ "samples": self.samples, "targets": targets, "not_run": self.not_run });
            serde_json::to_writer_pretty(file, &all).context("cannot write the samples")?;
        }
        if self.not_run.is_empty() {
            return Ok(());
        }
        self.title("NOT RUN:")?;
        for reason in std::mem::take(&mut self.not_run) {
            self.line(&format!("  {reason}"))?;
        }
        bail!("not everything could run: see NOT RUN above");
    }
}
