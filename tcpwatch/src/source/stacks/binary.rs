//! A file that a process runs: how to leave its functions.

use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use gimli::{BaseAddresses, CieOrFde, EhFrame, EhFrameHdr, LittleEndian, UnwindContext, UnwindSection};
use hashbrown::HashMap;
use rustix::fs::Stat;

use super::unwind::{Rule, Section};
use crate::input::stacks::Why;

/// Bytes of a section that are read at most: more than the largest program has.
const SECTION_MAX: u64 = 64 << 20;
/// Places whose rules are remembered, of one file.
const RULES_MAX: usize = 16_384;
/// Headers of segments or sections that are read at most.
const HEADERS_MAX: u16 = 4096;

/// What tells one file from another, and from what it was before somebody wrote it anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileKey {
    device: u64,
    inode: u64,
    size: i64,
    changed: (i64, u64),
}

impl FileKey {
    pub(super) fn from_stat(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            changed: (stat.st_mtime, stat.st_mtime_nsec),
        }
    }
}

/// A segment of code. Others may share a page with it, at other addresses.
#[derive(Clone, Copy, Debug)]
struct Segment {
    offset: u64,
    svma: u64,
    bytes: u64,
}

/// An ELF file.
pub(super) struct Binary {
    /// Its number.
    pub(super) number: u32,
    /// It, open: whoever deletes it does not take it from us.
    pub(super) file: std::fs::File,
    segments: Vec<Segment>,
    unwinding: Option<Unwinding>,
    /// At most [`RULES_MAX`]; before one more, all are forgotten, and are read again where needed.
    rules: Mutex<HashMap<u64, Result<Arc<Rule>, Why>>>,
}

/// What a file tells of how to leave its functions.
struct Unwinding {
    eh_frame: EhFrame<Section>,
    bases: BaseAddresses,
    index: Index,
}

/// How to find a function in it.
enum Index {
    /// By the table that the linker made (`.eh_frame_hdr`).
    Linker(EhFrameHdr<Section>),
    /// By the starts of functions and where what is told of them lies, where it made none.
    Own(Vec<(u64, usize)>),
}

impl Binary {
    /// Reads what there is to know of `file`.
    pub(super) fn read(number: u32, file: OwnedFd) -> Result<Self> {
        let file = std::fs::File::from(file);
        let elf = Elf::read(&file)?;
        let unwinding = elf.unwinding(&file).unwrap_or_else(|why| {
            log::debug!("a file's .eh_frame cannot be read: {why:#}");
            None
        });
        Ok(Self {
            number,
            file,
            segments: elf.segments,
            unwinding,
            rules: Mutex::default(),
        })
    }

    /// How far the file is from the addresses its symbols have, where its byte `offset` is mapped at `start`.
    pub(super) fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        const PAGE: u64 = 4096;
        let segment = self.segments.iter().find(|segment| {
            segment.offset & !(PAGE - 1) <= offset && offset < segment.offset.saturating_add(segment.bytes)
        })?;
        Some(
            start
                .wrapping_sub(offset)
                .wrapping_add(segment.offset)
                .wrapping_sub(segment.svma),
        )
    }

    /// How to leave the function at `svma`, and the section that tells it.
    pub(super) fn rule(&self, svma: u64) -> Result<(Arc<Rule>, &EhFrame<Section>), Why> {
        let unwinding = self.unwinding.as_ref().ok_or(Why::NoUnwindInfo)?;
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rule) = rules.get(&svma) {
            return Ok((rule.clone()?, &unwinding.eh_frame));
        }
        let rule = unwinding.rule(svma).map(Arc::new);
        if rules.len() >= RULES_MAX {
            rules.clear();
        }
        rules.insert(svma, rule.clone());
        Ok((rule?, &unwinding.eh_frame))
    }
}

impl Unwinding {
    fn rule(&self, svma: u64) -> Result<Rule, Why> {
        let find = EhFrame::cie_from_offset;
        let fde = match &self.index {
            Index::Linker(header) => header
                .parse(&self.bases, 8)
                .and_then(|header| {
                    let table = header.table().ok_or(gimli::Error::NoUnwindInfoForAddress)?;
                    table.fde_for_address(&self.eh_frame, &self.bases, svma, find)
                })
                .map_err(|_| Why::NoUnwindInfo)?,
            Index::Own(starts) => {
                let after = starts.partition_point(|&(start, _)| start <= svma);
                let &(_, offset) = after
                    .checked_sub(1)
                    .and_then(|at| starts.get(at))
                    .ok_or(Why::NoUnwindInfo)?;
                let fde = self.eh_frame.fde_from_offset(&self.bases, offset.into(), find);
                fde.ok().filter(|fde| fde.contains(svma)).ok_or(Why::NoUnwindInfo)?
            }
        };
        let mut context = UnwindContext::new();
        let row = fde
            .unwind_info_for_address(&self.eh_frame, &self.bases, &mut context, svma)
            .map_err(|_| Why::Undecided)?;
        Ok(Rule {
            cfa: row.cfa().clone(),
            registers: row.registers().cloned().collect(),
            return_address: fde.cie().return_address_register(),
            interrupts: fde.is_signal_trampoline(),
            encoding: fde.cie().encoding(),
        })
    }
}

/// Where things are in an ELF file: all that is needed of it is read, and nothing is mapped, for a file that is cut short under a
/// mapping kills whoever looks at it.
struct Elf {
    segments: Vec<Segment>,
    /// Name, address, and place in the file.
    sections: Vec<(Vec<u8>, u64, u64, u64)>,
}

impl Elf {
    fn read(file: &std::fs::File) -> Result<Self> {
        const LOAD: u32 = 1;
        const EXECUTABLE: u32 = 1;
        const NOBITS: u32 = 8;
        let header = bytes(file, 0, 64)?;
        // 64 bits, little endian.
        if header.get(..6) != Some(b"\x7fELF\x02\x01") {
            bail!("no ELF file of 64 bits");
        }
        let headers = |at: usize, size: usize, count: usize, least: u16| -> Result<(u16, Vec<u8>)> {
            let (size, count) = (u16_at(&header, size), u16_at(&header, count).min(HEADERS_MAX));
            if count == 0 {
                return Ok((least, Vec::new()));
            }
            if size < least {
                bail!("the headers are too small");
            }
            Ok((
                size,
                bytes(file, u64_at(&header, at), u64::from(size) * u64::from(count))?,
            ))
        };
        let (size, programs) = headers(32, 54, 56, 56)?;
        let segments = programs
            .chunks_exact(size.into())
            .filter(|program| u32_at(program, 0) == LOAD && u32_at(program, 4) & EXECUTABLE != 0)
            .map(|program| Segment {
                offset: u64_at(program, 8),
                svma: u64_at(program, 16),
                bytes: u64_at(program, 32),
            })
            .collect();
        let (size, all) = headers(40, 58, 60, 64).unwrap_or((64, Vec::new()));
        let place = |section: &[u8]| (u64_at(section, 16), u64_at(section, 24), u64_at(section, 32));
        let names = all
            .chunks_exact(size.into())
            .nth(u16_at(&header, 62).into())
            .and_then(|section| bytes(file, place(section).1, place(section).2).ok())
            .unwrap_or_default();
        let sections = all
            .chunks_exact(size.into())
            .filter(|section| u32_at(section, 4) != NOBITS)
            .map(|section| {
                let name = names.get(u32_at(section, 0) as usize..).unwrap_or_default();
                let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
                let (svma, offset, bytes) = place(section);
                (name.to_vec(), svma, offset, bytes)
            })
            .collect();
        Ok(Self { segments, sections })
    }

    /// Address and content of the section `name`.
    fn section(&self, file: &std::fs::File, name: &str) -> Result<Option<(u64, Section)>> {
        let Some((_, svma, offset, size)) = self.sections.iter().find(|(found, ..)| found == name.as_bytes()) else {
            return Ok(None);
        };
        let bytes = bytes(file, *offset, *size).with_context(|| name.to_owned())?;
        Ok(Some((*svma, Section::new(bytes.into(), LittleEndian))))
    }

    fn address(&self, name: &str) -> u64 {
        self.sections
            .iter()
            .find(|(found, ..)| found == name.as_bytes())
            .map_or(0, |section| section.1)
    }

    fn unwinding(&self, file: &std::fs::File) -> Result<Option<Unwinding>> {
        let Some((svma, content)) = self.section(file, ".eh_frame")? else {
            return Ok(None);
        };
        let header = self.section(file, ".eh_frame_hdr")?;
        let bases = BaseAddresses::default()
            .set_eh_frame(svma)
            .set_eh_frame_hdr(header.as_ref().map_or(0, |(svma, _)| *svma))
            .set_text(self.address(".text"))
            .set_got(self.address(".got"));
        let mut eh_frame = EhFrame::from(content);
        eh_frame.set_address_size(8);
        let table = header
            .map(|(_, content)| EhFrameHdr::from(content))
            .filter(|header| header.parse(&bases, 8).is_ok_and(|parsed| parsed.table().is_some()));
        let index = match table {
            Some(header) => Index::Linker(header),
            None => Index::Own(function_starts(&eh_frame, &bases)?),
        };
        Ok(Some(Unwinding { eh_frame, bases, index }))
    }
}

/// Where functions start, in order, and where in the section what is told of each lies.
fn function_starts(eh_frame: &EhFrame<Section>, bases: &BaseAddresses) -> Result<Vec<(u64, usize)>> {
    let mut starts = Vec::new();
    let mut entries = eh_frame.entries(bases);
    while let Some(entry) = entries.next()? {
        if let CieOrFde::Fde(partial) = entry {
            let fde = partial.parse(EhFrame::cie_from_offset)?;
            starts.push((fde.initial_address(), fde.offset()));
        }
    }
    starts.sort_unstable();
    Ok(starts)
}

/// `count` bytes of `file`, from `offset` on.
fn bytes(file: &std::fs::File, offset: u64, count: u64) -> Result<Vec<u8>> {
    if count > SECTION_MAX {
        bail!("{count} bytes are too many");
    }
    let mut bytes = vec![0; usize::try_from(count)?];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..at + N)
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    fn file(content: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file
    }

    /// A function, and where the file has it.
    fn here() -> u64 {
        let address = here as fn() -> u64 as usize as u64;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let (start, offset) = maps
            .lines()
            .find_map(|line| {
                let mut words = line.split(' ');
                let (start, end) = words.next()?.split_once('-')?;
                let hex = |word| u64::from_str_radix(word, 16).unwrap();
                let offset = words.nth(1)?;
                (hex(start)..hex(end))
                    .contains(&address)
                    .then(|| (hex(start), hex(offset)))
            })
            .unwrap();
        let exe = std::fs::File::open("/proc/self/exe").unwrap();
        let binary = Binary::read(0, exe.into()).unwrap();
        address - binary.bias(start, offset).unwrap()
    }

    #[test]
    fn a_function_of_ours_is_told_of_by_either_index() {
        let svma = here();
        let exe = std::fs::File::open("/proc/self/exe").unwrap();
        let elf = Elf::read(&exe).unwrap();
        let mut unwinding = elf.unwinding(&exe).unwrap().unwrap();
        assert!(matches!(unwinding.index, Index::Linker(_)));
        let told = |unwinding: &Unwinding| {
            let rule = unwinding.rule(svma).unwrap();
            (
                format!("{:?} {:?}", rule.cfa, rule.registers),
                unwinding.rule(0).is_err(),
            )
        };
        let by_linker = told(&unwinding);
        unwinding.index = Index::Own(function_starts(&unwinding.eh_frame, &unwinding.bases).unwrap());
        assert_eq!(told(&unwinding), by_linker);
        assert!(by_linker.1);
    }

    #[test]
    fn what_is_no_program_is_an_error_and_what_is_spoilt_never_more() {
        assert!(Binary::read(0, file(b"").into()).is_err());
        assert!(Binary::read(0, file(&[0x7f; 4096]).into()).is_err());
        let svma = here();
        let exe = std::fs::read("/proc/self/exe").unwrap();
        // The header alone has where all else is; so it may be anywhere.
        for at in 0..64 {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut spoilt = exe[..exe.len().min(1 << 16)].to_vec();
                spoilt[at] = byte;
                if let Ok(binary) = Binary::read(0, file(&spoilt).into()) {
                    let _any = (binary.rule(svma).is_ok(), binary.bias(0, 0));
                }
            }
        }
    }
}
