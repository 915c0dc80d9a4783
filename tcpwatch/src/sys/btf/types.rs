//! The types of a BTF section (Documentation/bpf/btf.rst), checked once, before anything is looked up.
//!
//! BTF is untrusted input. [`Types::check`] proves that every name lies in the string section, that every id names a type, and
//! that no type contains itself. So every loop over a checked section ends, here and in aya, which reads the same bytes.
//! This is our own code because the check must read every type anyway: a general library takes 100 ms for the same 5 MB.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use hashbrown::HashMap;

/// The first two bytes (`BTF_MAGIC`).
const MAGIC: u16 = 0xeb9f;
/// Bytes of the header that this version of the format defines (`struct btf_header`).
const HEADER_BYTES: usize = 24;
/// Bytes of `struct btf_type`, which each type begins with.
const TYPE_BYTES: usize = 12;
/// Types within types: Linux 5.10 to 7.3 need 20 levels.
const MAX_LEVELS: usize = 64;
/// Bytes of a pointer.
const POINTER_BYTES: u64 = 8;

/// What a type is (`BTF_KIND_*`).
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

/// The kinds by number; 0 is none.
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

/// What follows `struct btf_type`: elements of equal size, and where each keeps a name and a type id.
struct Elements {
    count: usize,
    bytes: usize,
    name_at: Option<usize>,
    id_at: &'static [usize],
}

impl Kind {
    /// The elements of a type of this kind whose `vlen` is `count`.
    fn elements(self, count: usize) -> Elements {
        let of = |count, bytes, name_at, id_at| Elements {
            count,
            bytes,
            name_at,
            id_at,
        };
        match self {
            // `struct btf_member`: name, type, offset.
            Self::Struct | Self::Union => of(count, 12, Some(0), &[4]),
            // `struct btf_param`: name, type.
            Self::FuncProto => of(count, 8, Some(0), &[4]),
            // `struct btf_var_secinfo`: type, offset, size.
            Self::DataSec => of(count, 12, None, &[0]),
            // `struct btf_enum`: name, value.
            Self::Enum => of(count, 8, Some(0), &[]),
            // `struct btf_enum64`: name, both halves of the value.
            Self::Enum64 => of(count, 12, Some(0), &[]),
            // `struct btf_array`: type, type of the index, number of elements.
            Self::Array => of(1, 12, None, &[0, 4]),
            Self::Int | Self::Var | Self::DeclTag => of(1, 4, None, &[]),
            _ => of(0, 0, None, &[]),
        }
    }

    /// Whether the third word is the id of another type; otherwise it is a size, or unused.
    fn has_type(self) -> bool {
        self.is_alias()
            || matches!(
                self,
                Self::Ptr | Self::Func | Self::FuncProto | Self::Var | Self::DeclTag
            )
    }

    /// Whether a value of this kind is a value of the type it names.
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
    /// What it is.
    pub(super) kind: Kind,
    /// Offset of its name.
    name: u32,
    /// `vlen` and the flags.
    info: u32,
    /// A size or the id of another type.
    third: u32,
    /// What follows, as [`Kind::elements`] describes it.
    rest: &'a [u8],
}

impl Type<'_> {
    /// Reads the type at the start of `bytes`.
    fn read(bytes: &[u8]) -> Result<Type<'_>> {
        let cut = "the types are cut short";
        let (head, rest) = bytes.split_at_checked(TYPE_BYTES).context(cut)?;
        let info = word(head, 4);
        let number = info >> 24 & 0x1f;
        let kind = number.checked_sub(1).and_then(|index| KINDS.get(index as usize));
        let kind = *kind.with_context(|| format!("there is no kind {number} of types"))?;
        let elements = kind.elements((info & 0xffff) as usize);
        Ok(Type {
            kind,
            name: word(head, 0),
            info,
            third: word(head, 8),
            rest: rest.get(..elements.count * elements.bytes).context(cut)?,
        })
    }

    /// The type that a pointer, a typedef, a qualifier or a function names; `None` for other kinds.
    pub(super) fn target(&self) -> Option<u32> {
        self.kind.has_type().then_some(self.third)
    }

    /// Number of elements: members, parameters, enumerators.
    pub(super) fn vlen(&self) -> usize {
        (self.info & 0xffff) as usize
    }

    /// The elements of an array: how many, and their type; `None` for other kinds.
    pub(super) fn array(&self) -> Option<(u32, u32)> {
        (self.kind == Kind::Array).then(|| (word(self.rest, 8), word(self.rest, 0)))
    }

    /// The members of a structure or union; none of other kinds.
    pub(super) fn members(&self) -> impl Iterator<Item = Member> + '_ {
        let has_members = matches!(self.kind, Kind::Struct | Kind::Union);
        let has_bitfields = self.info >> 31 == 1;
        let members = if has_members { self.rest } else { &[] };
        members.chunks_exact(12).map(move |member| {
            let offset = word(member, 8);
            Member {
                name: word(member, 0),
                id: word(member, 4),
                bit_offset: if has_bitfields { offset & 0x00ff_ffff } else { offset },
                is_bitfield: has_bitfields && offset >> 24 != 0,
            }
        })
    }

    /// Name and value of each enumerator of an `enum`; none of other kinds.
    fn enumerators(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let enumerators = if self.kind == Kind::Enum { self.rest } else { &[] };
        enumerators.chunks_exact(8).map(|one| (word(one, 0), word(one, 4)))
    }

    /// Gives each name in it to `name`, and each type id to `id`.
    fn references(&self, mut name: impl FnMut(u32) -> Result<()>, mut id: impl FnMut(u32) -> Result<()>) -> Result<()> {
        name(self.name)?;
        if let Some(target) = self.target() {
            id(target)?;
        }
        let elements = self.kind.elements(self.vlen());
        for element in self.rest.chunks_exact(elements.bytes.max(1)) {
            if let Some(at) = elements.name_at {
                name(word(element, at))?;
            }
            for &at in elements.id_at {
                id(word(element, at))?;
            }
        }
        Ok(())
    }

    /// The `index`th type whose value is part of a value of this type. A pointer has none.
    fn part(&self, index: usize) -> Option<u32> {
        match self.kind {
            Kind::Struct | Kind::Union => (index < self.vlen()).then(|| word(self.rest, index * 12 + 4)),
            Kind::Array => (index == 0).then(|| word(self.rest, 0)),
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
    /// Whether it is narrower than its type.
    pub(super) is_bitfield: bool,
}

/// A checked BTF section.
#[derive(Debug)]
pub(super) struct Types {
    bytes: Vec<u8>,
    strings: Range<usize>,
    /// Where each type begins in `bytes`, by id; `void`, id 0, has no place.
    starts: Vec<usize>,
    /// The first type of each kind and name.
    named: HashMap<(Kind, Box<str>), u32>,
}

impl Types {
    /// Checks `bytes`, in work and memory proportional to their number.
    ///
    /// # Errors
    /// What is wrong with them, in words that continue "it is not usable:".
    pub(super) fn check(bytes: Vec<u8>) -> Result<Self> {
        let (section, strings) = sections(&bytes)?;
        let mut starts = vec![section.start];
        let mut at = section.start;
        while at < section.end {
            let read = Type::read(&bytes[at..section.end])?;
            starts.push(at);
            at += TYPE_BYTES + read.rest.len();
        }
        let mut types = Self {
            bytes,
            strings,
            starts,
            named: HashMap::new(),
        };
        types.check_references()?;
        types.check_nesting()?;
        types.check_pointers()?;
        types.index_names()?;
        Ok(types)
    }

    /// The bytes that were checked.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The type `id`; `None` for `void`, and for what no checked type names.
    pub(super) fn get(&self, id: u32) -> Option<Type<'_>> {
        let start = *self.starts.get(id as usize)?;
        Type::read(&self.bytes[start..]).ok().filter(|_| id != 0)
    }

    /// The first type called `name` of this kind: a structure, a typedef or an enum.
    pub(super) fn named(&self, kind: Kind, name: &str) -> Option<u32> {
        self.named.get(&(kind, Box::from(name))).copied()
    }

    /// The name at `offset` in the string section.
    pub(super) fn name(&self, offset: u32) -> &[u8] {
        let text = &self.bytes[self.strings.clone()];
        let text = text.get(offset as usize..).unwrap_or_default();
        text.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    /// The type `id` without the typedefs and qualifiers around it, and its id.
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

    /// Bytes of a value of type `id`; `None` where the type has no size, or one that no kernel's type has.
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

    /// Names and values of the enumerators of the `enum` called `name`; none where there is no such type.
    pub(super) fn enumerators(&self, name: &str) -> Vec<(&[u8], u32)> {
        let found = self.named(Kind::Enum, name).and_then(|id| self.get(id));
        let enumerators = found.iter().flat_map(Type::enumerators);
        enumerators.map(|(name, value)| (self.name(name), value)).collect()
    }

    /// All types but `void`, by id.
    fn all(&self) -> impl Iterator<Item = (u32, Type<'_>)> {
        (1..).map_while(|id| Some((id, self.get(id)?)))
    }

    /// Checks that every name lies in the string section, and every id is that of a type.
    fn check_references(&self) -> Result<()> {
        for (id, found) in self.all() {
            let is_name = |name: u32| {
                ensure!(
                    (name as usize) < self.strings.len(),
                    "type {id} has a name at {name}, outside the string section"
                );
                Ok(())
            };
            let is_type = |other: u32| {
                ensure!(
                    (other as usize) < self.starts.len(),
                    "type {id} names the type {other}, which does not exist"
                );
                Ok(())
            };
            found.references(is_name, is_type)?;
        }
        Ok(())
    }

    /// Checks that no type contains itself by value, and that none is nested deeper than [`MAX_LEVELS`].
    fn check_nesting(&self) -> Result<()> {
        /// The level of a type whose parts are being looked at.
        const OPEN: usize = usize::MAX;
        let mut levels = vec![0; self.starts.len()];
        levels[0] = 1;
        // The types around the one looked at; of each the next part, and the deepest level of the parts before.
        let mut path = Vec::with_capacity(MAX_LEVELS);
        for (root, found) in self.all() {
            if levels[root as usize] != 0 {
                continue;
            }
            levels[root as usize] = OPEN;
            path.push((root, found, 0, 0));
            while let Some((id, found, next, deepest)) = path.last_mut() {
                let id = *id;
                let Some(part) = found.part(*next) else {
                    let level = *deepest + 1;
                    ensure!(level <= MAX_LEVELS, "{} is nested too deeply", self.describe(id));
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
                        // Every id is that of a type.
                        path.extend(self.get(part).map(|found| (part, found, 0, 0)));
                    }
                    level => *deepest = level.max(*deepest),
                }
            }
        }
        Ok(())
    }

    /// Checks that no pointer leads through pointers and qualifiers back to itself.
    fn check_pointers(&self) -> Result<()> {
        for (id, found) in self.all().filter(|(_, found)| found.kind == Kind::Ptr) {
            let mut next = found;
            for _ in 0..MAX_LEVELS {
                match self.get(next.third) {
                    Some(to) if to.kind == Kind::Ptr || to.kind.is_alias() => next = to,
                    _ => break,
                }
            }
            let is_end = |to: Type<'_>| to.kind != Kind::Ptr && !to.kind.is_alias();
            ensure!(
                self.get(next.third).is_none_or(is_end),
                "{} points at itself",
                self.describe(id)
            );
        }
        Ok(())
    }

    /// Fills `named`.
    fn index_names(&mut self) -> Result<()> {
        let mut named = HashMap::new();
        let looked_up = self.all().filter(|(_, found)| found.kind.is_looked_up());
        for (id, found) in looked_up.filter(|(_, found)| found.name != 0) {
            let name = str::from_utf8(self.name(found.name)).with_context(|| format!("the name of type {id}"))?;
            named.entry((found.kind, Box::from(name))).or_insert(id);
        }
        self.named = named;
        Ok(())
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

/// Where the types and the strings lie in `bytes`.
fn sections(bytes: &[u8]) -> Result<(Range<usize>, Range<usize>)> {
    let header = bytes.get(..HEADER_BYTES).context("the header is cut short")?;
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
    ensure!(types.end <= bytes.len(), "the types are cut short");
    ensure!(strings.end <= bytes.len(), "the strings are cut short");
    let text = &bytes[strings.clone()];
    ensure!(
        text.first() == Some(&0) && text.last() == Some(&0),
        "the string section does not begin and end with a zero byte"
    );
    Ok((types, strings))
}

/// The word at `at`, in this machine's byte order.
///
/// # Panics
/// `bytes` is too short, which callers have checked.
fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(word)
}
