//! Which hook can run here.

use std::path::Path;

use anyhow::{Result, bail};

use super::Hook;
use crate::sys::btf;
use crate::sys::release::Release;

/// Which hook this kernel can have: the typed one where there is BTF and the kernel is new enough.
///
/// # Errors
/// Neither can be had; one line says why.
pub fn pick() -> Result<Hook> {
    let release = Release::running();
    if release >= Release::TP_BTF && btf::path(Path::new("/")).exists() {
        Ok(Hook::TpBtf)
    } else if release >= Release::RING_BUFFER {
        Ok(Hook::Tracepoint)
    } else {
        bail!("tcpwatch needs Linux 5.8 or later to watch the kernel; tcpwatch snapshot works")
    }
}
