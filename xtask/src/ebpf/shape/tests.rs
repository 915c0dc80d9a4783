//! Objects made here, small enough to change one thing at a time.

use object::write::{Object, Relocation, StandardSection, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind, SymbolScope, elf,
};

use super::Shape;
use crate::ebpf::object::strip_debug;

/// What the object under test has.
struct Parts {
    section: &'static str,
    program: &'static str,
    instructions: [u8; 16],
    map: &'static str,
    map_size: u8,
    license: &'static [u8],
    path: &'static [u8],
}

const PARTS: Parts = Parts {
    section: "tp_btf/inet_sock_set_state",
    program: "transition",
    instructions: [0x95; 16],
    map: "LEDGER",
    map_size: 8,
    license: b"Dual MIT/GPL\0",
    path: b"/a.rs",
};

fn build(parts: &Parts) -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let mut symbol = |section: &str, kind, symbol_kind, name: &str, data: &[u8]| {
        let id = match section {
            ".text" => object.section_id(StandardSection::Text),
            _ => object.add_section(Vec::new(), section.into(), kind),
        };
        let value = object.append_section_data(id, data, 8);
        let symbol = object.add_symbol(Symbol {
            name: name.into(),
            value,
            size: data.len() as u64,
            kind: symbol_kind,
            // The compiler names no symbol in a section that only describes the others.
            scope: match kind {
                SectionKind::Other | SectionKind::Debug => SymbolScope::Compilation,
                _ => SymbolScope::Dynamic,
            },
            weak: false,
            section: SymbolSection::Section(id),
            flags: SymbolFlags::None,
        });
        (id, symbol)
    };
    symbol(
        "license",
        SectionKind::ReadOnlyData,
        SymbolKind::Data,
        "LICENSE",
        parts.license,
    );
    symbol(".text", SectionKind::Text, SymbolKind::Text, "memset", &[0; 8]);
    let (_, map) = symbol(
        "maps",
        SectionKind::Data,
        SymbolKind::Data,
        parts.map,
        &[parts.map_size; 28],
    );
    let (text, _) = symbol(
        parts.section,
        SectionKind::Text,
        SymbolKind::Text,
        parts.program,
        &parts.instructions,
    );
    symbol(".BTF", SectionKind::Other, SymbolKind::Data, "types", parts.path);
    let (debug, _) = symbol(".debug_info", SectionKind::Debug, SymbolKind::Data, "debug", parts.path);
    for section in [text, debug] {
        let relocation = Relocation {
            offset: 0,
            symbol: map,
            addend: 0,
            flags: RelocationFlags::Elf {
                r_type: elf::R_BPF_64_64,
            },
        };
        object.add_relocation(section, relocation).unwrap();
    }
    object.write().unwrap()
}

/// What differs when the committed object has `parts` and the rebuilt one is as always.
fn differences(parts: &Parts, same_toolchain: bool) -> Vec<String> {
    let shape = |parts| Shape::from_object(&build(parts)).unwrap();
    shape(parts).differences(&shape(&PARTS), same_toolchain)
}

#[test]
fn equal_objects_do_not_differ() {
    assert_eq!(differences(&PARTS, true), [""; 0]);
    assert_eq!(
        Shape::from_object(&build(&PARTS)).unwrap().to_string(),
        "1 programs, 1 maps"
    );
}

#[test]
fn each_part_is_named_when_it_differs() {
    let cases = [
        (
            Parts {
                program: "other",
                ..PARTS
            },
            vec![
                "program tp_btf/inet_sock_set_state: other is in the committed object alone",
                "program tp_btf/inet_sock_set_state: transition is missing in the committed object",
            ],
        ),
        (
            Parts {
                section: "tp_btf/tcp_receive_reset",
                ..PARTS
            },
            vec![
                "program tp_btf/tcp_receive_reset: transition is in the committed object alone",
                "program tp_btf/inet_sock_set_state: transition is missing in the committed object",
            ],
        ),
        (Parts { map_size: 16, ..PARTS }, vec!["map LEDGER is defined otherwise"]),
        (
            Parts {
                license: b"GPL\0",
                ..PARTS
            },
            vec!["license"],
        ),
    ];
    for (parts, expected) in cases {
        assert_eq!(differences(&parts, true), expected);
        assert_eq!(differences(&parts, false), expected);
    }
}

#[test]
fn instructions_count_with_the_same_toolchain_alone() {
    let changed = Parts {
        instructions: [0x18; 16],
        ..PARTS
    };
    let expected = ["program tp_btf/inet_sock_set_state: transition is defined otherwise"];
    assert_eq!(differences(&changed, true), expected);
    assert_eq!(differences(&changed, false), [""; 0]);
    let elsewhere = Parts {
        path: b"/b.rs",
        ..PARTS
    };
    assert_eq!(differences(&elsewhere, true), ["types and line information (.BTF)"]);
    assert_eq!(differences(&elsewhere, false), [""; 0]);
}

#[test]
fn a_program_that_uses_another_map_is_another_program() {
    let found = differences(&Parts { map: "OTHER", ..PARTS }, true);
    assert!(
        found.contains(&"program tp_btf/inet_sock_set_state: transition is defined otherwise".to_owned()),
        "{found:?}"
    );
}

#[test]
fn stripping_drops_debug_info_and_nothing_that_matters() {
    let linked = build(&PARTS);
    let stripped = strip_debug(&linked).unwrap();
    assert_eq!(
        Shape::from_object(&stripped).unwrap(),
        Shape::from_object(&linked).unwrap()
    );
    let has_debug = |bytes: &[u8]| bytes.windows(7).any(|window| window == b".debug_");
    assert!(has_debug(&linked) && !has_debug(&stripped));
    assert!(Shape::from_object(b"not an object").is_err());
}
