//! The directory that a recording or an export is written to.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{Access, AtFlags, CWD, Dir, Mode, OFlags, accessat, fstat, mkdir, mkdirat, open, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// How a directory is opened.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A directory that is ours and had no files. Its files are created below its descriptor, wherever its path leads meanwhile.
#[derive(Debug)]
pub(super) struct OutputDir {
    fd: OwnedFd,
    path: PathBuf,
    /// Whether it did not exist before.
    is_new: bool,
}

impl OutputDir {
    /// Makes the directory `path`, for its owner alone, or checks that it is ours and empty.
    ///
    /// # Errors
    /// One line: it cannot be made or written to, is a symbolic link, somebody else's, or has files.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let text = || format!("cannot write to {}", path.display());
        let is_new = match mkdir(path, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error).with_context(text),
        };
        let fd = match open(path, DIRECTORY, Mode::empty()) {
            Err(Errno::LOOP | Errno::NOTDIR) => {
                bail!("{}: it is a symbolic link or no directory; try a new directory", text())
            }
            opened => opened.with_context(text)?,
        };
        ensure!(
            fstat(&fd).with_context(text)?.st_uid == geteuid().as_raw(),
            "{}: it is another user's; try a new directory",
            text()
        );
        let dir = Self {
            fd,
            path: path.to_owned(),
            is_new,
        };
        ensure!(
            dir.is_empty().with_context(text)?,
            "{}: there are files in it; try a new directory",
            text()
        );
        match accessat(&dir.fd, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
            Err(error @ (Errno::ACCESS | Errno::ROFS)) => Err(error).with_context(text),
            _ => Ok(dir),
        }
    }

    fn is_empty(&self) -> rustix::io::Result<bool> {
        for entry in Dir::read_from(&self.fd)? {
            if ![c".", c".."].contains(&entry?.file_name()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Its path when it was opened, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the file `name`, which its owner alone may read: it names users' programs and peers.
    ///
    /// # Errors
    /// It exists, or cannot be created.
    pub(super) fn create_file(&self, name: &str) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR);
        let file = file.with_context(|| format!("cannot write to {}", self.path.join(name).display()))?;
        Ok(file.into())
    }

    /// Creates the directory `name`, for its owner alone.
    ///
    /// # Errors
    /// It exists, or cannot be created.
    pub(super) fn create_dir(&self, name: &str) -> Result<Self> {
        let path = self.path.join(name);
        let opened =
            mkdirat(&self.fd, name, Mode::RWXU).and_then(|()| openat(&self.fd, name, DIRECTORY, Mode::empty()));
        let fd = opened.with_context(|| format!("cannot write to {}", path.display()))?;
        Ok(Self { fd, path, is_new: true })
    }

    /// Removes the files `names`, in this order, of the directory `dir`, and `dir` itself.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(super) fn remove_dir<'a>(&self, dir: &str, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let removed = openat(&self.fd, dir, DIRECTORY, Mode::empty()).and_then(|fd| {
            let mut names = names.into_iter();
            names.try_for_each(|name| unlinkat(&fd, name, AtFlags::empty()))?;
            unlinkat(&self.fd, dir, AtFlags::REMOVEDIR)
        });
        removed.with_context(|| format!("cannot remove {}", self.path.join(dir).display()))
    }

    /// Removes it, if it is new and empty, as far as the directory above permits that.
    pub(super) fn remove_if_new(&self) {
        if self.is_new {
            let _stays = unlinkat(CWD, &self.path, AtFlags::REMOVEDIR);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_an_empty_directory_of_ours_is_written_to() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        let refusal = |name: &str| OutputDir::create(&path(name)).unwrap_err().to_string();
        let dir = OutputDir::create(&path("new")).unwrap();
        dir.create_file("index").unwrap();
        assert!(dir.create_file("index").is_err(), "it exists");
        assert!(refusal("new").ends_with("there are files in it; try a new directory"));
        dir.remove_if_new();
        assert!(path("new").exists(), "there is a file in it");
        OutputDir::create(&path("newer")).unwrap().remove_if_new();
        assert!(!path("newer").exists());
        fs::create_dir(path("empty")).unwrap();
        symlink(path("empty"), path("link")).unwrap();
        fs::write(path("file"), "").unwrap();
        for name in ["link", "file"] {
            assert!(refusal(name).contains("symbolic link or no directory"), "{name}");
        }
        let dir = OutputDir::create(&path("empty")).unwrap();
        symlink("/dev/null", path("empty").join("index")).unwrap();
        assert!(dir.create_file("index").is_err(), "a link is not followed");
        fs::remove_file(path("empty").join("index")).unwrap();
        dir.remove_if_new();
        assert!(path("empty").exists(), "it was there before");
    }
}
