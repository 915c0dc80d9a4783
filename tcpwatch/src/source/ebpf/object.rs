//! The embedded BPF object.

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSymbol};
use tcpwatch_common::{ABI_VERSION, names};

/// The object this program was built with.
pub static EMBEDDED: &[u8] = aya::include_bytes_aligned!(env!("TCPWATCH_BPF_OBJECT_PATH"));

/// The ABI `object` speaks.
///
/// # Errors
/// It is no BPF object of tcpwatch's.
pub fn abi(object: &[u8]) -> Result<u32> {
    let file = object::File::parse(object).context("the BPF object is no ELF file")?;
    let symbol = file
        .symbol_by_name(names::GLOBAL_ABI)
        .context("the BPF object names no ABI; rebuild it with: cargo xtask ebpf")?;
    let section = symbol.section_index().context("the BPF object's ABI is nowhere")?;
    let bytes = file.section_by_index(section)?.data_range(symbol.address(), 4)?;
    let bytes: [u8; 4] = bytes
        .and_then(|bytes| bytes.try_into().ok())
        .context("the BPF object's ABI is cut short")?;
    Ok(u32::from_le_bytes(bytes))
}

/// Refuses an object that speaks another ABI than this program.
///
/// # Errors
/// One line that names both versions.
pub fn check_abi(object: &[u8]) -> Result<()> {
    let found = abi(object)?;
    if found != ABI_VERSION {
        bail!("the BPF object speaks ABI {found}, this tcpwatch ABI {ABI_VERSION}; rebuild it with: cargo xtask ebpf");
    }
    Ok(())
}
