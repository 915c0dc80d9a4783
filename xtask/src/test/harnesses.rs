//! The test harnesses of the workspace, built by cargo.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::runner::Harness;
use crate::cargo;

/// Everything that has tests, the kernel suite too. One command, so that cargo builds each dependency once, with one set of features.
const BUILD: [&str; 9] = [
    "test",
    "--locked",
    "--workspace",
    "--no-run",
    "--lib",
    "--bins",
    "--examples",
    "--test=*",
    "--message-format=json-render-diagnostics",
];

/// Builds them.
pub(super) fn build() -> Result<Vec<Harness>> {
    let messages = cargo::messages(&mut cargo::command()?, &BUILD)?;
    let harnesses = messages.lines().filter_map(|line| serde_json::from_str(line).ok());
    Ok(harnesses.filter_map(|message| harness(&message)).collect())
}

/// Builds tcpwatch as the tests do, so that it is built once, and returns where it is.
pub(crate) fn program() -> Result<PathBuf> {
    let messages = cargo::messages(&mut cargo::command()?, &BUILD)?;
    let mut messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = messages.find(|message| {
        message["target"]["name"] == "tcpwatch"
            && message["profile"]["test"] == false
            && message["executable"].is_string()
    });
    let path = program.and_then(|message| message["executable"].as_str().map(PathBuf::from));
    path.context("cargo built no program tcpwatch")
}

/// The harness that one of cargo's messages is about, if it is about one.
fn harness(message: &Value) -> Option<Harness> {
    if message["profile"]["test"] != true {
        return None;
    }
    Some(Harness {
        name: message["target"]["name"].as_str()?.to_owned(),
        executable: PathBuf::from(message["executable"].as_str()?),
        package: Path::new(message["manifest_path"].as_str()?).parent()?.to_owned(),
    })
}
