//! A page, and the samples in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::labels::Labels;

/// What a sample begins with: a comment above a code block.
const MARKER: &str = "\n<!-- sample: ";

/// A command line.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Line {
    /// The workload that runs meanwhile.
    pub(super) workload: Option<String>,
    /// As a user types it.
    pub(super) command: String,
}

/// What command lines print.
pub(super) type Outputs<'a> = BTreeMap<&'a Line, String>;

/// A code block with the output of a command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// The command line.
    pub(super) line: Line,
    /// What the page shows below it.
    pub(super) output: String,
}

/// A page of the documentation.
pub(super) struct Page {
    /// Its path in the workspace.
    pub(super) name: String,
    parts: Vec<Part>,
}

/// A piece of a page.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// Text, whole lines.
    Text(String),
    /// What stands between the two fences of a code block.
    Sample(Sample),
}

impl Page {
    /// All pages that may have samples.
    pub(super) fn read_all(workspace: &Path) -> Result<Vec<Self>> {
        let mut names = vec![];
        for folder in ["", "docs", "docs/commands"] {
            let entries = fs::read_dir(workspace.join(folder)).with_context(|| format!("cannot read {folder}/"))?;
            for entry in entries {
                let name = Path::new(folder).join(entry?.file_name());
                if name.extension().is_some_and(|extension| extension == "md") {
                    names.push(name.display().to_string());
                }
            }
        }
        names.sort();
        let read = |name: String| {
            let text = fs::read_to_string(workspace.join(&name)).with_context(|| format!("cannot read {name}"))?;
            let parts = parts(&text).with_context(|| name.clone())?;
            Ok(Self { name, parts })
        };
        names.into_iter().map(read).collect()
    }

    /// Where it is.
    pub(super) fn path(&self, workspace: &Path) -> PathBuf {
        workspace.join(&self.name)
    }

    /// Its samples.
    pub(super) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.parts.iter().filter_map(|part| match part {
            Part::Sample(sample) => Some(sample),
            Part::Text(_) => None,
        })
    }

    /// The page with new outputs.
    pub(super) fn with(&self, outputs: &Outputs<'_>) -> String {
        let text = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Sample(Sample { line, output }) => {
                format!("$ {}\n{}", line.command, outputs.get(line).unwrap_or(output))
            }
        });
        text.collect()
    }

    /// A line that says where the labels of its samples are not those of `outputs`.
    pub(super) fn drift(&self, outputs: &Outputs<'_>) -> Option<String> {
        let drifted: Vec<String> = self
            .samples()
            .filter_map(|Sample { line, output }| {
                let how = Labels::drift(output, outputs.get(line)?)?;
                Some(format!("`{}`: {how}", line.command))
            })
            .collect();
        (!drifted.is_empty()).then(|| format!("{}: {}", self.name, drifted.join("; ")))
    }
}

/// Takes a page apart.
fn parts(text: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(MARKER) {
        let (marker, block) = after
            .split_once(" -->\n```\n")
            .context("no code block below a marker of a sample")?;
        let (content, rest_of_page) = block.split_once("```\n").context("a code block without an end")?;
        let (command, workload) = match marker.rsplit_once(", on ") {
            Some((command, workload)) => (command, Some(workload.to_owned())),
            None => (marker, None),
        };
        if command.contains('\n') {
            bail!("the marker `{}` has no end", command.lines().next().unwrap_or_default());
        }
        let output = content.split_once('\n').map_or("", |(_, output)| output);
        parts.push(Part::Text(format!("{before}{MARKER}{marker} -->\n```\n")));
        parts.push(Part::Sample(Sample {
            line: Line {
                workload,
                command: command.to_owned(),
            },
            output: output.to_owned(),
        }));
        rest = &text[text.len() - rest_of_page.len() - "```\n".len()..];
    }
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::{Line, Outputs, Page, Sample, parts};

    const TEXT: &str = "# A page\n\n<!-- sample: sudo tcpwatch stat 1 2, on web -->\n```\n$ sudo tcpwatch stat 1 2\ntime  estab\n\
        14:00:00  1\n```\n\nText\n\n```\nno sample\n```\n";

    fn page() -> Page {
        Page {
            name: "docs/page.md".to_owned(),
            parts: parts(TEXT).unwrap(),
        }
    }

    #[test]
    fn a_sample_is_found_and_replaced() {
        let page = page();
        let samples: Vec<&Sample> = page.samples().collect();
        let sample = Sample {
            line: Line {
                workload: Some("web".to_owned()),
                command: "sudo tcpwatch stat 1 2".to_owned(),
            },
            output: "time  estab\n14:00:00  1\n".to_owned(),
        };
        assert_eq!(samples, [&sample]);
        assert_eq!(page.with(&Outputs::new()), TEXT);
        let outputs = Outputs::from([(&sample.line, "time  estab\n15:00:00  2\n".to_owned())]);
        assert_eq!(page.with(&outputs), TEXT.replace("14:00:00  1", "15:00:00  2"));
    }

    #[test]
    fn drift_is_one_line_for_a_page() {
        let page = page();
        let sample = page.samples().next().unwrap();
        let drift = |output: &str| page.drift(&Outputs::from([(&sample.line, output.to_owned())]));
        assert_eq!(drift("time  estab\n15:00:00  2\n15:00:01  3\n"), None);
        assert_eq!(
            drift("time  open\n15:00:00  2\n").unwrap(),
            "docs/page.md: `sudo tcpwatch stat 1 2`: it prints no more `time estab`; the page lacks `time open`"
        );
    }

    #[test]
    fn a_marker_needs_its_block() {
        for text in [
            "\n<!-- sample: a -->\n\n```\n```\n",
            "\n<!-- sample: a -->\n```\n$ a\n",
            "\n<!-- sample: a\n",
        ] {
            assert!(parts(text).is_err(), "{text}");
        }
    }
}
