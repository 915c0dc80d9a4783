//! What of an object matters to the kernel and to the loader, in a form that can be compared.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result};
use object::read::elf::ElfFile64;
use object::{
    Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionKind, SymbolKind,
};

/// Where functions are that no hook starts; which of them there are is the compiler's choice.
const SUBROUTINES: &str = ".text";

/// Things by name, each with the bytes that define it.
type Named = BTreeMap<String, Vec<u8>>;

/// The parts of an object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// By section and name: the section says what the program is attached to.
    programs: Named,
    subroutines: Named,
    maps: Named,
    /// Named constants and variables, which the loader sets.
    globals: Named,
    license: Vec<u8>,
    btf: Vec<u8>,
}

impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} programs, {} maps", self.programs.len(), self.maps.len())
    }
}

impl Shape {
    /// Takes an object apart.
    pub(crate) fn from_object(object: &[u8]) -> Result<Self> {
        let elf = ElfFile64::<Endianness>::parse(object).context("cannot read it as ELF")?;
        let mut shape = Self::default();
        for symbol in elf.symbols().filter(object::ObjectSymbol::is_definition) {
            let Some(index) = symbol.section_index() else {
                continue;
            };
            let section = elf.section_by_index(index)?;
            let (place, name) = (section.name()?, symbol.name()?);
            let end = symbol.address() + symbol.size();
            let mut bytes = section
                .data_range(symbol.address(), symbol.size())?
                .map_or_else(|| symbol.size().to_le_bytes().to_vec(), <[u8]>::to_vec);
            match (symbol.kind(), section.kind(), place) {
                (SymbolKind::Text, SectionKind::Text, _) => {
                    // The instructions alone don't say which map they use; the relocations do.
                    for (at, relocation) in section.relocations() {
                        if (symbol.address()..end).contains(&at)
                            && let RelocationTarget::Symbol(target) = relocation.target()
                        {
                            let target = elf.symbol_by_index(target)?.name()?;
                            bytes.extend(format!("\n{} {target}", at - symbol.address()).bytes());
                        }
                    }
                    let kind = if place == SUBROUTINES {
                        &mut shape.subroutines
                    } else {
                        &mut shape.programs
                    };
                    kind.insert(format!("{place}: {name}"), bytes);
                }
                (SymbolKind::Data, _, "maps" | ".maps") => {
                    shape.maps.insert(name.to_owned(), bytes);
                }
                (SymbolKind::Data, _, "license") => shape.license = bytes,
                (SymbolKind::Data, _, _) if symbol.is_global() => {
                    shape.globals.insert(name.to_owned(), bytes);
                }
                _ => {}
            }
        }
        if let Some(btf) = elf.section_by_name(".BTF") {
            shape.btf = btf.data()?.to_vec();
        }
        Ok(shape)
    }

    /// What differs from a rebuilt object, one line each; another compiler may choose other instructions.
    pub(crate) fn differences(&self, rebuilt: &Self, same_toolchain: bool) -> Vec<String> {
        let mut found = Vec::new();
        compare("program", &self.programs, &rebuilt.programs, same_toolchain, &mut found);
        compare("map", &self.maps, &rebuilt.maps, true, &mut found);
        compare("global", &self.globals, &rebuilt.globals, true, &mut found);
        if self.license != rebuilt.license {
            found.push("license".to_owned());
        }
        if same_toolchain {
            compare("function", &self.subroutines, &rebuilt.subroutines, true, &mut found);
            // A map of the `.maps` section is defined by nothing but its type here.
            if self.btf != rebuilt.btf {
                found.push("types and line information (.BTF)".to_owned());
            }
        }
        found
    }
}

fn compare(kind: &str, committed: &Named, rebuilt: &Named, content: bool, found: &mut Vec<String>) {
    for (name, bytes) in committed {
        match rebuilt.get(name) {
            None => found.push(format!("{kind} {name} is in the committed object alone")),
            Some(other) if content && other != bytes => found.push(format!("{kind} {name} is defined otherwise")),
            Some(_) => {}
        }
    }
    for name in rebuilt.keys().filter(|name| !committed.contains_key(*name)) {
        found.push(format!("{kind} {name} is missing in the committed object"));
    }
}

#[cfg(test)]
mod tests;
