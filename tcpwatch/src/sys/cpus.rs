//! The number of CPUs that the kernel may have.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, anyhow};

/// The highest possible CPU number plus one, from `sys/devices/system/cpu/possible` below `root` (`0-7`, `0,2-3`).
///
/// # Errors
/// The file cannot be read, or holds no number.
pub fn possible(root: &Path) -> Result<u32> {
    let path = root.join("sys/devices/system/cpu/possible");
    let text = fs::read_to_string(&path).map_err(|error| {
        let remedy = match error.kind() {
            ErrorKind::NotFound => "; try mount -t sysfs sysfs /sys",
            _ => "",
        };
        anyhow!("cannot read {}: {error}{remedy}", path.display())
    })?;
    let highest = text
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse::<u32>().ok())
        .max();
    let count = highest.and_then(|highest| highest.checked_add(1));
    count.with_context(|| format!("{} holds no CPU", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_count_too() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/devices/system/cpu");
        fs::create_dir_all(&folder).unwrap();
        for (text, highest) in [("0\n", 1), ("0-7\n", 8), ("0,2-3\n", 4)] {
            fs::write(folder.join("possible"), text).unwrap();
            assert_eq!(possible(root.path()).unwrap(), highest);
        }
        for text in ["\n", "0-4294967295\n"] {
            fs::write(folder.join("possible"), text).unwrap();
            assert!(possible(root.path()).is_err(), "{text}");
        }
        fs::remove_file(folder.join("possible")).unwrap();
        let error = possible(root.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("(os error 2); try mount -t sysfs sysfs /sys"),
            "{error}"
        );
    }
}
