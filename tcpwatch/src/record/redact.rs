//! Replaces the addresses and names of a recording by pseudonyms, each by the same one wherever it stands.
//!
//! A pseudonym depends on a random number of the recording, which is not in what is shown of it. Addresses that are everybody's, as
//! 127.0.0.1 and ::, stay as they are.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow_array::{Array, ArrayRef, BinaryArray, ListArray, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field, Fields};

use super::columns::{OTHER_TYPE, Octets, Sensitive};

/// What makes pseudonyms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pseudonyms {
    pub(super) salt: u64,
}

impl Pseudonyms {
    /// `batch` with pseudonyms in the columns that name something.
    pub(super) fn batch(self, batch: &RecordBatch) -> Result<RecordBatch> {
        let schema = batch.schema();
        let columns = self.columns(schema.fields(), batch.columns())?;
        Ok(RecordBatch::try_new(schema, columns)?)
    }

    fn columns(self, fields: &Fields, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let columns = fields.iter().zip(columns);
        columns.map(|(field, column)| self.column(field, column)).collect()
    }

    fn column(self, field: &Field, column: &ArrayRef) -> Result<ArrayRef> {
        match (field.data_type(), Sensitive::in_field(field)) {
            (DataType::Struct(fields), _) => {
                let column = column.as_any().downcast_ref::<StructArray>().context(OTHER_TYPE)?;
                let columns = self.columns(fields, column.columns())?;
                Ok(Arc::new(StructArray::new(
                    fields.clone(),
                    columns,
                    column.nulls().cloned(),
                )))
            }
            (DataType::List(item), _) => {
                let column = column.as_any().downcast_ref::<ListArray>().context(OTHER_TYPE)?;
                let items = self.column(item, column.values())?;
                let (offsets, nulls) = (column.offsets().clone(), column.nulls().cloned());
                Ok(Arc::new(ListArray::new(Arc::clone(item), offsets, items, nulls)))
            }
            (DataType::Binary, Some(kind)) => {
                let column = column.as_any().downcast_ref::<BinaryArray>().context(OTHER_TYPE)?;
                let cells = column.iter().map(|cell| cell.map(|bytes| self.bytes(kind, bytes)));
                Ok(Arc::new(cells.collect::<BinaryArray>()))
            }
            (DataType::Utf8, Some(_)) => {
                let column = column.as_any().downcast_ref::<StringArray>().context(OTHER_TYPE)?;
                let cells = column.iter().map(|cell| cell.map(|text| self.path(text)));
                Ok(Arc::new(cells.collect::<StringArray>()))
            }
            _ => Ok(Arc::clone(column)),
        }
    }

    fn bytes(self, kind: Sensitive, bytes: &[u8]) -> Vec<u8> {
        match (kind, Octets::address(bytes)) {
            (Sensitive::Address, Some(ip)) => Octets::from_address(&self.address(ip)).as_ref().to_vec(),
            _ => self.name(bytes).into_bytes(),
        }
    }

    /// The parts of a path each have a pseudonym, so that what is below one directory stays so.
    fn path(self, text: &str) -> String {
        let parts = text.split('/').map(|part| match part {
            "" | "." | ".." => part.to_owned(),
            part => self.name(part.as_bytes()),
        });
        parts.collect::<Vec<_>>().join("/")
    }

    /// At most 15 bytes, as the name of a process has.
    fn name(self, bytes: &[u8]) -> String {
        format!("name-{:08x}", self.hash(bytes) >> 32)
    }

    fn address(self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(ip) => self.v4(ip).into(),
            IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
                Some(mapped) => self.v4(mapped).to_ipv6_mapped().into(),
                None => self.v6(ip).into(),
            },
        }
    }

    /// Another address of the 2^32, a different one for each. Those that are everybody's are nobody's pseudonym.
    fn v4(self, ip: Ipv4Addr) -> Ipv4Addr {
        let mut other = ip;
        if is_everybodys(ip) {
            return ip;
        }
        loop {
            other = Ipv4Addr::from_bits(self.permute(other.to_bits()));
            if !is_everybodys(other) {
                return other;
            }
        }
    }

    /// A permutation of the 32-bit numbers: a Feistel network of four rounds.
    fn permute(self, number: u32) -> u32 {
        let (mut left, mut right) = (number >> 16, number & 0xffff);
        for round in 0..4_u8 {
            let mixed = (self.hash((round, right)) >> 48) as u32;
            (left, right) = (right, left ^ mixed);
        }
        left << 16 | right
    }

    /// An address for documentation (RFC 3849), or a link-local one for such.
    fn v6(self, ip: Ipv6Addr) -> Ipv6Addr {
        if ip.is_unspecified() || ip.is_loopback() {
            return ip;
        }
        let prefix: u128 = if ip.is_unicast_link_local() {
            0xfe80
        } else {
            0x2001_0db8
        };
        let shift = if ip.is_unicast_link_local() { 112 } else { 96 };
        Ipv6Addr::from_bits(prefix << shift | u128::from(self.hash(ip.octets())))
    }

    fn hash(self, value: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.salt, value).hash(&mut hasher);
        hasher.finish()
    }
}

/// Whether the address is of no host.
const fn is_everybodys(ip: Ipv4Addr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || ip.is_broadcast()
}

#[cfg(test)]
mod tests {
    use hashbrown::HashSet;

    use super::*;

    const ONE: Pseudonyms = Pseudonyms { salt: 1 };

    fn address(text: &str) -> IpAddr {
        ONE.address(text.parse().unwrap())
    }

    #[test]
    fn each_address_has_one_of_its_own() {
        let ips = (0..20_000_u32).map(|host| Ipv4Addr::from_bits(0x0a00_0000 + host));
        let others: HashSet<Ipv4Addr> = ips.map(|ip| ONE.v4(ip)).collect();
        assert_eq!(others.len(), 20_000);
        assert!(!others.iter().copied().any(is_everybodys));
        assert_eq!(address("10.0.0.1"), address("10.0.0.1"));
        assert_ne!(
            address("10.0.0.1"),
            Pseudonyms { salt: 2 }.address("10.0.0.1".parse().unwrap())
        );
    }

    #[test]
    fn the_kind_of_an_address_stays() {
        for same in ["127.0.0.1", "127.3.2.1", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(address(same).to_string(), same);
        }
        let v4 = address("10.0.0.1").to_string();
        assert_eq!(address("::ffff:10.0.0.1").to_string(), format!("::ffff:{v4}"));
        assert!(address("fe80::7").to_string().starts_with("fe80::"));
        assert!(address("2606:4700::7").to_string().starts_with("2001:db8::"));
    }

    #[test]
    fn paths_keep_their_shape() {
        let path = ONE.path("/system.slice/nginx.service");
        let (slice, service) = (ONE.name(b"system.slice"), ONE.name(b"nginx.service"));
        assert_eq!(path, format!("/{slice}/{service}"));
        assert!(slice.len() <= 15);
    }
}
