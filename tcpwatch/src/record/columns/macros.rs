//! Makes a type recordable in a line: as another type, as bytes, by its names, or as the structure of its fields.

/// Implements [`Column`] for a type by another type that has it: how to make that of it, and how to get it back.
macro_rules! column_as {
    ($type:ty as $other:ty, $to:expr, $from:expr) => {
        impl $crate::record::columns::Column for $type {
            const IS_NULLABLE: bool = <$other as $crate::record::columns::Column>::IS_NULLABLE;
            const SENSITIVE: Option<$crate::record::columns::Sensitive> =
                <$other as $crate::record::columns::Column>::SENSITIVE;
            type Builder = <$other as $crate::record::columns::Column>::Builder;
            type Cells = <$other as $crate::record::columns::Column>::Cells;

            fn data_type() -> ::arrow_schema::DataType {
                <$other as $crate::record::columns::Column>::data_type()
            }

            fn append(builder: &mut Self::Builder, value: Option<&Self>) {
                let to: fn(&Self) -> $other = $to;
                <$other as $crate::record::columns::Column>::append(builder, value.map(to).as_ref());
            }

            fn finish(builder: &mut Self::Builder) -> ::arrow_array::ArrayRef {
                <$other as $crate::record::columns::Column>::finish(builder)
            }

            fn cells(array: &dyn ::arrow_array::Array) -> ::anyhow::Result<Self::Cells> {
                <$other as $crate::record::columns::Column>::cells(array)
            }

            fn get(cells: &Self::Cells, row: usize) -> ::anyhow::Result<Option<Self>> {
                let from: fn($other) -> ::anyhow::Result<Self> = $from;
                <$other as $crate::record::columns::Column>::get(cells, row)?
                    .map(from)
                    .transpose()
            }
        }
    };
}

/// Implements [`Column`] for a type that is bytes: what it names, how they are had of it, and how it is had of them.
macro_rules! column_bytes {
    ($type:ty, $kind:expr, $bytes:expr, $from:expr) => {
        impl $crate::record::columns::Column for $type {
            const SENSITIVE: Option<$crate::record::columns::Sensitive> = $kind;
            type Builder = ::arrow_array::builder::BinaryBuilder;
            type Cells = ::arrow_array::BinaryArray;

            fn data_type() -> ::arrow_schema::DataType {
                ::arrow_schema::DataType::Binary
            }

            fn append(builder: &mut Self::Builder, value: Option<&Self>) {
                builder.append_option(value.map($bytes));
            }

            fn finish(builder: &mut Self::Builder) -> ::arrow_array::ArrayRef {
                ::std::sync::Arc::new(builder.finish())
            }

            fn cells(array: &dyn ::arrow_array::Array) -> ::anyhow::Result<Self::Cells> {
                let cells = array.as_any().downcast_ref::<Self::Cells>().cloned();
                ::anyhow::Context::context(cells, $crate::record::columns::OTHER_TYPE)
            }

            fn get(cells: &Self::Cells, row: usize) -> ::anyhow::Result<Option<Self>> {
                use ::arrow_array::Array as _;

                let from: fn(&[u8]) -> Option<Self> = $from;
                if cells.is_null(row) {
                    return Ok(None);
                }
                let value = from(cells.value(row));
                Ok(Some(::anyhow::Context::context(
                    value,
                    "a value has a wrong length",
                )?))
            }
        }
    };
}

/// Implements [`Column`] for a structure: a column of the columns of its fields.
macro_rules! column_struct {
    ($type:ident { $($field:ident: $of:ty),* $(,)? }) => {
        const _: () = {
            use ::std::sync::Arc;

            use ::arrow_array::{Array, ArrayRef, StructArray};
            use ::arrow_schema::{DataType, Fields};
            use $crate::record::columns::{Column, Validity};

            #[derive(Default)]
            pub(crate) struct Builder {
                $($field: <$of as Column>::Builder,)*
                validity: Validity,
            }

            pub(crate) struct Cells {
                $($field: <$of as Column>::Cells,)*
                array: StructArray,
            }

            fn fields() -> Fields {
                [$(<$of as Column>::field(stringify!($field))),*].into_iter().collect()
            }

            impl Column for $type {
                type Builder = Builder;
                type Cells = Cells;

                fn data_type() -> DataType {
                    DataType::Struct(fields())
                }

                fn append(builder: &mut Builder, value: Option<&Self>) {
                    $(<$of as Column>::append(&mut builder.$field, value.map(|value| &value.$field));)*
                    builder.validity.append(value.is_some());
                }

                fn finish(builder: &mut Builder) -> ArrayRef {
                    let columns = vec![$(<$of as Column>::finish(&mut builder.$field)),*];
                    let nulls = builder.validity.finish();
                    Arc::new(StructArray::new(fields(), columns, nulls))
                }

                fn cells(array: &dyn Array) -> ::anyhow::Result<Cells> {
                    let array = array.as_any().downcast_ref::<StructArray>();
                    let array = ::anyhow::Context::context(array, $crate::record::columns::OTHER_TYPE)?.clone();
                    Ok(Cells {
                        $($field: {
                            let column = array.column_by_name(stringify!($field));
                            let column = ::anyhow::Context::context(
                                column,
                                concat!("the column ", stringify!($field), " is missing"),
                            )?;
                            <$of as Column>::cells(column)?
                        },)*
                        array,
                    })
                }

                fn get(cells: &Cells, row: usize) -> ::anyhow::Result<Option<Self>> {
                    if cells.array.is_null(row) {
                        return Ok(None);
                    }
                    Ok(Some(Self {
                        $($field: <$of as Column>::required(&cells.$field, row)?,)*
                    }))
                }
            }
        };
    };
}

/// Implements [`Column`] for an enumeration: a dictionary of the names of all its values.
macro_rules! column_names {
    ($type:ty: $all:expr, $name:expr) => {
        impl $crate::record::columns::Column for $type {
            type Builder = ::arrow_array::builder::UInt8Builder;
            type Cells = $crate::record::columns::NameCells<Self>;

            fn data_type() -> ::arrow_schema::DataType {
                use ::arrow_schema::DataType::{Dictionary, UInt8, Utf8};

                Dictionary(Box::new(UInt8), Box::new(Utf8))
            }

            fn append(builder: &mut Self::Builder, value: Option<&Self>) {
                let number = value.and_then(|value| $all.iter().position(|one| one == value));
                builder.append_option(number.and_then(|number| u8::try_from(number).ok()));
            }

            fn finish(builder: &mut Self::Builder) -> ::arrow_array::ArrayRef {
                let name: fn(Self) -> &'static str = $name;
                $crate::record::columns::names_column(builder, $all.map(name))
            }

            fn cells(array: &dyn ::arrow_array::Array) -> ::anyhow::Result<Self::Cells> {
                let name: fn(Self) -> &'static str = $name;
                let find = |text: &str| $all.into_iter().find(|&value| name(value) == text);
                $crate::record::columns::NameCells::new(array, find)
            }

            fn get(cells: &Self::Cells, row: usize) -> ::anyhow::Result<Option<Self>> {
                cells.get(row)
            }
        }
    };
}

pub(in crate::record) use {column_as, column_bytes, column_names, column_struct};
