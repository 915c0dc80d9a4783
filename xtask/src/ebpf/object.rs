//! Rewrites the linked object without its debug info.

use anyhow::{Context as _, Result};
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

/// DWARF, and the relocations of BTF: no loader reads them, since the offsets they would change are right in place.
const DROPPED: [&[u8]; 3] = [b".debug_", b".rel.debug_", b".rel.BTF"];

/// Drops the DWARF sections with their relocations and symbols; BTF, maps, programs and names stay.
pub(crate) fn strip_debug(linked: &[u8]) -> Result<Vec<u8>> {
    let mut elf = Builder::read(linked).context("cannot read it as ELF")?;
    for section in &mut elf.sections {
        let name = section.name.as_slice();
        section.delete |= DROPPED.iter().any(|prefix| name.starts_with(prefix));
    }
    // LLVM keeps section names among the symbols' names; this writer wants a table for each.
    if !elf
        .sections
        .iter()
        .any(|section| matches!(section.data, SectionData::SectionString))
    {
        let names = elf.sections.add();
        names.name = ".shstrtab".into();
        names.sh_type = SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    elf.write(&mut stripped).context("cannot write it as ELF")?;
    Ok(stripped)
}
