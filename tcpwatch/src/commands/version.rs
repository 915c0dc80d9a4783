//! `tcpwatch --version`.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};
use tcpwatch_common::ABI_VERSION;

use crate::source::ebpf::{self, Features};
use crate::view::Output;
use crate::view::json::line;

/// The version as JSON.
#[derive(Serialize)]
struct VersionObject {
    schema: &'static str,
    version: &'static str,
    #[serde(flatten)]
    details: Option<Value>,
}

/// Prints the version. With `verbose`, also the BPF object and the features of this kernel.
///
/// # Errors
/// `out` cannot be written to.
pub fn run(verbose: bool, output: Output, out: &mut impl Write) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let object = VersionObject {
        schema: "tcpwatch.version/1",
        version,
        details: None,
    };
    if !verbose {
        match output {
            Output::Json => line::write(out, &object)?,
            Output::Text | Output::Csv => writeln!(out, "tcpwatch {version}")?,
        }
        return Ok(());
    }
    let size = ebpf::object::EMBEDDED.len();
    let built_with = env!("TCPWATCH_BPF_BUILT_WITH");
    let features = ebpf::survey();
    let hook = features.hook();
    if output == Output::Json {
        let details = json!({
            "object": {"bytes": size, "built_with": built_with},
            "abi": ABI_VERSION,
            "kernel": rustix::system::uname().release().to_string_lossy(),
            "hook": hook.map(|hook| hook.to_string()),
            "features": features.iter().map(|feature| json!({
                "name": feature.kind.key(),
                "on": feature.off.is_none(),
                "reason": feature.off,
            })).collect::<Vec<_>>(),
        });
        let object = VersionObject {
            details: Some(details),
            ..object
        };
        return Ok(line::write(out, &object)?);
    }
    writeln!(out, "tcpwatch {version}")?;
    writeln!(out, "object: {size} bytes, built with {built_with}")?;
    writeln!(out, "ABI: {ABI_VERSION}")?;
    writeln!(out, "kernel: {}", rustix::system::uname().release().to_string_lossy())?;
    match hook {
        Some(hook) => writeln!(out, "hook: {hook}")?,
        None => writeln!(out, "hook: none")?,
    }
    print_features(&features, out)
}

/// Prints for each feature that it is on, or why it is off.
fn print_features(features: &Features, out: &mut impl Write) -> Result<()> {
    writeln!(out, "features:")?;
    for feature in features.iter() {
        match &feature.off {
            None => writeln!(out, "  {:<14} on", feature.kind.key())?,
            Some(why) => writeln!(out, "  {:<14} off: {why}", feature.kind.key())?,
        }
    }
    Ok(())
}
