//! The unwind information of a file (`.eh_frame`): how to get from a function to its caller.

use std::cell::RefCell;
use std::fs::File;
use std::rc::Rc;

use anyhow::Result;
use gimli::{BaseAddresses, CieOrFde, EhFrame, EhFrameHdr, LittleEndian, UnwindContext, UnwindSection};
use hashbrown::HashMap;

use super::elf::Elf;
use super::unwind::{Rule, Section};
use crate::input::stacks::Why;

/// Places whose rules are remembered, of one file.
const RULES_MAX: usize = 16_384;
/// Bytes of what is told of a function at most: far more than a compiler writes.
const ENTRY_MAX: usize = 1 << 14;

/// A file that processes run.
pub(super) struct Program {
    elf: Elf,
    unwinding: Option<Unwinding>,
    /// Bytes of it that are kept.
    pub(super) bytes: usize,
    /// At most [`RULES_MAX`]; before one more, all are forgotten, and are read again where needed.
    rules: RefCell<HashMap<u64, Result<Rc<Rule>, Why>>>,
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

impl Program {
    /// Reads what there is to know of `file`.
    ///
    /// # Errors
    /// It cannot be read, or is no ELF file of 64 bits.
    pub(super) fn read(file: File) -> Result<Self, Why> {
        let elf = Elf::read(file)?;
        // Without it the stack ends there, and says so.
        let read = Unwinding::read(&elf).ok().flatten();
        let (unwinding, bytes) = read.map_or((None, 0), |(unwinding, bytes)| (Some(unwinding), bytes));
        Ok(Self {
            elf,
            unwinding,
            bytes,
            rules: RefCell::default(),
        })
    }

    /// How far the file is from the addresses its symbols have, where its byte `offset` is mapped at `start`.
    pub(super) fn bias(&self, start: u64, offset: u64) -> Option<u64> {
        self.elf.bias(start, offset)
    }

    /// How to leave the function at `address`, and the section that tells it.
    pub(super) fn rule(&self, address: u64) -> Result<(Rc<Rule>, &EhFrame<Section>), Why> {
        let unwinding = self.unwinding.as_ref().ok_or(Why::NoUnwindInfo)?;
        let mut rules = self.rules.borrow_mut();
        if let Some(rule) = rules.get(&address) {
            return Ok((rule.clone()?, &unwinding.eh_frame));
        }
        let rule = unwinding.rule(address).map(Rc::new);
        if rules.len() >= RULES_MAX {
            rules.clear();
        }
        rules.insert(address, rule.clone());
        Ok((rule?, &unwinding.eh_frame))
    }
}

impl Unwinding {
    /// What `elf` tells, and how many bytes of it are kept; `None` where it tells nothing.
    fn read(elf: &Elf) -> Result<Option<(Self, usize)>> {
        let Some(section) = elf.section(".eh_frame") else {
            return Ok(None);
        };
        let content = elf.content(section)?;
        let header = elf.section(".eh_frame_hdr");
        let header_content = header.map(|header| elf.content(header)).transpose()?;
        let address = |name: &str| elf.section(name).map_or(0, |section| section.address);
        let bases = BaseAddresses::default()
            .set_eh_frame(section.address)
            .set_eh_frame_hdr(header.map_or(0, |header| header.address))
            .set_text(address(".text"))
            .set_got(address(".got"));
        let mut bytes = content.len() + header_content.as_ref().map_or(0, Vec::len);
        let mut eh_frame = EhFrame::from(Section::new(content.into(), LittleEndian));
        eh_frame.set_address_size(8);
        let table = header_content
            .map(|content| EhFrameHdr::from(Section::new(content.into(), LittleEndian)))
            .filter(|header| header.parse(&bases, 8).is_ok_and(|parsed| parsed.table().is_some()));
        let index = match table {
            Some(header) => Index::Linker(header),
            None => Index::Own(function_starts(&eh_frame, &bases)?),
        };
        if let Index::Own(starts) = &index {
            bytes += size_of_val(starts.as_slice());
        }
        Ok(Some((Self { eh_frame, bases, index }, bytes)))
    }

    fn rule(&self, address: u64) -> Result<Rule, Why> {
        let find = EhFrame::cie_from_offset;
        let offset = match &self.index {
            Index::Linker(header) => self.by_linker(header, address),
            Index::Own(starts) => {
                let after = starts.partition_point(|&(start, _)| start <= address);
                after.checked_sub(1).and_then(|at| Some(starts.get(at)?.1))
            }
        };
        let fde = offset.and_then(|offset| self.eh_frame.fde_from_offset(&self.bases, offset.into(), find).ok());
        let fde = fde.filter(|fde| fde.contains(address)).ok_or(Why::NoUnwindInfo)?;
        // Each place is read from its function's start on.
        if fde.entry_len() > ENTRY_MAX || fde.cie().entry_len() > ENTRY_MAX {
            return Err(Why::Undecided);
        }
        let mut context = UnwindContext::new();
        let row = fde
            .unwind_info_for_address(&self.eh_frame, &self.bases, &mut context, address)
            .map_err(|_| Why::Undecided)?;
        Ok(Rule {
            cfa: row.cfa().clone(),
            registers: row.registers().cloned().collect(),
            return_address: fde.cie().return_address_register(),
            interrupts: fde.is_signal_trampoline(),
            encoding: fde.cie().encoding(),
        })
    }

    /// Finds the entry for the function at `address` in the linker's table (`.eh_frame_hdr`): its offset in the section; `None` if the table
    /// has none, or points elsewhere.
    fn by_linker(&self, header: &EhFrameHdr<Section>, address: u64) -> Option<usize> {
        let header = header.parse(&self.bases, 8).ok()?;
        let place = header.table()?.lookup(address, &self.bases).ok()?;
        // It may point anywhere.
        let offset = place.direct().ok()?.checked_sub(self.bases.eh_frame.section?)?;
        usize::try_from(offset).ok()
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn ours() -> File {
        File::open("/proc/self/exe").unwrap()
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
        address - Program::read(ours()).unwrap().bias(start, offset).unwrap()
    }

    #[test]
    fn a_function_of_ours_is_told_of_by_either_index() {
        let address = here();
        let (mut unwinding, _) = Unwinding::read(&Elf::read(ours()).unwrap()).unwrap().unwrap();
        assert!(matches!(unwinding.index, Index::Linker(_)));
        let told = |unwinding: &Unwinding| {
            let rule = unwinding.rule(address).unwrap();
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
        assert_eq!(Program::read(file(b"")).err(), Some(Why::Unreadable));
        assert_eq!(Program::read(file(&[0x7f; 4096])).err(), Some(Why::NotElf64));
        let address = here();
        let mut exe = vec![0; 1 << 16];
        std::os::unix::fs::FileExt::read_exact_at(&ours(), &mut exe, 0).unwrap();
        // EI_CLASS of ELFCLASS32 (elf(5)).
        let mut small = exe.clone();
        small[4] = 1;
        assert_eq!(Program::read(file(&small)).err(), Some(Why::NotElf64));
        // The header alone has where all else is; so it may be anywhere.
        for at in 0..64 {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut spoilt = exe.clone();
                spoilt[at] = byte;
                if let Ok(program) = Program::read(file(&spoilt)) {
                    let _any = (program.rule(address).is_ok(), program.bias(0, 0));
                }
            }
        }
    }
}
