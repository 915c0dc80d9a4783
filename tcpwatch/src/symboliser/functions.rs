//! From addresses in a file to functions and lines: by its debug information, else by its symbols.

use std::borrow::Cow;
use std::fs::File;
use std::rc::Rc;

use addr2line::{Context, demangle_auto};
use anyhow::Result;
use gimli::{Dwarf, LittleEndian, SectionId};
use object::LittleEndian as Le;
use object::elf::{SHN_UNDEF, STB_LOCAL, STT_FUNC, STT_GNU_IFUNC, Sym64};
use object::pod::from_bytes;

use super::elf::{Elf, text};
use super::unwind::Section as Bytes;
use super::wire::Frame;
use crate::input::stacks::Unnamed;

/// Bytes of debug information that are read of a file at most, unpacked. Of a program that has more the functions are known, and no lines.
const DEBUG_MAX: u64 = 96 << 20;
/// Functions inlined into one another that are shown at most.
pub(super) const INLINED_MAX: usize = 64;
/// Symbols before an address that are looked at: a function may have others in it.
const NESTED_MAX: usize = 16;
/// Bytes of a name at most.
pub(super) const NAME_MAX: usize = 4096;

/// What is known of the functions of a file.
pub(super) struct Functions {
    debug: Option<Context<Bytes>>,
    symbols: Vec<Symbol>,
    names: Vec<u8>,
    /// Bytes of the file that are kept.
    pub(super) bytes: u64,
}

/// A function, as a symbol tells it.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    start: u64,
    size: u64,
    /// Where its name begins in the table of names.
    name: u32,
    is_local: bool,
}

impl Functions {
    /// Reads what `file` tells; `debug_file` finds the file with the debug information for a build ID.
    ///
    /// # Errors
    /// It is no ELF file of 64 bits, or its symbols cannot be read.
    pub(super) fn read(file: File, debug_file: &mut dyn FnMut(Vec<u8>) -> Option<File>) -> Result<Self, Unnamed> {
        let elf = Elf::read(file).map_err(|_| Unnamed::Unreadable)?;
        let has_debug = |elf: &Elf| elf.section(".debug_info").is_some();
        let build_id = elf.build_id();
        let other = if has_debug(&elf) { None } else { build_id.clone() };
        let other = other
            .and_then(debug_file)
            .and_then(|file| Elf::read(file).ok())
            // Of another build of the program all would be wrong.
            .filter(|other| other.build_id() == build_id);
        let of_debug = other.as_ref().unwrap_or(&elf);
        let (debug, mut bytes) = match debug_bytes(of_debug) {
            Some(bytes) => (debug(of_debug).ok(), bytes),
            None => (None, 0),
        };
        let tables = [
            (of_debug, ".symtab", ".strtab"),
            (&elf, ".symtab", ".strtab"),
            (&elf, ".dynsym", ".dynstr"),
        ];
        let (symbols, names) = tables
            .into_iter()
            .find(|(elf, symbols, _)| elf.section(symbols).is_some())
            .map_or_else(
                || Ok((Vec::new(), Vec::new())),
                |(elf, symbols, names)| table(elf, symbols, names),
            )
            .map_err(|_| Unnamed::Unreadable)?;
        bytes += (names.len() + size_of_val(symbols.as_slice())) as u64;
        Ok(Self {
            debug,
            symbols,
            names,
            bytes,
        })
    }

    /// The functions at `address`, those first that are inlined there; none if there is no symbol.
    pub(super) fn at(&self, address: u64) -> Vec<Frame> {
        let mut frames = self.by_debug(address).unwrap_or_default();
        let symbol = self.by_symbol(address);
        match frames.last_mut() {
            Some(outermost) if outermost.function.is_none() => outermost.function = symbol,
            Some(_) => {}
            None => frames.extend(symbol.map(|function| Frame {
                function: Some(function),
                ..Frame::default()
            })),
        }
        frames.retain(|frame| frame.function.is_some());
        let inlined = frames.len().saturating_sub(1);
        frames[..inlined].iter_mut().for_each(|frame| frame.is_inlined = true);
        frames
    }

    fn by_debug(&self, address: u64) -> Option<Vec<Frame>> {
        let found = self.debug.as_ref()?.find_frames(address);
        let mut found = found.skip_all_loads().ok()?;
        let mut frames = Vec::new();
        while let Ok(Some(frame)) = found.next() {
            let place = frame.location;
            frames.push(Frame {
                function: frame.function.and_then(|name| Some(short(name.demangle().ok()?))),
                file: place.as_ref().and_then(|place| Some(short(Cow::from(place.file?)))),
                line: place.and_then(|place| place.line).filter(|&line| line > 0),
                is_inlined: false,
            });
            if frames.len() == INLINED_MAX {
                break;
            }
        }
        Some(frames)
    }

    fn by_symbol(&self, address: u64) -> Option<String> {
        let after = self.symbols.partition_point(|symbol| symbol.start <= address);
        // Of several that name one function, the last is known outside of its file.
        let mut before = self.symbols[..after].iter().rev().take(NESTED_MAX);
        let symbol = before.find(|symbol| symbol.has(address))?;
        let name = String::from_utf8_lossy(text(&self.names, symbol.name));
        (!name.is_empty()).then(|| short(demangle_auto(name, None)))
    }
}

impl Symbol {
    fn has(&self, address: u64) -> bool {
        let offset = address - self.start;
        // Where a symbol does not tell how far its function goes, what is past its start may be another.
        offset < self.size || offset == 0
    }
}

/// Bytes of the debug information of `elf`, unpacked; `None` where there is none, or too much.
fn debug_bytes(elf: &Elf) -> Option<u64> {
    elf.section(".debug_info")?;
    let mut bytes = 0;
    for id in sections() {
        if let Some(section) = elf.section(id.name()) {
            bytes += elf.unpacked_size(section).ok()?;
        }
    }
    (bytes <= DEBUG_MAX).then_some(bytes)
}

/// The sections that addr2line reads.
fn sections() -> impl Iterator<Item = SectionId> {
    [
        SectionId::DebugAbbrev,
        SectionId::DebugAddr,
        SectionId::DebugAranges,
        SectionId::DebugInfo,
        SectionId::DebugLine,
        SectionId::DebugLineStr,
        SectionId::DebugRanges,
        SectionId::DebugRngLists,
        SectionId::DebugStr,
        SectionId::DebugStrOffsets,
    ]
    .into_iter()
}

fn debug(elf: &Elf) -> Result<Context<Bytes>> {
    let dwarf = Dwarf::load(|id| -> Result<Bytes> {
        let section = elf.section(id.name()).filter(|_| sections().any(|used| used == id));
        let content = section.map(|section| elf.content(section)).transpose()?;
        Ok(Bytes::new(Rc::from(content.unwrap_or_default()), LittleEndian))
    })?;
    Ok(Context::from_dwarf(dwarf)?)
}

/// The functions of a table of symbols, by their addresses, and its names.
fn table(elf: &Elf, symbols: &str, names: &str) -> Result<(Vec<Symbol>, Vec<u8>)> {
    let content = |name: &str| elf.section(name).map(|section| elf.content(section)).transpose();
    let (table, names) = (
        content(symbols)?.unwrap_or_default(),
        content(names)?.unwrap_or_default(),
    );
    let mut symbols: Vec<Symbol> = table
        .chunks_exact(size_of::<Sym64<Le>>())
        .filter_map(|symbol| Some(from_bytes::<Sym64<Le>>(symbol).ok()?.0))
        .filter(|symbol| matches!(symbol.st_info & 0xf, STT_FUNC | STT_GNU_IFUNC))
        .filter(|symbol| symbol.st_shndx.get(Le) != SHN_UNDEF)
        .map(|symbol| Symbol {
            start: symbol.st_value.get(Le),
            size: symbol.st_size.get(Le),
            name: symbol.st_name.get(Le),
            is_local: symbol.st_info >> 4 == STB_LOCAL,
        })
        .collect();
    symbols.sort_by_key(|symbol| (symbol.start, !symbol.is_local));
    Ok((symbols, names))
}

/// `name`, no longer than [`NAME_MAX`].
pub(super) fn short(name: Cow<'_, str>) -> String {
    let mut name = name.into_owned();
    name.truncate(name.floor_char_boundary(NAME_MAX));
    name
}
