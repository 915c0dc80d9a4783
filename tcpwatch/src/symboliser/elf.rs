//! An ELF file: where its segments and sections are, and their contents. It is read, and never mapped: a file that is cut short under a
//! mapping kills whoever looks at it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, anyhow, bail};
use object::LittleEndian as Le;
use object::elf::{
    CompressionHeader64, ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD, FileHeader64, PF_X, PT_LOAD, ProgramHeader64,
    SHF_COMPRESSED, SHT_NOBITS, SectionHeader64,
};
use object::pod::{Pod, from_bytes};

use rustix::param::page_size;

use crate::input::stacks::Why;

/// Bytes of a section that are read at most, and those it may unpack to: more than the largest programs have in one.
pub(super) const SECTION_MAX: u64 = 64 << 20;
/// Headers of segments or of sections that are read at most.
const HEADERS_MAX: u16 = 4096;

/// A segment of code. Another may share a page with it, at other addresses.
#[derive(Clone, Copy, Debug)]
struct Segment {
    offset: u64,
    address: u64,
    bytes: u64,
}

/// Where a section is.
#[derive(Clone, Debug)]
pub(super) struct Section {
    name: Vec<u8>,
    is_compressed: bool,
    /// The address at which its symbols expect it.
    pub(super) address: u64,
    offset: u64,
    /// Its bytes in the file.
    size: u64,
}

/// An ELF file of 64 bits.
pub(super) struct Elf {
    file: File,
    segments: Vec<Segment>,
    sections: Vec<Section>,
}

impl Elf {
    /// Reads the headers of `file`.
    ///
    /// # Errors
    /// They cannot be read, or it is no ELF file of 64 bits.
    pub(super) fn read(file: File) -> Result<Self, Why> {
        let header = bytes(&file, 0, 64).map_err(|_| Why::Unreadable)?;
        let (header, _) = from_bytes::<FileHeader64<Le>>(&header).map_err(|()| Why::NotElf64)?;
        // ELFMAG, ELFCLASS64, ELFDATA2LSB (elf(5)).
        let ident = &header.e_ident;
        if (ident.magic, ident.class, ident.data) != (*b"\x7fELF", 2, 1) {
            return Err(Why::NotElf64);
        }
        let table = |offset: u64, count: u16, size: u16| {
            let count = u64::from(count.min(HEADERS_MAX));
            bytes(&file, offset, count * u64::from(size)).map_err(|_| Why::Unreadable)
        };
        let (count, size) = (header.e_phnum.get(Le), header.e_phentsize.get(Le));
        let programs = table(header.e_phoff.get(Le), count, size)?;
        let segments = all::<ProgramHeader64<Le>>(&programs, size)
            .filter(|program| program.p_type.get(Le) == PT_LOAD && program.p_flags.get(Le) & PF_X != 0)
            .map(|program| Segment {
                offset: program.p_offset.get(Le),
                address: program.p_vaddr.get(Le),
                bytes: program.p_filesz.get(Le),
            })
            .collect();
        // A program runs without them.
        let (count, size) = (header.e_shnum.get(Le), header.e_shentsize.get(Le));
        let headers = table(header.e_shoff.get(Le), count, size).unwrap_or_default();
        let headers: Vec<SectionHeader64<Le>> = all(&headers, size).collect();
        let names = headers
            .get(usize::from(header.e_shstrndx.get(Le)))
            .and_then(|names| bytes(&file, names.sh_offset.get(Le), names.sh_size.get(Le)).ok())
            .unwrap_or_default();
        let sections = headers
            .iter()
            .filter(|section| section.sh_type.get(Le) != SHT_NOBITS)
            .map(|section| Section {
                name: text(&names, section.sh_name.get(Le)).to_vec(),
                is_compressed: section.sh_flags.get(Le) & u64::from(SHF_COMPRESSED) != 0,
                address: section.sh_addr.get(Le),
                offset: section.sh_offset.get(Le),
                size: section.sh_size.get(Le),
            })
            .collect();
        Ok(Self {
            file,
            segments,
            sections,
        })
    }

    /// How far the file is from the addresses its symbols have, where its byte `offset` is mapped at `start`.
    pub(super) fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        let page = page_size() as u64;
        let segment = self.segments.iter().find(|segment| {
            segment.offset & !(page - 1) <= offset && offset < segment.offset.saturating_add(segment.bytes)
        })?;
        Some(
            start
                .wrapping_sub(offset)
                .wrapping_add(segment.offset)
                .wrapping_sub(segment.address),
        )
    }

    /// The section `name`.
    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name.as_bytes())
    }

    /// Bytes of a section, once it is unpacked.
    ///
    /// # Errors
    /// It is longer than [`SECTION_MAX`], or its header cannot be read.
    pub(super) fn unpacked_size(&self, section: &Section) -> Result<u64> {
        let size = if section.is_compressed {
            self.compression(section)?.ch_size.get(Le)
        } else {
            section.size
        };
        if size > SECTION_MAX {
            bail!("{size} bytes are too many");
        }
        Ok(size)
    }

    /// The content of a section, unpacked.
    ///
    /// # Errors
    /// It is longer than [`SECTION_MAX`], or cannot be read or unpacked.
    pub(super) fn content(&self, section: &Section) -> Result<Vec<u8>> {
        let size = usize::try_from(self.unpacked_size(section)?)?;
        let content = bytes(&self.file, section.offset, section.size)?;
        if !section.is_compressed {
            return Ok(content);
        }
        let packed = content.get(size_of::<CompressionHeader64<Le>>()..).unwrap_or_default();
        match self.compression(section)?.ch_type.get(Le) {
            ELFCOMPRESS_ZLIB => miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(packed, size)
                .map_err(|why| anyhow!("cannot unpack: {why}")),
            ELFCOMPRESS_ZSTD => zstd::bulk::decompress(packed, size).context("cannot unpack"),
            other => bail!("packed in the unknown way {other}"),
        }
    }

    fn compression(&self, section: &Section) -> Result<CompressionHeader64<Le>> {
        let header = bytes(&self.file, section.offset, size_of::<CompressionHeader64<Le>>() as u64)?;
        let (header, _) = from_bytes::<CompressionHeader64<Le>>(&header).map_err(|()| anyhow!("a short header"))?;
        Ok(*header)
    }

    /// The build ID (`.note.gnu.build-id`), by which its debug information is found.
    pub(super) fn build_id(&self) -> Option<Vec<u8>> {
        /// More than any hash has.
        const NOTE_MAX: u64 = 1024;
        let section = self
            .section(".note.gnu.build-id")
            .filter(|section| section.size <= NOTE_MAX)?;
        let note = self.content(section).ok()?;
        // The sizes of the name and of the ID, NT_GNU_BUILD_ID, and the name (elf(5)).
        let id = note.strip_prefix(&[4, 0, 0, 0][..])?;
        let (size, rest) = id.split_first_chunk::<4>()?;
        let rest = rest.strip_prefix(b"\x03\0\0\0GNU\0")?;
        rest.get(..u32::from_le_bytes(*size) as usize).map(<[u8]>::to_vec)
    }
}

/// `count` bytes of `file`, from `offset` on.
fn bytes(file: &File, offset: u64, count: u64) -> Result<Vec<u8>> {
    if count > SECTION_MAX {
        bail!("{count} bytes are too many");
    }
    let mut bytes = vec![0; usize::try_from(count)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// The entries of a table whose entries have `size` bytes each, which may be more than is known of them.
fn all<T: Pod>(table: &[u8], size: u16) -> impl Iterator<Item = T> {
    let entries = table.chunks_exact(usize::from(size).max(1));
    entries.filter_map(|entry| from_bytes::<T>(entry).ok().map(|(entry, _)| *entry))
}

/// The bytes at `at`, up to a zero.
pub(super) fn text(strings: &[u8], at: u32) -> &[u8] {
    let rest = strings.get(at as usize..).unwrap_or_default();
    rest.split(|&byte| byte == 0).next().unwrap_or_default()
}
