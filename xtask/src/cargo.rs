//! The workspace, and the cargo that this program was started by.

use std::collections::BTreeSet;
use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The folder of the workspace.
pub(crate) fn root() -> Result<PathBuf> {
    // Asked at run time: a checkout may have moved since this program was built.
    let package = env::var_os("CARGO_MANIFEST_DIR").context("not started by cargo: type `cargo xtask`")?;
    Ok(PathBuf::from(package)
        .parent()
        .context("xtask is not in a workspace")?
        .to_owned())
}

/// A cargo in the workspace's folder.
pub(crate) fn command() -> Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?);
    Ok(command)
}

/// Builds with cargo, which shows its own messages, and returns where it put the program `name`.
pub(crate) fn executable(arguments: &[&str], name: &str) -> Result<PathBuf> {
    build(&mut command()?, arguments, name)
}

/// Builds a statically linked program, which needs no C library where it runs, and returns where cargo put it.
pub(crate) fn static_executable(arguments: &[&str], name: &str) -> Result<PathBuf> {
    let mut command = command()?;
    // Flags of the user's own, as for this machine's CPU, do not belong into a program for other machines.
    command.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    // With a target named, cargo spares procedural macros and build scripts the flags: a static one cannot be loaded.
    let target = format!("--target={}-unknown-linux-gnu", env::consts::ARCH);
    build(&mut command, &[arguments, &[&target]].concat(), name)
}

/// Builds with `command`, a cargo, and returns where it put the program `name`.
pub(crate) fn build(command: &mut Command, arguments: &[&str], name: &str) -> Result<PathBuf> {
    let arguments = [arguments, &["--message-format=json-render-diagnostics"]].concat();
    executable_in(&messages(command, &arguments)?, name)
        .with_context(|| format!("`cargo {}` built no program {name}", arguments.join(" ")))
}

/// Builds with cargo, and returns its messages, of which each is a line of JSON where `arguments` ask for that.
pub(crate) fn messages(command: &mut Command, arguments: &[&str]) -> Result<String> {
    let output = command
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("`cargo {}` failed: see above", arguments.join(" "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The program `name` among cargo's messages, of which each is a line of JSON.
fn executable_in(messages: &str, name: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// Where cargo builds, and where it took the dependencies from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// The target folder.
    pub(crate) target: PathBuf,
    /// The folders that hold the packages which are not of this workspace.
    pub(crate) dependencies: BTreeSet<String>,
}

/// Asks cargo, which fetches what is missing.
pub(crate) fn places() -> Result<Places> {
    let output = command()?
        .args(["metadata", "--locked", "--format-version=1"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("`cargo metadata --locked` failed: see above");
    }
    let metadata = serde_json::from_slice(&output.stdout).context("cannot read what `cargo metadata` says")?;
    places_in(&metadata).context("cannot read what `cargo metadata` says")
}

fn places_in(metadata: &Value) -> Option<Places> {
    let dependencies = metadata["packages"]
        .as_array()?
        .iter()
        .filter(|package| !package["source"].is_null())
        .filter_map(|package| {
            let manifest = PathBuf::from(package["manifest_path"].as_str()?);
            Some(manifest.parent()?.parent()?.to_str()?.to_owned())
        })
        .collect();
    Some(Places {
        target: PathBuf::from(metadata["target_directory"].as_str()?),
        dependencies,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use serde_json::json;

    use super::{Places, executable_in, places_in};

    #[test]
    fn the_program_is_found_by_its_name() {
        let messages = "not JSON\n\
            {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"kernel\"},\"executable\":null}\n\
            {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"tcpwatch\"},\"executable\":\"/t/tcpwatch\"}\n\
            {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"kernel\"},\"executable\":\"/t/kernel-1\"}\n\
            {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executable_in(messages, "kernel"), Some(PathBuf::from("/t/kernel-1")));
        assert_eq!(executable_in(messages, "other"), None);
    }

    #[test]
    fn dependencies_are_folders_outside_the_workspace() {
        let metadata = json!({ "target_directory": "/t", "packages": [
            { "source": null, "manifest_path": "/w/xtask/Cargo.toml" },
            { "source": "registry", "manifest_path": "/r/src/a-1.0.0/Cargo.toml" },
            { "source": "registry", "manifest_path": "/r/src/b-1.0.0/Cargo.toml" },
        ]});
        assert_eq!(
            places_in(&metadata),
            Some(Places {
                target: PathBuf::from("/t"),
                dependencies: BTreeSet::from(["/r/src".to_owned()]),
            })
        );
    }
}
