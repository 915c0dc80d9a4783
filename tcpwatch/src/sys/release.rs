//! The running kernel's release.

use crate::input::release::Release;

/// That of `uname -r`; 0.0 where it says something unreadable.
#[must_use]
pub fn running() -> Release {
    Release::parse(&rustix::system::uname().release().to_string_lossy()).unwrap_or(Release(0, 0))
}
