//! The hash of what the kernel object is built from; shared by `build.rs` and `cargo xtask ebpf`, so that they can't disagree.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// The crates whose sources make the object, beside each other in the workspace.
pub(crate) const CRATES: [&str; 2] = ["tcpwatch-ebpf", "tcpwatch-common"];

/// The hash of the sources under `root`, the same for every place of the checkout and every line ending.
pub(crate) fn of_sources(root: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for name in CRATES {
        files.push(format!("{name}/Cargo.toml"));
        rust_files(root, &format!("{name}/src"), &mut files)?;
    }
    files.sort();

    let mut hasher = Sha256::new();
    for file in files {
        let text = read(&root.join(&file))?.replace("\r\n", "\n");
        // With its length before it, no text can pass for the next file's name.
        hasher.update(format!("{file} {}\n", text.len()));
        hasher.update(text);
    }
    hasher.update(kernel_packages(&read(&root.join("Cargo.lock"))?));
    Ok(hex(&hasher.finalize()))
}

/// The hash of a file's content.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Adds the Rust files below `folder` to `found`, as paths from `root` with forward slashes; an editor's leftovers are no sources.
fn rust_files(root: &Path, folder: &str, found: &mut Vec<String>) -> io::Result<()> {
    let path = root.join(folder);
    for entry in fs::read_dir(&path).map_err(|error| at(&path, &error))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if entry.file_type()?.is_dir() {
            rust_files(root, &format!("{folder}/{name}"), found)?;
        } else if Path::new(&name).extension().is_some_and(|extension| extension == "rs") {
            found.push(format!("{folder}/{name}"));
        }
    }
    Ok(())
}

/// Name and version of each package of `Cargo.lock` that is linked into the object, one a line.
fn kernel_packages(cargo_lock: &str) -> String {
    let mut packages = String::new();
    let mut name = "";
    for line in cargo_lock.lines() {
        if let Some(value) = quoted(line, "name = ") {
            name = value;
        } else if let Some(version) = quoted(line, "version = ")
            && (name.starts_with("aya-ebpf") || name.starts_with("aya-log-ebpf") || name == "aya-log-common")
        {
            packages.extend([name, " ", version, "\n"]);
        }
    }
    packages
}

fn quoted<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix('"')?.strip_suffix('"')
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map_err(|error| at(path, &error))
}

/// The same error with the path in it, which `std` leaves out.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::{CRATES, kernel_packages, of_bytes, of_sources};

    const LOCK: &str = "[[package]]\nname = \"aya\"\nversion = \"0.14.0\"\n\n[[package]]\nname = \"aya-ebpf\"\nversion = \"0.2.1\"\n\
         dependencies = [\n \"aya-log-common\",\n]\n\n[[package]]\nname = \"aya-log-common\"\nversion = \"0.2.0\"\n";

    /// A workspace of its own for each test, so that they can run side by side.
    fn workspace(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("tcpwatch-fingerprint-{}-{name}", std::process::id()));
        for folder in CRATES {
            write(&root, &format!("{folder}/Cargo.toml"), "[package]\n");
            write(&root, &format!("{folder}/src/main.rs"), "mod a;\n");
            write(&root, &format!("{folder}/src/deep/a.rs"), "fn a() {}\n");
        }
        write(&root, "Cargo.lock", LOCK);
        root
    }

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn place_line_endings_and_leftovers_do_not_matter() {
        let (here, there) = (workspace("here"), workspace("there"));
        write(&there, "tcpwatch-ebpf/src/main.rs", "mod a;\r\n");
        write(&there, "tcpwatch-ebpf/src/.main.rs.swp", "half a line");
        write(&there, "Cargo.lock", &LOCK.replace('\n', "\r\n"));
        assert_eq!(of_sources(&here).unwrap(), of_sources(&there).unwrap());
        for root in [here, there] {
            fs::remove_dir_all(root).unwrap();
        }
    }

    #[test]
    fn every_source_matters() {
        let root = workspace("matters");
        let mut seen = vec![of_sources(&root).unwrap()];
        for (file, text) in [
            ("tcpwatch-ebpf/Cargo.toml", "[package]\nname = \"x\"\n"),
            ("tcpwatch-ebpf/src/deep/a.rs", "fn b() {}\n"),
            ("tcpwatch-common/src/deep/a.rs", "fn b() {}\n"),
            ("tcpwatch-common/src/new.rs", ""),
            ("Cargo.lock", &LOCK.replace("0.2.1", "0.2.2")),
        ] {
            write(&root, file, text);
            let hash = of_sources(&root).unwrap();
            assert!(!seen.contains(&hash), "{file} does not matter");
            seen.push(hash);
        }
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn only_packages_linked_into_the_object_count() {
        assert_eq!(kernel_packages(LOCK), "aya-ebpf 0.2.1\naya-log-common 0.2.0\n");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = of_sources(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/tcpwatch-ebpf/src: "), "{error}");
    }

    #[test]
    fn the_hash_is_sha256() {
        assert!(of_bytes(b"").starts_with("e3b0c44298fc1c149afbf4c8996fb924"));
    }
}
