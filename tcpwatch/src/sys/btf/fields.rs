//! Finds the fields of a structure, and checks that the kernel's BTF is plausible.

use std::cell::RefCell;
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use hashbrown::HashSet;

use super::types::{Kind, Types};

/// The expected value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value {
    bytes: u64,
    /// The offset must be a multiple of this.
    align: u64,
    is_pointer: bool,
}

impl Value {
    pub(super) const U8: Self = Self::number(1);
    pub(super) const U16: Self = Self::number(2);
    pub(super) const U32: Self = Self::number(4);
    pub(super) const U64: Self = Self::number(8);
    /// A pointer of any type.
    pub(super) const POINTER: Self = Self {
        is_pointer: true,
        ..Self::U64
    };
    /// `struct in6_addr`.
    pub(super) const IPV6_ADDRESS: Self = Self { bytes: 16, ..Self::U32 };
    /// `char comm[TASK_COMM_LEN]`.
    pub(super) const COMM: Self = Self { bytes: 16, ..Self::U8 };

    const fn number(bytes: u64) -> Self {
        Self {
            bytes,
            align: bytes,
            is_pointer: false,
        }
    }
}

/// A field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Offset from the start of the structure, bytes.
    pub(super) offset: u32,
    /// Size, bytes.
    pub(super) bytes: u64,
    /// Its type.
    pub(super) id: u32,
}

/// The byte range and the name of each field that was read.
type Taken = Vec<(Range<u64>, String)>;

/// A structure of the kernel, and the byte ranges of the fields read so far.
pub(super) struct Structure<'a> {
    types: &'a Types,
    name: &'a str,
    id: u32,
    /// Bytes of the structure.
    pub(super) bytes: u64,
    taken: RefCell<Taken>,
}

impl<'a> Structure<'a> {
    /// Finds the structure `name`.
    ///
    /// # Errors
    /// There is no such structure.
    pub(super) fn find(types: &'a Types, name: &'a str) -> Result<Self> {
        let found = types.named(Kind::Struct, name);
        let id = found.with_context(|| format!("there is no struct {name}"))?;
        let bytes = types.size(id).unwrap_or(0);
        Ok(Self {
            types,
            name,
            id,
            bytes,
            taken: RefCell::default(),
        })
    }

    /// The type ID.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Finds the structure `name`, which starts with this one. Its other fields must not overlap this one.
    ///
    /// # Errors
    /// There is no such structure, or it does not start with this one.
    pub(super) fn wider(&self, name: &'a str) -> Result<Self> {
        let mut wider = Self::find(self.types, name)?;
        let mut first = wider.id;
        while first != self.id {
            let members = self.types.get(first);
            let member = members.and_then(|outer| outer.members().find(|member| member.bit_offset == 0));
            let inner = member.and_then(|member| self.types.unaliased(member.id));
            // This ends: no checked type contains itself.
            (first, _) = inner.with_context(|| format!("struct {name} does not begin with a struct {}", self.name))?;
        }
        wider.taken = RefCell::new(vec![(0..self.bytes, format!("struct {}", self.name))]);
        Ok(wider)
    }

    /// Offset of the field at the end of `path`, which must hold `value`.
    ///
    /// # Errors
    /// There is no such field, or it is not plausible.
    pub(super) fn offset(&self, path: &[&str], value: Value) -> Result<u32> {
        let offset = self.offset_if_any(path, value)?;
        offset.with_context(|| format!("there is no field {}", self.path(path)))
    }

    /// The same; `None` if the structure has no such field.
    ///
    /// # Errors
    /// It is not plausible.
    pub(super) fn offset_if_any(&self, path: &[&str], value: Value) -> Result<Option<u32>> {
        let Some(field) = self.field(path)? else {
            return Ok(None);
        };
        let name = self.path(path);
        ensure!(
            field.bytes == value.bytes,
            "{name} has {} bytes, not {}",
            field.bytes,
            value.bytes
        );
        let holds = self.types.unaliased(field.id).map(|(_, found)| found.kind);
        match (value.is_pointer, holds == Some(Kind::Ptr)) {
            (true, false) => bail!("{name} is not a pointer"),
            (false, true) => bail!("{name} is a pointer"),
            _ => {}
        }
        ensure!(
            u64::from(field.offset) % value.align == 0,
            "{name} is not aligned: it is at {}",
            field.offset
        );
        self.take(&name, &field)?;
        Ok(Some(field.offset))
    }

    /// The field at the end of `path`, with any value; `None` if the structure has no such field.
    ///
    /// # Errors
    /// It is not within the structure, or it is a bitfield.
    pub(super) fn field(&self, path: &[&str]) -> Result<Option<Field>> {
        let mut field = Field {
            offset: 0,
            bytes: self.bytes,
            id: self.id,
        };
        for name in path {
            let Some((offset, id)) = self.member(field.id, name)? else {
                return Ok(None);
            };
            let path = self.path(path);
            ensure!(offset % 8 == 0, "{path} is a bitfield");
            let bytes = self.types.size(id).with_context(|| format!("{path} has no size"))?;
            field = Field {
                // The end of a field is within its structure, whose size fits in a u32.
                offset: field.offset + u32::try_from(offset / 8)?,
                bytes,
                id,
            };
        }
        Ok(Some(field))
    }

    /// The member `name` of the structure or union `id`, or of an unnamed one in it: offset in bits, and type.
    fn member(&self, id: u32, name: &str) -> Result<Option<(u64, u32)>> {
        let bits = |id| self.types.size(id).unwrap_or(0).saturating_mul(8);
        let mut found = None;
        let mut seen = HashSet::new();
        // Structures and unions to search, and their bit ranges in `id`.
        let mut left = vec![(id, 0, bits(id))];
        while let Some((id, start, end)) = left.pop() {
            let Some((id, outer)) = self.types.unaliased(id) else {
                continue;
            };
            // Search each type only once.
            if !seen.insert(id) {
                continue;
            }
            for member in outer.members() {
                let is_it = self.types.name(member.name) == name.as_bytes();
                if !is_it && member.name != 0 {
                    continue;
                }
                let start = start + u64::from(member.bit_offset);
                let last = start.saturating_add(bits(member.id));
                if !is_it {
                    left.push((member.id, start, last.min(end)));
                    continue;
                }
                ensure!(!member.is_bitfield, "{}.{name} is a bitfield", self.name);
                ensure!(last <= end, "{}.{name} lies outside of its struct", self.name);
                ensure!(
                    found.replace((start, member.id)).is_none(),
                    "struct {} has two fields {name}",
                    self.name
                );
            }
        }
        Ok(found)
    }

    /// Records that `field` is read.
    fn take(&self, name: &str, field: &Field) -> Result<()> {
        let start = u64::from(field.offset);
        let range = start..start + field.bytes;
        let mut taken = self.taken.borrow_mut();
        let overlaps = |(other, _): &&(Range<u64>, String)| range.start < other.end && other.start < range.end;
        if let Some((_, other)) = taken.iter().find(overlaps) {
            bail!("{name} overlaps {other}");
        }
        taken.push((range, name.to_owned()));
        Ok(())
    }

    /// The field at the end of `path`, for messages.
    fn path(&self, path: &[&str]) -> String {
        format!("{}.{}", self.name, path.join("."))
    }
}
