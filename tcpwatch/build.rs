//! Embeds the committed BPF object, and warns if it is older than its sources.
//!
//! It never compiles the object, so building tcpwatch needs only stable Rust.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "build/fingerprint.rs"]
mod fingerprint;
#[path = "build/lock.rs"]
mod lock;

use lock::Lock;

const OBJECT: &str = "bpf/tcpwatch.bpf.o";
const LOCK: &str = "bpf/tcpwatch.bpf.lock";

fn main() {
    if let Err(problem) = embed() {
        println!("cargo::error={problem}");
    }
}

/// Sets the environment of the build: the path of the object, and the toolchain that built it.
fn embed() -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=TCPWATCH_BPF_OBJECT");
    println!("cargo::rerun-if-env-changed=CI");
    let (object, built_with) = match env::var_os("TCPWATCH_BPF_OBJECT").filter(|path| !path.is_empty()) {
        Some(path) => given(PathBuf::from(path))?,
        None => committed()?,
    };
    println!("cargo::rustc-env=TCPWATCH_BPF_OBJECT_PATH={}", object.display());
    println!("cargo::rustc-env=TCPWATCH_BPF_BUILT_WITH={built_with}");
    Ok(())
}

/// The object given by the environment variable, and its toolchain.
fn given(object: PathBuf) -> Result<(PathBuf, String), String> {
    // Cargo runs this program in the package's directory, so a relative path would not mean what the user typed.
    if object.is_relative() {
        return Err(format!(
            "TCPWATCH_BPF_OBJECT={0} is a relative path; try TCPWATCH_BPF_OBJECT=\"$PWD/{0}\"",
            object.display()
        ));
    }
    if !object.is_file() {
        return Err(format!(
            "TCPWATCH_BPF_OBJECT={} is not a file; unset it to use the committed object",
            object.display()
        ));
    }
    println!("cargo::rerun-if-changed={}", object.display());
    Ok((object, "an unknown toolchain (TCPWATCH_BPF_OBJECT)".to_owned()))
}

/// The object in the repository and its toolchain. A stale object is a warning, and an error in CI.
fn committed() -> Result<(PathBuf, String), String> {
    let package =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set; build with cargo")?);
    println!("cargo::rerun-if-changed={OBJECT}");
    println!("cargo::rerun-if-changed={LOCK}");
    let missing =
        |file: &str, why: &dyn std::fmt::Display| format!("cannot use tcpwatch/{file}: {why}; try `cargo xtask ebpf`");
    let object = package.join(OBJECT);
    let bytes = fs::read(&object).map_err(|error| missing(OBJECT, &error))?;
    let lock: Lock = fs::read_to_string(package.join(LOCK))
        .map_err(|error| missing(LOCK, &error))?
        .parse()
        .map_err(|error: String| missing(LOCK, &error))?;
    if let Some(problem) = stale(&lock, &bytes, &package.join(".."))? {
        let line = format!("{problem}; try `cargo xtask ebpf`");
        if env::var_os("CI").is_some_and(|ci| ci == "true") {
            return Err(line);
        }
        println!("cargo::warning={line}");
    }
    Ok((object, lock.toolchain()))
}

/// Why the object is stale, if it is. A packaged crate has no sources of the object to compare with.
fn stale(lock: &Lock, object: &[u8], root: &Path) -> Result<Option<String>, String> {
    if fingerprint::of_bytes(object) != lock.object {
        return Ok(Some(format!("tcpwatch/{OBJECT} does not match {LOCK}")));
    }
    let crates = fingerprint::CRATES.map(|name| root.join(name));
    if !crates.iter().all(|path| path.join("Cargo.toml").is_file()) {
        return Ok(None);
    }
    for path in &crates {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!("cargo::rerun-if-changed={}", root.join("Cargo.lock").display());
    let sources =
        fingerprint::of_sources(root).map_err(|error| format!("cannot hash the sources of the BPF object: {error}"))?;
    Ok((sources != lock.sources).then(|| format!("tcpwatch/{OBJECT} is older than its sources")))
}
