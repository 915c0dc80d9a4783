//! `cargo xtask ebpf`: builds the kernel object that tcpwatch embeds, or checks that the committed one is what the sources give.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{cargo, system};

#[path = "../../tcpwatch/build/fingerprint.rs"]
mod fingerprint;
#[path = "../../tcpwatch/build/lock.rs"]
mod lock;
mod object;
mod shape;
mod toolchain;

use lock::Lock;
use shape::Shape;
use toolchain::{TARGET, Toolchain};

const OBJECT: &str = "tcpwatch/bpf/tcpwatch.bpf.o";
const LOCK: &str = "tcpwatch/bpf/tcpwatch.bpf.lock";
const PACKAGE: &str = "tcpwatch-ebpf";
/// The profile that keeps the debug info the BTF is made from.
const PROFILE: &str = "bpf";

/// Builds the object and writes it with its lock.
pub(crate) fn write() -> Result<()> {
    let root = cargo::root()?;
    let (object, lock) = build(&root)?;
    for (file, content) in [(OBJECT, object.as_slice()), (LOCK, lock.to_string().as_bytes())] {
        fs::write(root.join(file), content).with_context(|| format!("cannot write {file}"))?;
    }
    eprintln!(
        "wrote {OBJECT} ({} bytes: {}) and {LOCK}",
        object.len(),
        Shape::from_object(&object)?
    );
    Ok(())
}

/// Builds the object and compares it with the committed one.
pub(crate) fn check() -> Result<()> {
    let root = cargo::root()?;
    let retype = "type `cargo xtask ebpf`";
    let committed = fs::read(root.join(OBJECT)).with_context(|| format!("cannot read {OBJECT} ({retype})"))?;
    let text = fs::read_to_string(root.join(LOCK)).with_context(|| format!("cannot read {LOCK} ({retype})"))?;
    let lock: Lock = text
        .parse()
        .map_err(|why| anyhow!("cannot read {LOCK}: {why}: {retype}"))?;
    let (rebuilt, fresh) = build(&root)?;

    let mut differences = Vec::new();
    if lock.object != fingerprint::of_bytes(&committed) {
        differences.push(format!("{OBJECT} is not the object that {LOCK} tells of"));
    }
    if lock.sources != fresh.sources {
        differences.push("the sources are not those it was built from".to_owned());
    }
    let same_toolchain = lock.toolchain() == fresh.toolchain();
    let committed = Shape::from_object(&committed).with_context(|| format!("{OBJECT} is no BPF object ({retype})"))?;
    differences.extend(committed.differences(&Shape::from_object(&rebuilt)?, same_toolchain));

    if !same_toolchain {
        eprintln!(
            "instructions not compared: the committed object was built with {}",
            lock.toolchain()
        );
    }
    if differences.is_empty() {
        eprintln!("{OBJECT} is what the sources give ({committed})");
        return Ok(());
    }
    for difference in &differences {
        eprintln!("differs: {difference}");
    }
    bail!("{OBJECT} is not what the sources give: {retype}");
}

/// The object without its debug info, and the lock that goes with it.
fn build(root: &Path) -> Result<(Vec<u8>, Lock)> {
    // Before the compiler reads them: a file saved meanwhile must make the lock stale, not wrong.
    let sources = fingerprint::of_sources(root).context("cannot hash the kernel side's sources")?;
    let toolchain = Toolchain::find()?;
    eprintln!("building {PACKAGE} with {toolchain}");
    let places = cargo::places()?;
    let target = places.target.join("bpf");
    let cargo = |subcommand| -> Result<Command> {
        let mut command = toolchain.cargo(subcommand)?;
        command.args(["--profile", PROFILE, "--target-dir"]).arg(&target);
        Ok(command)
    };
    // Cargo goes by the age of files, and an older one put back would leave the object of the newer.
    let mut clean = cargo("clean")?;
    for package in fingerprint::CRATES {
        clean.args(["--package", package]);
    }
    let mut compile = cargo("build")?;
    compile
        .args(toolchain.build_flags())
        .args(["--package", PACKAGE, "--config"])
        .arg(remap(root, &places, &toolchain)?);
    if !(system::succeeds(clean.arg("--quiet"))? && system::succeeds(&mut compile)?) {
        bail!("{PACKAGE} does not build with {toolchain}: see above");
    }
    let linked = target.join(TARGET).join(PROFILE).join(PACKAGE);
    let linked = fs::read(&linked).with_context(|| format!("cannot read {}", linked.display()))?;
    let object = object::strip_debug(&linked).context("cannot strip the object")?;
    let lock = Lock {
        sources,
        rustc: toolchain.rustc_version.clone(),
        bpf_linker: toolchain.linker_version.clone(),
        object: fingerprint::of_bytes(&object),
    };
    Ok((object, lock))
}

/// The setting that gives every path a name that is the same on every machine, since BTF keeps the names of source files.
fn remap(root: &Path, places: &cargo::Places, toolchain: &Toolchain) -> Result<String> {
    let core = toolchain.core_sources();
    let utf8 = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .with_context(|| format!("{} is not UTF-8", path.display()))
    };
    let mut flags = vec![format!("--remap-path-prefix={}=/tcpwatch", utf8(root)?)];
    // After the checkout, for the last that matches counts and a vendored crate lies inside it.
    for folder in &places.dependencies {
        flags.push(format!("--remap-path-prefix={folder}=/dependencies"));
    }
    flags.push(format!("--remap-path-prefix={}=/rust", utf8(&core)?));
    // A JSON list of strings is a TOML list too.
    Ok(format!("target.{TARGET}.rustflags={}", serde_json::to_string(&flags)?))
}
