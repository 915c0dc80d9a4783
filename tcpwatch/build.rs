//! Embeds the committed kernel object, and says when the sources beside it have moved on.
//!
//! It never starts a compiler: a user needs stable Rust and nothing else.

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

/// Tells the compiler where the object is and what made it.
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

/// The object that the person who builds brings along.
fn given(object: PathBuf) -> Result<(PathBuf, String), String> {
    // Cargo starts this program in the package's folder, where a relative path means something else than where it was typed.
    if object.is_relative() {
        return Err(format!(
            "TCPWATCH_BPF_OBJECT={0} is relative: type TCPWATCH_BPF_OBJECT=\"$PWD/{0}\"",
            object.display()
        ));
    }
    if !object.is_file() {
        return Err(format!(
            "TCPWATCH_BPF_OBJECT={} is not a file: name one, or unset it to take the committed object",
            object.display()
        ));
    }
    println!("cargo::rerun-if-changed={}", object.display());
    Ok((object, "an unknown toolchain (TCPWATCH_BPF_OBJECT)".to_owned()))
}

/// The object in the repository; a stale one is a warning where people work on it, and an error in CI.
fn committed() -> Result<(PathBuf, String), String> {
    let package =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set: build with cargo")?);
    println!("cargo::rerun-if-changed={OBJECT}");
    println!("cargo::rerun-if-changed={LOCK}");
    let missing =
        |file: &str, why: &dyn std::fmt::Display| format!("cannot use tcpwatch/{file}: {why}: type `cargo xtask ebpf`");
    let object = package.join(OBJECT);
    let bytes = fs::read(&object).map_err(|error| missing(OBJECT, &error))?;
    let lock: Lock = fs::read_to_string(package.join(LOCK))
        .map_err(|error| missing(LOCK, &error))?
        .parse()
        .map_err(|error: String| missing(LOCK, &error))?;
    if let Some(problem) = stale(&lock, &bytes, &package.join(".."))? {
        let line = format!("{problem}: type `cargo xtask ebpf`");
        if env::var_os("CI").is_some_and(|ci| ci == "true") {
            return Err(line);
        }
        println!("cargo::warning={line}");
    }
    Ok((object, lock.toolchain()))
}

/// What does not fit together, if anything; a packaged crate has no sources beside it to compare with.
fn stale(lock: &Lock, object: &[u8], root: &Path) -> Result<Option<String>, String> {
    if fingerprint::of_bytes(object) != lock.object {
        return Ok(Some(format!(
            "tcpwatch/{OBJECT} is not the object that {LOCK} tells of"
        )));
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
        fingerprint::of_sources(root).map_err(|error| format!("cannot hash the kernel side's sources: {error}"))?;
    Ok((sources != lock.sources)
        .then(|| format!("tcpwatch/{OBJECT} was built from other sources than those beside it")))
}
