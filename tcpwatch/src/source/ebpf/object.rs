//! The embedded BPF object.

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSymbol};
use tcpwatch_common::{ABI_VERSION, names};

use super::bpf::BPF_F_NO_PREALLOC;

/// The BPF object that this program was built with.
pub static EMBEDDED: &[u8] = aya::include_bytes_aligned!(env!("TCPWATCH_BPF_OBJECT_PATH"));

/// The ABI version of `object`.
///
/// # Errors
/// `object` is not a BPF object of tcpwatch.
pub fn abi(object: &[u8]) -> Result<u32> {
    let file = object::File::parse(object).context("the BPF object is not an ELF file")?;
    let symbol = file
        .symbol_by_name(names::GLOBAL_ABI)
        .context("the BPF object has no ABI version; try cargo xtask ebpf")?;
    let section = symbol
        .section_index()
        .context("the BPF object's ABI version is in no section")?;
    let bytes = file.section_by_index(section)?.data_range(symbol.address(), 4)?;
    let bytes: [u8; 4] = bytes
        .and_then(|bytes| bytes.try_into().ok())
        .context("the BPF object's ABI version is truncated")?;
    Ok(u32::from_le_bytes(bytes))
}

/// Checks that `object` has the ABI version of this program.
///
/// # Errors
/// One line with both versions.
pub fn check_abi(object: &[u8]) -> Result<()> {
    let found = abi(object)?;
    if found != ABI_VERSION {
        bail!("the BPF object has ABI {found}, but tcpwatch has ABI {ABI_VERSION}; try cargo xtask ebpf");
    }
    Ok(())
}

/// `object` with hash tables whose entries are all allocated at the start.
///
/// # Errors
/// `object` is not a BPF object of tcpwatch.
pub(super) fn preallocated(object: &[u8]) -> Result<Vec<u8>> {
    /// Size of a definition and offset of its flags (aya's `bpf_map_def`).
    const DEFINITION: usize = 28;
    const FLAGS: usize = 16;
    let file = object::File::parse(object).context("the BPF object is not an ELF file")?;
    let maps = file.section_by_name("maps").and_then(|section| section.file_range());
    let (start, length) = maps.context("the BPF object has no maps")?;
    let (start, length) = (usize::try_from(start)?, usize::try_from(length)?);
    let mut changed = object.to_vec();
    let maps = changed
        .get_mut(start..start + length)
        .context("the BPF object is truncated")?;
    for definition in maps.chunks_exact_mut(DEFINITION) {
        if let Some(flags) = definition[FLAGS..].first_chunk_mut() {
            *flags = (u32::from_ne_bytes(*flags) & !BPF_F_NO_PREALLOC).to_ne_bytes();
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The offset of the ABI version in the embedded object.
    fn place_of_abi() -> usize {
        let file = object::File::parse(EMBEDDED).unwrap();
        let symbol = file.symbol_by_name(names::GLOBAL_ABI).unwrap();
        let section = file.section_by_index(symbol.section_index().unwrap()).unwrap();
        usize::try_from(section.file_range().unwrap().0 + symbol.address()).unwrap()
    }

    #[test]
    fn the_embedded_object_has_our_abi() {
        check_abi(EMBEDDED).unwrap();
    }

    #[test]
    fn an_object_of_another_abi_is_refused_by_name() {
        let mut other = EMBEDDED.to_vec();
        other[place_of_abi()] = 99;
        let error = check_abi(&other).unwrap_err().to_string();
        assert!(
            error.contains("has ABI 99") && error.contains("cargo xtask ebpf"),
            "{error}"
        );
    }

    #[test]
    fn only_flags_of_tables_with_entries_on_demand_change() {
        let changed = preallocated(EMBEDDED).unwrap();
        let pairs = EMBEDDED.iter().zip(&changed);
        let differ: Vec<_> = pairs.filter(|(before, after)| before != after).collect();
        // ACCEPTED, BUCKETS and WAITING.
        assert_eq!(differ, [(&1, &0); 3]);
        assert_eq!(preallocated(&changed).unwrap(), changed);
        assert!(preallocated(b"").is_err());
    }

    #[test]
    fn other_bytes_are_refused() {
        assert!(check_abi(b"").is_err());
        assert!(check_abi(&[0x7f; 64]).is_err());
        assert!(check_abi(&EMBEDDED[..EMBEDDED.len() / 2]).is_err());
    }

    #[test]
    fn every_name_both_sides_use_is_in_the_object() {
        let file = object::File::parse(EMBEDDED).unwrap();
        for stage in names::STAGES.into_iter().chain([names::ENTRY]) {
            for suffix in [names::TYPED, names::TYPED_COPY, names::CLASSIC] {
                let name = format!("{stage}_{suffix}");
                // The kernel truncates longer names.
                assert!(name.len() <= 15, "{name}");
                assert!(file.symbol_by_name(&name).is_some(), "{name}");
            }
        }
        for name in [
            names::MAP_STAGES_TYPED,
            names::MAP_STAGES_TYPED_COPY,
            names::MAP_STAGES_CLASSIC,
            names::PROG_SEND_RESET_TP_BTF,
            names::PROG_SEND_RESET_TRACEPOINT,
            names::PROG_RECEIVE_RESET_TP_BTF,
            names::PROG_RECEIVE_RESET_TRACEPOINT,
            names::PROG_DESTROY_TP_BTF,
            names::PROG_DESTROY_TRACEPOINT,
            names::PROG_RETRANSMIT_TP_BTF,
            names::PROG_RETRANSMIT_TRACEPOINT,
            names::PROG_SYNACK_TP_BTF,
            names::PROG_SYNACK_TRACEPOINT,
            names::PROG_ACCEPTED,
            names::PROG_RENAME_TP_BTF,
            names::PROG_RENAME_TRACEPOINT,
            names::PROG_EXITED,
            names::PROG_STACK_ACCEPTED,
            names::PROG_STACK_OPENED,
            names::PROG_ITER_MARK,
            names::PROG_ITER_COUNT,
            names::PROG_ITER_LOCKS,
            names::PROG_HAS_SK_STORAGE,
            names::PROG_HAS_TASK_BTF,
            names::PROG_HAS_COOKIE,
            names::PROG_HAS_PT_REGS,
            names::PROG_EMPTY,
            names::MAP_EVENTS,
            names::MAP_LEDGER,
            names::MAP_PASSES,
            names::MAP_COUNT,
            names::MAP_PORTS,
            names::MAP_STATES_BY_ADDRESS,
            names::MAP_INFOS_BY_ADDRESS,
            names::MAP_ACCEPTED,
            names::MAP_LISTENERS,
            names::MAP_TOTALS,
            names::MAP_BUCKETS,
            names::MAP_BANK,
            names::MAP_WAITING,
            names::MAP_COMMS,
            names::MAP_NAMESPACES,
            names::MAP_STACKS,
            names::GLOBAL_FILTER,
            names::GLOBAL_SOCK,
            names::GLOBAL_CLASSIC,
            names::GLOBAL_RESET,
            names::GLOBAL_TASK,
            names::GLOBAL_PARAMS,
            names::GLOBAL_ABI,
        ] {
            assert!(file.symbol_by_name(name).is_some(), "{name}");
        }
    }

    /// arm64 before Linux 6.0 refuses tail calls in a program with functions, and the compiler creates some for large copies.
    #[test]
    fn programs_that_call_the_next_have_no_functions() {
        const BPF_CALL: u8 = 0x85;
        const BPF_PSEUDO_CALL: u8 = 1;
        let file = object::File::parse(EMBEDDED).unwrap();
        for suffix in [names::TYPED, names::TYPED_COPY, names::CLASSIC] {
            for stage in names::STAGES.into_iter().chain([names::ENTRY]) {
                let name = format!("{stage}_{suffix}");
                let symbol = file.symbol_by_name(&name).unwrap();
                let section = file.section_by_index(symbol.section_index().unwrap()).unwrap();
                let code = section.data_range(symbol.address(), symbol.size()).unwrap().unwrap();
                assert!(!code.is_empty(), "{name}");
                let mut instructions = code.chunks_exact(8);
                let calls_function = |code: &[u8]| code[0] == BPF_CALL && code[1] >> 4 == BPF_PSEUDO_CALL;
                assert!(!instructions.any(calls_function), "{name} calls a function");
            }
        }
    }
}
