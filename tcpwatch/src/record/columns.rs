//! Values as Arrow columns: what a column of each type looks like, how a value is appended to it, and how it is read back.
//!
//! A structure is a column of columns; `Option` makes a column nullable; `Vec` is a list. So a type is recordable once all of its parts are.

mod macros;

use std::collections::BTreeMap;
use std::hash::Hash;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow_array::builder::{
    BooleanBuilder, Int64Builder, StringBuilder, UInt8Builder, UInt16Builder, UInt32Builder, UInt64Builder,
};
use arrow_array::types::UInt8Type;
use arrow_array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Int64Array, ListArray, StringArray, StructArray, UInt8Array,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow_buffer::{NullBuffer, NullBufferBuilder, OffsetBuffer};
use arrow_schema::{DataType, Field};
use hashbrown::{HashMap, HashSet};

use crate::input::escaped::Escaped;

pub(super) use self::macros::{column_as, column_bytes, column_names, column_struct};

/// A value that a column holds.
pub(super) trait Column: Sized {
    /// Whether it may be null.
    const IS_NULLABLE: bool = false;
    /// What it names; `None` if it names nobody.
    const SENSITIVE: Option<Sensitive> = None;
    /// Collects the cells of a column.
    type Builder: Default;
    /// The cells of a column that was read.
    type Cells;

    /// What Arrow calls the type.
    fn data_type() -> DataType;

    /// Appends a value; `None` for null.
    fn append(builder: &mut Self::Builder, value: Option<&Self>);

    /// Takes the column out of `builder`, which is empty then.
    fn finish(builder: &mut Self::Builder) -> ArrayRef;

    /// The cells of `array`.
    ///
    /// # Errors
    /// It has another type.
    fn cells(array: &dyn Array) -> Result<Self::Cells>;

    /// The value in a row; `None` for null.
    ///
    /// # Errors
    /// There is no such value.
    fn get(cells: &Self::Cells, row: usize) -> Result<Option<Self>>;

    /// The value in a row of a column that has no nulls of its own.
    ///
    /// # Errors
    /// It is null, or there is no such value.
    fn required(cells: &Self::Cells, row: usize) -> Result<Self> {
        Self::get(cells, row)?.context("a value is missing")
    }

    /// A field that holds it.
    fn field(name: &str) -> Field {
        let field = Field::new(name, Self::data_type(), Self::IS_NULLABLE);
        match Self::SENSITIVE {
            Some(kind) => {
                let metadata = std::collections::HashMap::from([(KIND.to_owned(), kind.key().to_owned())]);
                field.with_metadata(metadata)
            }
            None => field,
        }
    }
}

/// What a column names that is somebody's, and that a pseudonym may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sensitive {
    /// An IP address.
    Address,
    /// A process, a function, a file, a cgroup or a namespace.
    Name,
}

/// The key of a column's kind in its metadata.
const KIND: &str = "kind";

impl Sensitive {
    const fn key(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Name => "name",
        }
    }

    /// What the column of `field` names; `None` if it names nobody.
    pub(super) fn in_field(field: &Field) -> Option<Self> {
        let key = field.metadata().get(KIND)?;
        [Self::Address, Self::Name].into_iter().find(|kind| kind.key() == key)
    }
}

/// Why a column cannot be read.
pub(super) const OTHER_TYPE: &str = "a column has another type";

const ZERO: &str = "a number is 0 that cannot be";

/// Types that Arrow has.
macro_rules! primitive {
    ($($type:ty: $builder:ident, $array:ident, $data_type:ident;)*) => {$(
        impl Column for $type {
            type Builder = $builder;
            type Cells = $array;

            fn data_type() -> DataType {
                DataType::$data_type
            }

            fn append(builder: &mut $builder, value: Option<&Self>) {
                builder.append_option(value.copied());
            }

            fn finish(builder: &mut $builder) -> ArrayRef {
                Arc::new(builder.finish())
            }

            fn cells(array: &dyn Array) -> Result<$array> {
                array.as_any().downcast_ref::<$array>().cloned().context(OTHER_TYPE)
            }

            fn get(cells: &$array, row: usize) -> Result<Option<Self>> {
                Ok(cells.is_valid(row).then(|| cells.value(row)))
            }
        }
    )*};
}

primitive! {
    bool: BooleanBuilder, BooleanArray, Boolean;
    u8: UInt8Builder, UInt8Array, UInt8;
    u16: UInt16Builder, UInt16Array, UInt16;
    u32: UInt32Builder, UInt32Array, UInt32;
    u64: UInt64Builder, UInt64Array, UInt64;
    i64: Int64Builder, Int64Array, Int64;
}

impl Column for String {
    const SENSITIVE: Option<Sensitive> = Some(Sensitive::Name);
    type Builder = StringBuilder;
    type Cells = StringArray;

    fn data_type() -> DataType {
        DataType::Utf8
    }

    fn append(builder: &mut StringBuilder, value: Option<&Self>) {
        builder.append_option(value);
    }

    fn finish(builder: &mut StringBuilder) -> ArrayRef {
        Arc::new(builder.finish())
    }

    fn cells(array: &dyn Array) -> Result<StringArray> {
        array
            .as_any()
            .downcast_ref::<StringArray>()
            .cloned()
            .context(OTHER_TYPE)
    }

    fn get(cells: &StringArray, row: usize) -> Result<Option<Self>> {
        Ok(cells.is_valid(row).then(|| cells.value(row).to_owned()))
    }
}

impl<T: Column> Column for Option<T> {
    const IS_NULLABLE: bool = true;
    const SENSITIVE: Option<Sensitive> = T::SENSITIVE;
    type Builder = T::Builder;
    type Cells = T::Cells;

    fn data_type() -> DataType {
        T::data_type()
    }

    fn append(builder: &mut T::Builder, value: Option<&Self>) {
        T::append(builder, value.and_then(Self::as_ref));
    }

    fn finish(builder: &mut T::Builder) -> ArrayRef {
        T::finish(builder)
    }

    fn cells(array: &dyn Array) -> Result<T::Cells> {
        T::cells(array)
    }

    fn get(cells: &T::Cells, row: usize) -> Result<Option<Self>> {
        T::get(cells, row).map(Some)
    }
}

/// Which cells of a list or of a structure are null.
pub(super) struct Validity(NullBufferBuilder);

impl Default for Validity {
    fn default() -> Self {
        Self(NullBufferBuilder::new(0))
    }
}

impl Validity {
    /// Appends a cell.
    pub(super) fn append(&mut self, is_valid: bool) {
        self.0.append(is_valid);
    }

    /// Takes them.
    pub(super) fn finish(&mut self) -> Option<NullBuffer> {
        self.0.finish()
    }
}

/// Collects lists of `T`.
pub(super) struct ListBuilder<T: Column> {
    items: T::Builder,
    lengths: Vec<usize>,
    validity: Validity,
    of: PhantomData<T>,
}

impl<T: Column> Default for ListBuilder<T> {
    fn default() -> Self {
        Self {
            items: T::Builder::default(),
            lengths: Vec::new(),
            validity: Validity::default(),
            of: PhantomData,
        }
    }
}

impl<T: Column> ListBuilder<T> {
    fn append<'a>(&mut self, list: Option<impl IntoIterator<Item = &'a T>>)
    where
        T: 'a,
    {
        self.validity.append(list.is_some());
        let mut length = 0;
        for item in list.into_iter().flatten() {
            T::append(&mut self.items, Some(item));
            length += 1;
        }
        self.lengths.push(length);
    }
}

/// Lists that were read.
pub(super) struct ListCells<T: Column> {
    lists: ListArray,
    items: T::Cells,
}

impl<T: Column> Column for Vec<T> {
    type Builder = ListBuilder<T>;
    type Cells = ListCells<T>;

    fn data_type() -> DataType {
        DataType::List(Arc::new(T::field("item")))
    }

    fn append(builder: &mut ListBuilder<T>, value: Option<&Self>) {
        builder.append(value.map(Self::as_slice));
    }

    fn finish(builder: &mut ListBuilder<T>) -> ArrayRef {
        let offsets = OffsetBuffer::from_lengths(builder.lengths.drain(..));
        let nulls = builder.validity.finish();
        let items = T::finish(&mut builder.items);
        Arc::new(ListArray::new(Arc::new(T::field("item")), offsets, items, nulls))
    }

    fn cells(array: &dyn Array) -> Result<ListCells<T>> {
        let lists = array.as_any().downcast_ref::<ListArray>().context(OTHER_TYPE)?;
        Ok(ListCells {
            items: T::cells(lists.values())?,
            lists: lists.clone(),
        })
    }

    fn get(cells: &ListCells<T>, row: usize) -> Result<Option<Self>> {
        if cells.lists.is_null(row) {
            return Ok(None);
        }
        let [from, to] = [row, row + 1].map(|at| usize::try_from(cells.lists.value_offsets()[at]));
        let items = (from?..to?).map(|item| T::required(&cells.items, item));
        items.collect::<Result<_>>().map(Some)
    }
}

/// A list of as many items in each row.
impl<T: Column, const N: usize> Column for [T; N] {
    type Builder = ListBuilder<T>;
    type Cells = ListCells<T>;

    fn data_type() -> DataType {
        Vec::<T>::data_type()
    }

    fn append(builder: &mut ListBuilder<T>, value: Option<&Self>) {
        builder.append(value.map(Self::as_slice));
    }

    fn finish(builder: &mut ListBuilder<T>) -> ArrayRef {
        Vec::<T>::finish(builder)
    }

    fn cells(array: &dyn Array) -> Result<ListCells<T>> {
        Vec::<T>::cells(array)
    }

    fn get(cells: &ListCells<T>, row: usize) -> Result<Option<Self>> {
        let items = Vec::<T>::get(cells, row)?;
        let array = |items| Self::try_from(items).ok().context("a list has another length");
        items.map(array).transpose()
    }
}

/// Names of an enumeration that were read.
pub(super) struct NameCells<T> {
    keys: UInt8Array,
    /// The value of each key; `None` for a name that is not known here.
    values: Vec<Option<T>>,
    names: StringArray,
}

impl<T: Copy> NameCells<T> {
    /// The cells of `array`, where `find` finds the value of a name.
    pub(super) fn new(array: &dyn Array, find: impl Fn(&str) -> Option<T>) -> Result<Self> {
        let array = array.as_any().downcast_ref::<DictionaryArray<UInt8Type>>();
        let array = array.context(OTHER_TYPE)?;
        let names = String::cells(array.values())?;
        Ok(Self {
            keys: array.keys().clone(),
            values: (0..names.len()).map(|at| find(names.value(at))).collect(),
            names,
        })
    }

    pub(super) fn get(&self, row: usize) -> Result<Option<T>> {
        if self.keys.is_null(row) {
            return Ok(None);
        }
        let key = usize::from(self.keys.value(row));
        let value = self.values.get(key).context("a name has no number")?;
        let value = value.with_context(|| format!("`{}` is not known", Escaped(self.names.value(key).as_bytes())))?;
        Ok(Some(value))
    }
}

/// The column of `keys`, the numbers of `names`.
pub(super) fn names_column(keys: &mut UInt8Builder, names: impl IntoIterator<Item = &'static str>) -> ArrayRef {
    let names: StringArray = names.into_iter().map(Some).collect();
    Arc::new(DictionaryArray::<UInt8Type>::new(keys.finish(), Arc::new(names)))
}

column_as!(NonZeroU16 as u16, |number| number.get(), |number| Self::new(number)
    .context(ZERO));
column_as!(NonZeroU32 as u32, |number| number.get(), |number| Self::new(number)
    .context(ZERO));
column_as!(NonZeroU64 as u64, |number| number.get(), |number| Self::new(number)
    .context(ZERO));

column_as!(usize as u64, |&number| number as u64, |number| Ok(Self::try_from(
    number
)?));

/// An address in network order: four bytes of IPv4, or 16 of IPv6.
pub(super) enum Octets {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl AsRef<[u8]> for Octets {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }
}

impl Octets {
    pub(super) fn from_address(ip: &IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => Self::V6(ip.octets()),
        }
    }

    /// The address of these bytes; `None` for another number of them.
    pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
        let v4 = <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into());
        v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into()))
            .ok()
    }
}

column_bytes!(IpAddr, Some(Sensitive::Address), Octets::from_address, Octets::address);

/// What a pointer leads to.
macro_rules! pointer {
    ($($pointer:ident),*) => {$(
        impl<T: Column> Column for $pointer<T> {
            const IS_NULLABLE: bool = T::IS_NULLABLE;
            const SENSITIVE: Option<Sensitive> = T::SENSITIVE;
            type Builder = T::Builder;
            type Cells = T::Cells;

            fn data_type() -> DataType {
                T::data_type()
            }

            fn append(builder: &mut T::Builder, value: Option<&Self>) {
                T::append(builder, value.map(|value| &**value));
            }

            fn finish(builder: &mut T::Builder) -> ArrayRef {
                T::finish(builder)
            }

            fn cells(array: &dyn Array) -> Result<T::Cells> {
                T::cells(array)
            }

            fn get(cells: &T::Cells, row: usize) -> Result<Option<Self>> {
                Ok(T::get(cells, row)?.map($pointer::new))
            }
        }
    )*};
}

pointer!(Arc, Box);

/// A list of `T`, for a collection of other values that are made of them.
macro_rules! collection {
    ($([$($of:ident: $bound:path),*] $collection:ty as $item:ty, $to:expr;)*) => {$(
        impl<$($of: Column + $bound),*> Column for $collection {
            type Builder = ListBuilder<$item>;
            type Cells = ListCells<$item>;

            fn data_type() -> DataType {
                Vec::<$item>::data_type()
            }

            fn append(builder: &mut Self::Builder, value: Option<&Self>) {
                let items = value.map(|value| value.iter().map($to).collect::<Vec<$item>>());
                builder.append(items.as_ref());
            }

            fn finish(builder: &mut Self::Builder) -> ArrayRef {
                Vec::<$item>::finish(builder)
            }

            fn cells(array: &dyn Array) -> Result<Self::Cells> {
                Vec::<$item>::cells(array)
            }

            fn get(cells: &Self::Cells, row: usize) -> Result<Option<Self>> {
                Ok(Vec::<$item>::get(cells, row)?.map(Self::from_iter))
            }
        }
    )*};
}

/// A key that a set or map can have.
pub(super) trait Key: Copy + Ord + Hash {}

impl<T: Copy + Ord + Hash> Key for T {}

collection! {
    [T: Key] HashSet<T> as T, |&item| item;
    [K: Key, V: Clone] HashMap<K, V> as (K, V), |(&key, value)| (key, value.clone());
    [K: Key, V: Clone] BTreeMap<K, V> as (K, V), |(&key, value)| (key, value.clone());
}

/// Two columns, as those of a structure.
impl<K: Column, V: Column> Column for (K, V) {
    type Builder = (K::Builder, V::Builder, Validity);
    type Cells = (K::Cells, V::Cells, StructArray);

    fn data_type() -> DataType {
        DataType::Struct([K::field("key"), V::field("value")].into_iter().collect())
    }

    fn append(builder: &mut Self::Builder, value: Option<&Self>) {
        K::append(&mut builder.0, value.map(|(key, _)| key));
        V::append(&mut builder.1, value.map(|(_, value)| value));
        builder.2.append(value.is_some());
    }

    fn finish(builder: &mut Self::Builder) -> ArrayRef {
        let columns = vec![K::finish(&mut builder.0), V::finish(&mut builder.1)];
        let fields = [K::field("key"), V::field("value")].into_iter().collect();
        Arc::new(StructArray::new(fields, columns, builder.2.finish()))
    }

    fn cells(array: &dyn Array) -> Result<Self::Cells> {
        let array = array.as_any().downcast_ref::<StructArray>().context(OTHER_TYPE)?;
        let column = |name| array.column_by_name(name).context(OTHER_TYPE);
        Ok((K::cells(column("key")?)?, V::cells(column("value")?)?, array.clone()))
    }

    fn get(cells: &Self::Cells, row: usize) -> Result<Option<Self>> {
        if cells.2.is_null(row) {
            return Ok(None);
        }
        Ok(Some((K::required(&cells.0, row)?, V::required(&cells.1, row)?)))
    }
}
