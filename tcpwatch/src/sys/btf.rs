//! Where the running kernel keeps the fields of a socket, from its own type information (BTF).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use btf_rs::{Backend, Btf, BtfType, Struct, Type};
use tcpwatch_common::SockLayout;
use tcpwatch_common::params::ABSENT;

/// Where the kernel below `root` keeps its BTF.
#[must_use]
pub fn path(root: &Path) -> PathBuf {
    root.join("sys/kernel/btf/vmlinux")
}

/// Offsets of what the kernel side reads.
///
/// # Errors
/// There is no BTF, it cannot be read, or a field is not in it.
pub fn sock_layout(root: &Path) -> Result<SockLayout> {
    let path = path(root);
    let btf = Btf::from_file_with_backend(&path, Backend::Mmap)
        .with_context(|| format!("cannot read the kernel's BTF at {}", path.display()))?;
    let inet = structure(&btf, "inet_sock")?;
    let net = structure(&btf, "net")?;
    let timewait = structure(&btf, "inet_timewait_sock")?;
    // `struct inet_sock` starts with `struct sock`, which starts with `struct sock_common`.
    let common = |field: &str| offset(&btf, &inet, &["sk", "__sk_common", field]);
    Ok(SockLayout {
        known: 1,
        family: common("skc_family")?,
        state: common("skc_state")?,
        num: common("skc_num")?,
        dport: common("skc_dport")?,
        saddr: common("skc_rcv_saddr")?,
        daddr: common("skc_daddr")?,
        // A kernel without IPv6 has none.
        saddr_v6: common("skc_v6_rcv_saddr").unwrap_or(ABSENT),
        daddr_v6: common("skc_v6_daddr").unwrap_or(ABSENT),
        ifindex: common("skc_bound_dev_if")?,
        net: common("skc_net")?,
        cookie: common("skc_cookie")?,
        net_inum: offset(&btf, &net, &["ns", "inum"])?,
        protocol: offset(&btf, &inet, &["sk", "sk_protocol"])?,
        sport: offset(&btf, &inet, &["inet_sport"])?,
        tw_substate: offset(&btf, &timewait, &["tw_substate"])?,
    })
}

/// The structure called `name`.
fn structure(btf: &Btf, name: &str) -> Result<Struct> {
    let types = btf
        .resolve_types_by_name(name)
        .with_context(|| format!("the kernel's BTF has no struct {name}"))?;
    types
        .into_iter()
        .find_map(|found| match found {
            Type::Struct(found) => Some(found),
            _ => None,
        })
        .ok_or_else(|| anyhow!("the kernel's BTF has no struct {name}"))
}

/// Bytes from the start of `outer` to the field at the end of `path`.
fn offset(btf: &Btf, outer: &Struct, path: &[&str]) -> Result<u32> {
    let Some((name, rest)) = path.split_first() else {
        return Ok(0);
    };
    let Some((bits, member)) = member(btf, outer, name)? else {
        bail!("the kernel's BTF has no field {name} where one is expected");
    };
    if bits % 8 != 0 {
        bail!("the kernel keeps the field {name} in bits, not bytes");
    }
    match (rest, member) {
        ([], _) => Ok(bits / 8),
        (rest, Type::Struct(inner) | Type::Union(inner)) => Ok(bits / 8 + offset(btf, &inner, rest)?),
        _ => bail!("the kernel's BTF has no structure at field {name}"),
    }
}

/// The field `name` of `outer`, in unnamed structures and unions too: bits from the start of `outer`, and its type.
fn member(btf: &Btf, outer: &Struct, name: &str) -> Result<Option<(u32, Type)>> {
    for member in &outer.members {
        let found = btf.resolve_name(member).unwrap_or_default();
        if found == name {
            return Ok(Some((member.bit_offset(), resolve(btf, member)?)));
        }
        if found.is_empty()
            && let Type::Struct(inner) | Type::Union(inner) = resolve(btf, member)?
            && let Some((bits, found)) = self::member(btf, &inner, name)?
        {
            return Ok(Some((member.bit_offset() + bits, found)));
        }
    }
    Ok(None)
}

/// The type of `of`, seen through typedefs and qualifiers.
fn resolve(btf: &Btf, of: &dyn BtfType) -> Result<Type> {
    let mut found = btf.resolve_chained_type(of)?;
    while let Type::Typedef(_) | Type::Const(_) | Type::Volatile(_) | Type::TypeTag(_) = &found {
        let Some(next) = found.as_btf_type() else { break };
        found = btf.resolve_chained_type(next)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_btf_is_an_error_that_names_the_file() {
        let root = tempfile::tempdir().unwrap();
        let error = format!("{:#}", sock_layout(root.path()).unwrap_err());
        assert!(error.contains("sys/kernel/btf/vmlinux"), "{error}");
    }

    #[test]
    fn garbage_for_btf_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("sys/kernel/btf")).unwrap();
        std::fs::write(path(root.path()), [0x9f; 4096]).unwrap();
        assert!(sock_layout(root.path()).is_err());
    }
}
