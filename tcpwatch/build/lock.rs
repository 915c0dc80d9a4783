//! `tcpwatch.bpf.lock`: what the committed object was built from, and by what; shared by `build.rs` and `cargo xtask ebpf`.

use std::fmt;
use std::str::FromStr;

/// The four facts, each a line of `key = value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lock {
    /// Hash of the sources, see `fingerprint.rs`.
    pub(crate) sources: String,
    /// Version of the compiler.
    pub(crate) rustc: String,
    /// Version of the linker, which makes the instructions and the BTF.
    pub(crate) bpf_linker: String,
    /// Hash of the object itself.
    pub(crate) object: String,
}

impl Lock {
    /// The toolchain as one text; the same text gives the same instructions.
    pub(crate) fn toolchain(&self) -> String {
        format!("rustc {}, bpf-linker {}", self.rustc, self.bpf_linker)
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "# What tcpwatch.bpf.o was built from, and by what; written by `cargo xtask ebpf`."
        )?;
        writeln!(out, "sources = {}", self.sources)?;
        writeln!(out, "rustc = {}", self.rustc)?;
        writeln!(out, "bpf-linker = {}", self.bpf_linker)?;
        writeln!(out, "object = {}", self.object)
    }
}

impl FromStr for Lock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value = |wanted: &str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .find(|(key, _)| key.trim() == wanted)
                .map(|(_, value)| value.trim().to_owned())
                .ok_or_else(|| format!("no `{wanted} = ...` line"))
        };
        Ok(Self {
            sources: value("sources")?,
            rustc: value("rustc")?,
            bpf_linker: value("bpf-linker")?,
            object: value("object")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Lock;

    fn lock() -> Lock {
        Lock {
            sources: "aa".to_owned(),
            rustc: "1.96.0 (ac68faa20 2026-05-25) (a = b)".to_owned(),
            bpf_linker: "0.13.0".to_owned(),
            object: "bb".to_owned(),
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let text = lock().to_string();
        assert_eq!(text.parse(), Ok(lock()));
        assert_eq!(text.replace('\n', "\r\n").parse(), Ok(lock()));
    }

    #[test]
    fn a_missing_line_is_named() {
        let text = lock().to_string().replace("bpf-linker =", "linker =");
        assert_eq!(text.parse::<Lock>(), Err("no `bpf-linker = ...` line".to_owned()));
    }
}
