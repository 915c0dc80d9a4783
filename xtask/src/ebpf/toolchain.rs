//! Finds a compiler that has a `core` for BPF, and the linker.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{cargo, system};

/// What the kernel side is compiled for.
pub(crate) const TARGET: &str = "bpfel-unknown-none";
/// Where Debian puts its compiler; PATH often finds rustup's first.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

const GET_RUSTUP: &str = "rustup toolchain install nightly --component rust-src";
const GET_DEBIAN: &str = "apt-get install --no-install-recommends rustc-web libstd-rust-web-dev-bpf llvm-22-dev";
const GET_LINKER_RUSTUP: &str = "cargo install bpf-linker --version 0.13.0";
const GET_LINKER_DEBIAN: &str = "LLVM_PREFIX=/usr/lib/llvm-22 LLVM_SYS_221_PREFIX=/usr/lib/llvm-22 \
     cargo install bpf-linker --version 0.13.0 --no-default-features --features llvm-22";

/// A compiler with a linker.
pub(crate) struct Toolchain {
    /// Who it is, for the person at the keyboard.
    name: &'static str,
    /// The cargo that goes with the compiler; none: the one that started us.
    cargo: Option<PathBuf>,
    rustc: PathBuf,
    sysroot: PathBuf,
    core: Core,
    linker: PathBuf,
    /// Version of the compiler.
    pub(crate) rustc_version: String,
    /// Version of the linker.
    pub(crate) linker_version: String,
}

/// How a compiler has a `core` for BPF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Core {
    Prebuilt,
    Source,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}: rustc {}, bpf-linker {}",
            self.name, self.rustc_version, self.linker_version
        )
    }
}

impl Toolchain {
    /// The first that is complete: the one asked for, rustup's nightly, Debian's.
    pub(crate) fn find() -> Result<Self> {
        if let Some(rustc) = system::variable("TCPWATCH_BPF_RUSTC") {
            let rustc = PathBuf::from(rustc);
            let core = core_of(&rustc).map_err(|why| {
                anyhow!(
                    "TCPWATCH_BPF_RUSTC={}: {why}: name a rustc with a core for {TARGET}, or unset it",
                    rustc.display()
                )
            })?;
            return Self::with_linker("the one in TCPWATCH_BPF_RUSTC", None, rustc, core, GET_LINKER_RUSTUP);
        }
        let nightly = match rustup() {
            Ok((cargo, rustc, core)) => {
                return Self::with_linker("rustup's nightly", Some(cargo), rustc, core, GET_LINKER_RUSTUP);
            }
            Err(why) => why,
        };
        let debian = PathBuf::from(DEBIAN_RUSTC);
        match core_of(&debian) {
            Ok(core) => Self::with_linker("Debian's rustc-web", None, debian, core, GET_LINKER_DEBIAN),
            Err(why) => bail!(
                "no compiler for BPF ({nightly}; {DEBIAN_RUSTC}: {why}): type one of\n  \
                 with rustup: {GET_RUSTUP} && {GET_LINKER_RUSTUP}\n  \
                 on Debian 12, as root: {GET_DEBIAN} && {GET_LINKER_DEBIAN}"
            ),
        }
    }

    fn with_linker(
        name: &'static str,
        cargo: Option<PathBuf>,
        rustc: PathBuf,
        (core, sysroot): (Core, PathBuf),
        get_linker: &str,
    ) -> Result<Self> {
        let linker = find_linker().with_context(|| format!("bpf-linker is not installed: type\n  {get_linker}"))?;
        Ok(Self {
            name,
            cargo,
            core,
            sysroot,
            rustc_version: version(&rustc, "rustc")?,
            linker_version: version(&linker, "bpf-linker")?,
            rustc,
            linker,
        })
    }

    /// Where the sources of `core` are, or would be.
    pub(crate) fn core_sources(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust")
    }

    /// A cargo with this toolchain and nothing of the user's own flags.
    pub(crate) fn cargo(&self, subcommand: &str) -> Result<Command> {
        let mut command = match &self.cargo {
            None => cargo::command()?,
            Some(cargo) => {
                let mut command = Command::new(cargo);
                command.current_dir(cargo::root()?);
                command
            }
        };
        for flags in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"] {
            command.env_remove(flags);
        }
        command
            .env("RUSTC", &self.rustc)
            // aya-ebpf uses `asm_experimental_arch`, which a stable compiler refuses otherwise.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker)
            .args([subcommand, "--locked", "--target", TARGET]);
        Ok(command)
    }

    /// What `cargo build` needs to know besides.
    pub(crate) fn build_flags(&self) -> &'static [&'static str] {
        match self.core {
            Core::Prebuilt => &[],
            Core::Source => &["-Z", "build-std=core"],
        }
    }
}

/// The cargo and compiler of rustup's nightly, if it has the sources of `core`.
fn rustup() -> Result<(PathBuf, PathBuf, (Core, PathBuf)), String> {
    let rustup = system::find("rustup").ok_or("rustup is not installed")?;
    let which = |program| {
        system::first_line(&rustup, &["which", program, "--toolchain", "nightly"])
            .map(PathBuf::from)
            .ok_or_else(|| format!("rustup's nightly has no {program}"))
    };
    let (cargo, rustc) = (which("cargo")?, which("rustc")?);
    let core = core_of(&rustc).map_err(|_| "rustup's nightly lacks rust-src")?;
    Ok((cargo, rustc, core))
}

/// How this compiler has a `core` for BPF, and its sysroot.
fn core_of(rustc: &Path) -> Result<(Core, PathBuf), &'static str> {
    if !rustc.is_file() {
        return Err("is not there");
    }
    let sysroot = system::first_line(rustc, &["--print", "sysroot"])
        .map(PathBuf::from)
        .ok_or("does not run")?;
    let core = core_in(&sysroot).ok_or("has no core for bpfel-unknown-none")?;
    Ok((core, sysroot))
}

fn core_in(sysroot: &Path) -> Option<Core> {
    let prebuilt = sysroot.join(format!("lib/rustlib/{TARGET}/lib"));
    let has_core = std::fs::read_dir(prebuilt).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    });
    if has_core {
        return Some(Core::Prebuilt);
    }
    sysroot
        .join("lib/rustlib/src/rust/library/core/src/lib.rs")
        .is_file()
        .then_some(Core::Source)
}

/// Along the PATH, or where cargo installs programs.
fn find_linker() -> Option<PathBuf> {
    let installed = || {
        let home = system::variable("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(system::variable("HOME")?).join(".cargo")))?;
        Some(home.join("bin/bpf-linker")).filter(|path| path.is_file())
    };
    system::find("bpf-linker").or_else(installed)
}

/// What `program --version` says after the program's own name.
fn version(program: &Path, name: &str) -> Result<String> {
    system::first_line(program, &["--version"])
        .and_then(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
        .with_context(|| {
            format!(
                "`{} --version` does not tell a version: install it again",
                program.display()
            )
        })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Core, core_in};

    #[test]
    fn a_prebuilt_core_is_preferred_to_sources() {
        let sysroot = std::env::temp_dir().join(format!("tcpwatch-sysroot-{}", std::process::id()));
        let touch = |file: &str| {
            let path = sysroot.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        touch("lib/rustlib/bpfel-unknown-none/lib/README");
        assert_eq!(core_in(&sysroot), None);
        touch("lib/rustlib/src/rust/library/core/src/lib.rs");
        assert_eq!(core_in(&sysroot), Some(Core::Source));
        touch("lib/rustlib/bpfel-unknown-none/lib/libcore-1.rlib");
        assert_eq!(core_in(&sysroot), Some(Core::Prebuilt));
        fs::remove_dir_all(sysroot).unwrap();
    }
}
