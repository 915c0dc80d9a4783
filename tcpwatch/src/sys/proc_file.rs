//! A small /proc file, opened once and read repeatedly. It keeps showing the namespace in which it was opened.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::descriptor_limit;

/// The maximum number of bytes to read. /proc/net/netstat, the longest file, has about 5,000.
const MOST: usize = 1 << 20;

/// An open /proc file and its last content.
#[derive(Debug)]
pub struct ProcFile {
    file: File,
    path: PathBuf,
    text: Vec<u8>,
}

impl ProcFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// The path and the error of open(2).
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        Ok(Self {
            file,
            path: path.to_owned(),
            text: vec![0; 8192],
        })
    }

    /// Opens the file at `path`; `None` if it does not exist or may not be read.
    ///
    /// # Errors
    /// The path, and that a limit of descriptors is reached.
    pub fn open_if_any(path: &Path) -> anyhow::Result<Option<Self>> {
        match Self::open(path) {
            Err(error) if descriptor_limit::is_reached(&error) => Err(error),
            opened => Ok(opened.ok()),
        }
    }

    /// Reads the file from its start.
    ///
    /// # Errors
    /// The path and the error of pread(2), or text that is not UTF-8.
    pub fn read(&mut self) -> anyhow::Result<&str> {
        let length = self.fill().with_context(|| self.path.display().to_string())?;
        std::str::from_utf8(&self.text[..length]).with_context(|| self.path.display().to_string())
    }

    /// Reads the whole file into `text`. Returns the number of bytes.
    fn fill(&mut self) -> std::io::Result<usize> {
        let mut length = 0;
        loop {
            if length == self.text.len() {
                if length >= MOST {
                    return Ok(length);
                }
                self.text.resize(2 * length, 0);
            }
            match self.file.read_at(&mut self.text[length..], length as u64) {
                Ok(0) => return Ok(length),
                Ok(more) => length += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_anew_whatever_its_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "1\n").unwrap();
        let mut file = ProcFile::open(&path).unwrap();
        assert_eq!(file.read().unwrap(), "1\n");
        std::fs::write(&path, "x".repeat(100_000)).unwrap();
        assert_eq!(file.read().unwrap().len(), 100_000);
        std::fs::write(&path, "").unwrap();
        assert_eq!(file.read().unwrap(), "");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(format!("{:#}", file.read().unwrap_err()).contains("file"));
    }
}
