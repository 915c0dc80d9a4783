//! A directory tree to read: the root of this host, or files copied from another host. Copied files are untrusted.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::anyhow;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags, makedev, openat, openat2};
use rustix::io::Errno;

/// The maximum number of bytes to read of a file.
const MOST: u64 = 1 << 20;
/// The maximum number of names to read of a directory.
const NAMES: usize = 1 << 20;

/// An open directory tree.
#[derive(Debug)]
pub struct HostRoot {
    top: OwnedFd,
    copied: bool,
}

/// The text of `error` without the error number.
#[must_use]
pub fn why(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error")
        .map_or(text.as_str(), |(text, _)| text)
        .to_owned()
}

/// Identifies a file: device and inode.
pub type Identity = (u64, u64);

/// The content of a file.
#[derive(Debug)]
pub struct Content {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether the file is longer than the bytes.
    pub cut: bool,
    /// The identity of the file.
    pub identity: Identity,
}

impl HostRoot {
    /// Opens the tree at `path`.
    ///
    /// # Errors
    /// One line: the directory does not exist or may not be opened.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let top = openat(CWD, path, flags, Mode::empty()).map_err(|errno| {
            anyhow!(
                "cannot open {}: {}; try --root with a directory that has proc and etc of another host",
                path.display(),
                io::Error::from(errno)
            )
        })?;
        Ok(Self {
            copied: path != Path::new("/"),
            top,
        })
    }

    /// Whether the files were copied from another host.
    #[must_use]
    pub const fn is_copied(&self) -> bool {
        self.copied
    }

    /// Reads the file at `path`, which is relative to the root.
    ///
    /// # Errors
    /// The error of the kernel, or a file that is not regular, which could block or never end.
    pub fn read(&self, path: &str) -> io::Result<Content> {
        let file = self.file(path)?;
        let metadata = file.metadata()?;
        let mut bytes = Vec::new();
        file.take(MOST + 1).read_to_end(&mut bytes)?;
        let cut = bytes.len() as u64 > MOST;
        bytes.truncate(bytes.len().min(usize::try_from(MOST).unwrap_or(usize::MAX)));
        Ok(Content {
            bytes,
            cut,
            identity: (metadata.dev(), metadata.ino()),
        })
    }

    /// Opens the regular file at `path` for reading.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn file(&self, path: &str) -> io::Result<File> {
        let file = File::from(self.at(path, OFlags::NONBLOCK | OFlags::NOCTTY)?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        }
    }

    /// Reads the text of the file at `path`.
    ///
    /// # Errors
    /// As [`Self::read`], or a file that is too long or not UTF-8.
    pub fn text(&self, path: &str) -> io::Result<String> {
        let content = self.read(path)?;
        if content.cut {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than 1 MiB"));
        }
        String::from_utf8(content.bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text"))
    }

    /// The number of names in the directory of descriptors at `path`. Since Linux 6.2 it is the size of the directory, which
    /// everybody may read (`proc_fd_getattr`). In copied files the size means something else.
    #[must_use]
    pub fn count(&self, path: &str) -> Option<u64> {
        let size = File::from(self.at(path, OFlags::PATH).ok()?).metadata().ok()?.len();
        match size {
            size if size > 0 && !self.copied => Some(size),
            _ => Some(self.names(path).ok()?.len() as u64),
        }
    }

    /// Whether `path` is a link to /dev/null, which disables the file that it replaces (null(4)).
    #[must_use]
    pub fn is_null(&self, path: &str) -> bool {
        let file = self.at(path, OFlags::PATH).map(File::from);
        let metadata = file.and_then(|file| file.metadata());
        metadata.is_ok_and(|metadata| metadata.file_type().is_char_device() && metadata.rdev() == makedev(1, 3))
    }

    /// Whether `path` exists.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.at(path, OFlags::PATH).is_ok()
    }

    /// The names in the directory at `path`, in any order.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn names(&self, path: &str) -> io::Result<Vec<OsString>> {
        let directory = self.at(path, OFlags::DIRECTORY)?;
        let names = Dir::new(directory)?.filter_map(|entry| Some(entry.ok()?.file_name().to_bytes().to_vec()));
        Ok(names
            .filter(|name| !matches!(&name[..], b"." | b".."))
            .take(NAMES)
            .map(OsString::from_vec)
            .collect())
    }

    /// Opens `path`. Links in copied files are followed inside the tree.
    fn at(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if !self.copied {
            return Ok(openat(&self.top, path, flags, Mode::empty())?);
        }
        match openat2(&self.top, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            // Before Linux 5.6, or in a sandbox that does not know openat2(2), links are not followed.
            Err(Errno::NOSYS | Errno::PERM) => Ok(openat(&self.top, path, flags | OFlags::NOFOLLOW, Mode::empty())?),
            opened => Ok(opened?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::mkfifoat;

    use super::*;

    #[test]
    fn links_of_a_copied_tree_stay_inside_it() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/sysctl.d")).unwrap();
        fs::write(root.path().join("etc/sysctl.conf"), "theirs\n").unwrap();
        symlink("/etc/sysctl.conf", root.path().join("etc/sysctl.d/absolute")).unwrap();
        symlink(
            "../../../../../etc/sysctl.conf",
            root.path().join("etc/sysctl.d/upward"),
        )
        .unwrap();
        symlink("/proc/self/status", root.path().join("etc/sysctl.d/outside")).unwrap();
        let tree = HostRoot::open(root.path()).unwrap();
        assert_eq!(tree.text("etc/sysctl.d/absolute").unwrap(), "theirs\n");
        assert_eq!(tree.text("etc/sysctl.d/upward").unwrap(), "theirs\n");
        let error = tree.text("etc/sysctl.d/outside").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let same = |path| tree.read(path).unwrap().identity;
        assert_eq!(same("etc/sysctl.conf"), same("etc/sysctl.d/absolute"));
        let mut names = tree.names("etc/sysctl.d").unwrap();
        names.sort();
        assert_eq!(names, ["absolute", "outside", "upward"]);
    }

    #[test]
    fn what_is_no_text_of_bounded_length_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        fs::write(path("binary"), [0xff, 0xfe]).unwrap();
        fs::write(path("huge"), vec![b'x'; (1 << 20) + 1]).unwrap();
        fs::write(path("largest"), vec![b'x'; 1 << 20]).unwrap();
        fs::create_dir(path("directory")).unwrap();
        symlink("loop", path("loop")).unwrap();
        mkfifoat(CWD, path("fifo"), Mode::RUSR).unwrap();
        let tree = HostRoot::open(root.path()).unwrap();
        let why = |name| tree.text(name).unwrap_err().to_string();
        assert_eq!(why("binary"), "not UTF-8 text");
        assert_eq!(why("huge"), "longer than 1 MiB");
        assert_eq!(tree.text("largest").unwrap().len(), 1 << 20);
        for odd in ["directory", "fifo"] {
            assert_eq!(why(odd), "not a regular file");
        }
        assert!(why("loop").starts_with("Too many levels of symbolic links"));
        assert!(why("none").starts_with("No such file"));
        assert!(tree.read("huge").unwrap().cut);
        assert!(tree.names("binary").is_err());
    }

    #[test]
    fn no_tree_is_one_line_that_says_what_to_type() {
        let root = tempfile::tempdir().unwrap();
        let error = HostRoot::open(&root.path().join("none")).unwrap_err().to_string();
        assert!(
            error.contains("none: No such file") && error.contains("--root"),
            "{error}"
        );
        assert!(HostRoot::open(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn this_host_is_no_copy() {
        let tree = HostRoot::open(Path::new("/")).unwrap();
        assert!(!tree.is_copied() && tree.has("proc/self/net/snmp"));
        assert!(tree.is_null("dev/null") && !tree.is_null("dev/zero") && !tree.is_null("dev"));
        assert!(tree.text("proc/thread-self/net/snmp").unwrap().contains("ActiveOpens"));
    }
}
