//! The types of a BTF section (Documentation/bpf/btf.rst), checked once before any lookup.
//!
//! BTF is untrusted input. [`Types::check`] proves that every name is in the string section, that every ID is a type, and that
//! no type contains itself. So every loop over a checked section ends. No general library is used, because the check must read
//! every type anyway; a library takes 100 ms for the same 5 MB.

use std::hash::BuildHasher as _;
use std::ops::Range;

use anyhow::{Context, Result, anyhow, bail, ensure};
use hashbrown::{DefaultHashBuilder, HashTable};

/// The first two bytes (`BTF_MAGIC`).
const MAGIC: u16 = 0xeb9f;
/// Size of the header in this version of the format (`struct btf_header`).
const HEADER_BYTES: usize = 24;
/// Words of `struct btf_type`, the start of each type: name, info, and a size or a type.
const TYPE_WORDS: usize = 3;
/// The maximum nesting of types. Linux 5.10 to 7.3 need 20 levels.
const MAX_LEVELS: usize = 64;
/// Bytes of a name at most (`KSYM_NAME_LEN`); the kernel refuses longer ones. Many types may have one name.
const NAME_MAX: usize = 512;
/// The number of [`Kind::Fwd`] (`BTF_KIND_FWD`).
const FWD: u32 = 7;
/// Bytes of a pointer.
const POINTER_BYTES: u64 = 8;

/// The kind of a type (`BTF_KIND_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    DataSec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

/// The kinds by number, starting at 1.
const KINDS: [Kind; 19] = [
    Kind::Int,
    Kind::Ptr,
    Kind::Array,
    Kind::Struct,
    Kind::Union,
    Kind::Enum,
    Kind::Fwd,
    Kind::Typedef,
    Kind::Volatile,
    Kind::Const,
    Kind::Restrict,
    Kind::Func,
    Kind::FuncProto,
    Kind::Var,
    Kind::DataSec,
    Kind::Float,
    Kind::DeclTag,
    Kind::TypeTag,
    Kind::Enum64,
];

/// The data after `struct btf_type`: elements of equal size, and where a name and type IDs are in each. All in words.
struct Elements {
    count: usize,
    words: usize,
    name_at: Option<usize>,
    id_at: &'static [usize],
}

impl Kind {
    /// The elements of a type of this kind whose `vlen` is `count`.
    fn elements(self, count: usize) -> Elements {
        let of = |count, words, name_at, id_at| Elements {
            count,
            words,
            name_at,
            id_at,
        };
        match self {
            // `struct btf_member`: name, type, offset.
            Self::Struct | Self::Union => of(count, 3, Some(0), &[1]),
            // `struct btf_param`: name, type.
            Self::FuncProto => of(count, 2, Some(0), &[1]),
            // `struct btf_var_secinfo`: type, offset, size.
            Self::DataSec => of(count, 3, None, &[0]),
            // `struct btf_enum`: name, value.
            Self::Enum => of(count, 2, Some(0), &[]),
            // `struct btf_enum64`: name, both halves of the value.
            Self::Enum64 => of(count, 3, Some(0), &[]),
            // `struct btf_array`: type, type of the index, number of elements.
            Self::Array => of(1, 3, None, &[0, 1]),
            Self::Int | Self::Var | Self::DeclTag => of(1, 1, None, &[]),
            _ => of(0, 0, None, &[]),
        }
    }

    /// Whether the third word is the ID of another type. Otherwise it is a size or unused.
    fn has_type(self) -> bool {
        self.is_alias()
            || matches!(
                self,
                Self::Ptr | Self::Func | Self::FuncProto | Self::Var | Self::DeclTag
            )
    }

    /// Whether a value of this kind is a value of the named type.
    fn is_alias(self) -> bool {
        matches!(
            self,
            Self::Typedef | Self::Volatile | Self::Const | Self::Restrict | Self::TypeTag
        )
    }

    /// Whether types of this kind are looked up by name.
    fn is_looked_up(self) -> bool {
        matches!(self, Self::Struct | Self::Typedef | Self::Enum)
    }
}

/// A type.
#[derive(Clone, Copy)]
pub(super) struct Type<'a> {
    /// Kind of the type.
    pub(super) kind: Kind,
    /// Offset of its name.
    name: u32,
    /// `vlen` and the flags.
    info: u32,
    /// A size or the ID of another type.
    third: u32,
    /// The elements, as in [`Kind::elements`].
    rest: &'a [u32],
}

/// Why a type cannot be read.
#[derive(Clone, Copy)]
enum Unreadable {
    CutShort,
    NoSuchKind(u32),
}

impl Unreadable {
    fn why(self) -> anyhow::Error {
        match self {
            Self::CutShort => anyhow!("the types are truncated"),
            Self::NoSuchKind(number) => anyhow!("the kind {number} of types does not exist"),
        }
    }
}

impl Type<'_> {
    /// Reads the type that begins at `at` in `words`.
    #[inline]
    fn read(words: &[u32], at: usize) -> Result<Type<'_>, Unreadable> {
        let start = at + TYPE_WORDS;
        if start > words.len() {
            return Err(Unreadable::CutShort);
        }
        let info = words[at + 1];
        let number = info >> 24 & 0x1f;
        let kind = KINDS.get((number as usize).wrapping_sub(1));
        let kind = *kind.ok_or(Unreadable::NoSuchKind(number))?;
        let elements = kind.elements((info & 0xffff) as usize);
        let end = start + elements.count * elements.words;
        Ok(Type {
            kind,
            name: words[at],
            info,
            third: words[at + 2],
            rest: words.get(start..end).ok_or(Unreadable::CutShort)?,
        })
    }

    /// The type that a pointer, a typedef, a qualifier or a function refers to; `None` for other kinds.
    pub(super) fn target(&self) -> Option<u32> {
        self.kind.has_type().then_some(self.third)
    }

    /// Number of elements: members, parameters, enumerators.
    pub(super) fn vlen(&self) -> usize {
        (self.info & 0xffff) as usize
    }

    /// The number and the type of an array's elements; `None` for other kinds.
    pub(super) fn array(&self) -> Option<(u32, u32)> {
        (self.kind == Kind::Array).then(|| (self.rest[2], self.rest[0]))
    }

    /// The members of a structure or union; empty for other kinds.
    pub(super) fn members(&self) -> impl Iterator<Item = Member> + '_ {
        let has_members = matches!(self.kind, Kind::Struct | Kind::Union);
        let has_bitfields = self.info >> 31 == 1;
        let members = if has_members { self.rest } else { &[] };
        members.chunks_exact(3).map(move |member| {
            let offset = member[2];
            Member {
                name: member[0],
                id: member[1],
                bit_offset: if has_bitfields { offset & 0x00ff_ffff } else { offset },
                is_bitfield: has_bitfields && offset >> 24 != 0,
            }
        })
    }

    /// Name and value of each enumerator of an `enum`; empty for other kinds.
    fn enumerators(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let enumerators = if self.kind == Kind::Enum { self.rest } else { &[] };
        enumerators.chunks_exact(2).map(|one| (one[0], one[1]))
    }

    /// Calls `name` for each name, and `id` for each type ID in this type.
    fn references(&self, mut name: impl FnMut(u32) -> Result<()>, mut id: impl FnMut(u32) -> Result<()>) -> Result<()> {
        name(self.name)?;
        if let Some(target) = self.target() {
            id(target)?;
        }
        let elements = self.kind.elements(self.vlen());
        let mut start = 0;
        while start < self.rest.len() {
            if let Some(at) = elements.name_at {
                name(self.rest[start + at])?;
            }
            for &at in elements.id_at {
                id(self.rest[start + at])?;
            }
            start += elements.words;
        }
        Ok(())
    }

    /// The `index`th type whose value is part of a value of this type. A pointer has none.
    fn part(&self, index: usize) -> Option<u32> {
        match self.kind {
            Kind::Struct | Kind::Union => (index < self.vlen()).then(|| self.rest[index * 3 + 1]),
            Kind::Array => (index == 0).then(|| self.rest[0]),
            kind => (index == 0 && kind.is_alias()).then_some(self.third),
        }
    }
}

/// A member of a structure or union.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Offset of its name.
    pub(super) name: u32,
    /// Its type.
    pub(super) id: u32,
    /// Bits from the start of the structure.
    pub(super) bit_offset: u32,
    /// Whether it is a bitfield.
    pub(super) is_bitfield: bool,
}

/// A checked BTF section.
#[derive(Debug)]
pub(super) struct Types {
    /// The type section.
    words: Vec<u32>,
    /// The string section.
    strings: Vec<u8>,
    /// The start of each type in `words`, by ID. `void`, ID 0, has none.
    starts: Vec<u32>,
    /// Structures, typedefs and enums: the first one of each kind and name.
    named: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Types {
    /// Checks `bytes`, with time and memory proportional to their number.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub(super) fn check(bytes: &[u8]) -> Result<Self> {
        let (types, strings) = sections(bytes)?;
        // A copy, because nothing aligns `bytes`.
        let mut words = vec![0_u32; types.len() / size_of::<u32>()];
        bytemuck::cast_slice_mut(&mut words).copy_from_slice(&bytes[types]);
        let mut starts = vec![0];
        let mut at = 0;
        while at < words.len() {
            let read = Type::read(&words, at).map_err(Unreadable::why)?;
            starts.push(u32::try_from(at)?);
            at += TYPE_WORDS + read.rest.len();
        }
        let mut types = Self {
            words,
            strings: bytes[strings].to_vec(),
            starts,
            named: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        };
        types.check_references()?;
        types.check_nesting()?;
        types.index_names();
        Ok(types)
    }

    /// Builds BTF with only the typedefs and functions whose names start with one of `prefixes`, under the same IDs. The types
    /// between them are forward declarations without a name, and no types follow.
    pub(super) fn names_only(&self, prefixes: &[&[u8]]) -> Vec<u8> {
        // A forward declaration has only a name.
        let mut types = [0, FWD << 24, 0].repeat(self.starts.len());
        let (mut strings, mut end) = (vec![0], 0);
        for id in self.ids() {
            let is_kind = |found: &Type<'_>| matches!(found.kind, Kind::Typedef | Kind::Func);
            let Some(found) = self.get(id).filter(is_kind) else {
                continue;
            };
            let rest = self.strings.get(found.name as usize..).unwrap_or_default();
            if prefixes.iter().any(|prefix| rest.starts_with(prefix)) {
                let name = u32::try_from(strings.len()).unwrap_or(0);
                strings.extend_from_slice(self.name(found.name));
                strings.push(0);
                let start = (id as usize - 1) * TYPE_WORDS;
                end = start + TYPE_WORDS;
                types[start..end].copy_from_slice(&[name, found.info, found.third]);
            }
        }
        types.truncate(end);
        let types: &[u8] = bytemuck::cast_slice(&types);
        // `struct btf_header`: magic, version, flags, length of the header, and offsets and lengths of types and strings.
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [HEADER_BYTES, 0, types.len(), types.len(), strings.len()] {
            bytes.extend(u32::try_from(word).unwrap_or(u32::MAX).to_ne_bytes());
        }
        bytes.extend_from_slice(types);
        bytes.append(&mut strings);
        bytes
    }

    /// The type `id`; `None` for `void` and for IDs out of range.
    pub(super) fn get(&self, id: u32) -> Option<Type<'_>> {
        let start = *self.starts.get(id as usize)?;
        if id == 0 {
            return None;
        }
        Type::read(&self.words, start as usize).ok()
    }

    /// The first type of this kind with the name `name`: a structure, a typedef or an enum.
    pub(super) fn named(&self, kind: Kind, name: &str) -> Option<u32> {
        let is_it = |&id: &u32| self.has(id, kind, name.as_bytes());
        self.named.find(self.hash(kind, name.as_bytes()), is_it).copied()
    }

    /// The name at `offset` in the string section; of a longer one, its first [`NAME_MAX`] bytes.
    pub(super) fn name(&self, offset: u32) -> &[u8] {
        let text = self.strings.get(offset as usize..).unwrap_or_default();
        let text = &text[..text.len().min(NAME_MAX)];
        text.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    /// The type `id` without typedefs and qualifiers, and its ID.
    pub(super) fn unaliased(&self, mut id: u32) -> Option<(u32, Type<'_>)> {
        loop {
            let found = self.get(id)?;
            if !found.kind.is_alias() {
                return Some((id, found));
            }
            // This ends: no checked type contains itself.
            id = found.third;
        }
    }

    /// Size of a value of type `id`, bytes; `None` if the type has no size or an implausible size.
    pub(super) fn size(&self, mut id: u32) -> Option<u64> {
        let mut elements = 1_u64;
        loop {
            let (_, found) = self.unaliased(id)?;
            let one = match found.kind {
                Kind::Ptr => POINTER_BYTES,
                Kind::Int | Kind::Struct | Kind::Union | Kind::Enum | Kind::Float | Kind::Enum64 => found.third.into(),
                _ => {
                    let (count, element) = found.array()?;
                    elements = elements.checked_mul(count.into())?;
                    id = element;
                    continue;
                }
            };
            return elements.checked_mul(one);
        }
    }

    /// Names and values of the enumerators of the `enum` `name`; empty if there is no such type.
    pub(super) fn enumerators(&self, name: &str) -> Vec<(&[u8], u32)> {
        let found = self.named(Kind::Enum, name).and_then(|id| self.get(id));
        let enumerators = found.iter().flat_map(Type::enumerators);
        enumerators.map(|(name, value)| (self.name(name), value)).collect()
    }

    /// The IDs of all types except `void`.
    fn ids(&self) -> Range<u32> {
        1..u32::try_from(self.starts.len()).unwrap_or(u32::MAX)
    }

    /// Checks that every name is in the string section, that every ID is a type, and that no pointer refers to itself.
    fn check_references(&self) -> Result<()> {
        let (names, ids) = (self.strings.len(), self.starts.len());
        for id in self.ids() {
            let Some(found) = self.get(id) else { continue };
            let is_name = |name: u32| {
                ensure!(
                    (name as usize) < names,
                    "type {id} has a name at {name}, outside the string section"
                );
                Ok(())
            };
            let is_type = |other: u32| {
                ensure!(
                    (other as usize) < ids,
                    "type {id} names the type {other}, which does not exist"
                );
                Ok(())
            };
            found.references(is_name, is_type)?;
            if found.kind == Kind::Ptr {
                self.check_pointer(id, found)?;
            }
        }
        Ok(())
    }

    /// Checks that the pointer `found` does not lead through pointers and qualifiers back to itself.
    fn check_pointer(&self, id: u32, found: Type<'_>) -> Result<()> {
        let goes_on = |to: &Type<'_>| to.kind == Kind::Ptr || to.kind.is_alias();
        let mut next = found;
        for _ in 0..MAX_LEVELS {
            match self.get(next.third).filter(goes_on) {
                Some(to) => next = to,
                None => return Ok(()),
            }
        }
        bail!("{} points at itself", self.describe(id))
    }

    /// Checks that no type contains itself by value, and that none is nested deeper than [`MAX_LEVELS`].
    fn check_nesting(&self) -> Result<()> {
        /// The level of a type whose parts are being checked.
        const OPEN: u8 = u8::MAX;
        let mut levels = vec![0_u8; self.starts.len()];
        levels[0] = 1;
        // The enclosing types: for each, the next part and the deepest level of its parts so far.
        let mut path = Vec::with_capacity(MAX_LEVELS);
        for root in self.ids() {
            if levels[root as usize] != 0 {
                continue;
            }
            let Some(found) = self.get(root) else { continue };
            levels[root as usize] = OPEN;
            path.push((root, found, 0, 0));
            while let Some((id, found, next, deepest)) = path.last_mut() {
                let id = *id;
                let Some(part) = found.part(*next) else {
                    let level = *deepest + 1;
                    ensure!(
                        usize::from(level) <= MAX_LEVELS,
                        "{} is nested too deeply",
                        self.describe(id)
                    );
                    levels[id as usize] = level;
                    path.pop();
                    if let Some((.., above)) = path.last_mut() {
                        *above = level.max(*above);
                    }
                    continue;
                };
                *next += 1;
                match levels[part as usize] {
                    OPEN => bail!("{} contains itself", self.describe(part)),
                    0 => {
                        ensure!(path.len() < MAX_LEVELS, "{} is nested too deeply", self.describe(root));
                        levels[part as usize] = OPEN;
                        // Every ID is a type.
                        path.extend(self.get(part).map(|found| (part, found, 0, 0)));
                    }
                    level => *deepest = level.max(*deepest),
                }
            }
        }
        Ok(())
    }

    /// Fills `named`.
    fn index_names(&mut self) {
        // As large as the kernels of distributions need.
        let mut named = HashTable::with_capacity(1 << 15);
        for id in self.ids() {
            let is_kind = |found: &Type<'_>| found.kind.is_looked_up();
            let Some(found) = self.get(id).filter(is_kind) else {
                continue;
            };
            let name = self.name(found.name);
            if name.is_empty() {
                continue;
            }
            let is_same = |&other: &u32| self.has(other, found.kind, name);
            let hash_of = |&other: &u32| {
                self.get(other)
                    .map_or(0, |other| self.hash(other.kind, self.name(other.name)))
            };
            named.entry(self.hash(found.kind, name), is_same, hash_of).or_insert(id);
        }
        self.named = named;
    }

    /// Whether the type `id` is of this kind and has this name.
    fn has(&self, id: u32, kind: Kind, name: &[u8]) -> bool {
        self.get(id)
            .is_some_and(|found| found.kind == kind && self.name(found.name) == name)
    }

    fn hash(&self, kind: Kind, name: &[u8]) -> u64 {
        self.hasher.hash_one((kind, name))
    }

    /// The type `id`, for messages.
    fn describe(&self, id: u32) -> String {
        let name = self.get(id).map_or(&[][..], |found| self.name(found.name));
        if name.is_empty() {
            format!("type {id}")
        } else {
            format!("type {id} ({})", name.escape_ascii())
        }
    }
}

/// Where the types and the strings are in `bytes`.
fn sections(bytes: &[u8]) -> Result<(Range<usize>, Range<usize>)> {
    let header = bytes.get(..HEADER_BYTES).context("the header is truncated")?;
    let magic = u16::from_ne_bytes([header[0], header[1]]);
    ensure!(magic == MAGIC, "it begins with {magic:#06x}, not {MAGIC:#06x}");
    let [version, flags] = [header[2], header[3]];
    ensure!(
        (version, flags) == (1, 0),
        "its version is {version} and its flags are {flags:#x}, not 1 and 0"
    );
    let header_bytes = word(header, 4) as usize;
    ensure!(
        header_bytes >= HEADER_BYTES,
        "its header says that it has {header_bytes} bytes"
    );
    let section = |at: usize| {
        let start = header_bytes + word(header, at) as usize;
        start..start + word(header, at + 4) as usize
    };
    let (types, strings) = (section(8), section(16));
    ensure!(
        types.end <= bytes.len() && types.len().is_multiple_of(size_of::<u32>()),
        "the types are truncated"
    );
    ensure!(strings.end <= bytes.len(), "the strings are truncated");
    let text = &bytes[strings.clone()];
    ensure!(
        text.first() == Some(&0) && text.last() == Some(&0),
        "the string section does not begin and end with a zero byte"
    );
    Ok((types, strings))
}

/// The word at `at`, in native byte order.
///
/// # Panics
/// If `bytes` is too short, which callers have checked.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
