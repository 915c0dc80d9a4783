//! The map that programs which make code while they run may write of it (`/tmp/perf-PID.map`, as perf(1) reads it).

use std::fs::File;
use std::io::Read;
use std::num::NonZeroU32;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

use super::process::is_same;

/// Bytes of a map that are read at most.
const BYTES_MAX: u64 = 64 << 20;

/// Where functions are, and what they are called.
pub(super) struct PerfMap(String);

impl PerfMap {
    /// That of the process `pid` which began at `started`, under `root`; `None` where there is none, or the process is gone.
    pub(super) fn open(root: &Path, pid: u32, started: u64) -> Option<Self> {
        let number = NonZeroU32::new(pid)?;
        if !is_same(root, number, started) {
            return None;
        }
        let process = root.join(format!("proc/{pid}"));
        let status = std::fs::read_to_string(process.join("status")).ok()?;
        // The number it has in its own pid namespace is the last.
        let own = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        let own: u32 = own.split_ascii_whitespace().last()?.parse().ok()?;
        let its_root = openat(
            CWD,
            process.join("root"),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()?;
        // Whoever runs there made it: it may be a link, which must not lead out, or a pipe, which must not be waited for.
        let file = openat2(
            its_root,
            format!("tmp/perf-{own}.map"),
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
        .ok()?;
        if FileType::from_raw_mode(fstat(&file).ok()?.st_mode) != FileType::RegularFile {
            return None;
        }
        let mut bytes = Vec::new();
        File::from(file).take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(Self(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The function at `address`: of those written there one after the other, the last.
    pub(super) fn function(&self, address: u64) -> Option<String> {
        self.0.lines().rev().find_map(|line| {
            let (start, rest) = line.split_once(' ')?;
            let (size, name) = rest.split_once(' ')?;
            let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
            let start = hex(start)?;
            let inside = start <= address && address - start < hex(size)?;
            inside.then(|| name.to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_by_address_the_newest_first() {
        let map = PerfMap("1000 10 old one\nrubbish\n1010 8 next\n0x1008 8 new one\nz 1 x\n".into());
        for (address, name) in [
            (0xfff, None),
            (0x1000, Some("old one")),
            (0x1008, Some("new one")),
            (0x100f, Some("new one")),
            (0x1010, Some("next")),
            (0x1018, None),
        ] {
            assert_eq!(map.function(address).as_deref(), name, "{address:x}");
        }
    }
}
