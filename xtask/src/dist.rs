//! `cargo xtask dist`: builds the one static program that is handed to others.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use object::Endianness;
use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use crate::cargo;

/// Builds the program and prints where it is.
pub(crate) fn run() -> Result<()> {
    let program = build()?;
    let bytes = fs::metadata(&program)
        .with_context(|| format!("cannot read {}", program.display()))?
        .len();
    eprintln!("built {} ({bytes} bytes, statically linked)", program.display());
    Ok(())
}

/// Builds the program, puts it at `dist/tcpwatch` in cargo's target folder, and returns that path.
///
/// # Errors
/// It does not build, or the linker made a program that needs shared libraries.
pub(crate) fn build() -> Result<PathBuf> {
    let arguments = ["build", "--locked", "--release", "--package=tcpwatch", "--bin=tcpwatch"];
    let built = cargo::static_executable(&arguments, "tcpwatch")?;
    if !is_static_file(&built)? {
        bail!("{} is not statically linked", built.display());
    }
    let folder = cargo::places()?.target.join("dist");
    let program = folder.join("tcpwatch");
    // Where it runs at the moment, only another file can take its place.
    let fresh = folder.join("tcpwatch.new");
    fs::create_dir_all(&folder)
        .and_then(|()| fs::copy(&built, &fresh))
        .and_then(|_| fs::rename(&fresh, &program))
        .with_context(|| format!("cannot write {}", program.display()))?;
    Ok(program)
}

/// Whether the program in a file is statically linked.
pub(crate) fn is_static_file(program: &Path) -> Result<bool> {
    let elf = fs::read(program).map_err(anyhow::Error::from);
    elf.and_then(|elf| is_static(&elf))
        .with_context(|| format!("cannot read {}", program.display()))
}

/// Whether a program names no dynamic linker, which would load shared libraries for it.
fn is_static(elf: &[u8]) -> Result<bool> {
    let header = FileHeader64::<Endianness>::parse(elf)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, elf)?;
    Ok(segments.iter().all(|segment| segment.p_type(endian) != PT_INTERP))
}

#[cfg(test)]
mod tests {
    use object::elf::{PT_INTERP, PT_LOAD};

    use super::is_static;

    /// The headers of a little-endian ELF file of 64 bits, with one segment of this type.
    fn elf(segment: u32) -> Vec<u8> {
        const FILE_HEADER: u8 = 64;
        const PROGRAM_HEADER: u8 = 56;
        let mut elf = vec![0; usize::from(FILE_HEADER + PROGRAM_HEADER)];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        // e_phoff, e_phentsize, e_phnum
        (elf[32], elf[54], elf[56]) = (FILE_HEADER, PROGRAM_HEADER, 1);
        elf[usize::from(FILE_HEADER)..][..4].copy_from_slice(&segment.to_le_bytes());
        elf
    }

    #[test]
    fn a_program_with_a_dynamic_linker_is_not_static() {
        assert!(is_static(&elf(PT_LOAD)).expect("ELF"));
        assert!(!is_static(&elf(PT_INTERP)).expect("ELF"));
        let this_test = std::fs::read("/proc/self/exe").expect("this program");
        assert!(!is_static(&this_test).expect("ELF"));
        is_static(b"#!/bin/sh").expect_err("a script");
    }
}
