//! The release of the running kernel.

use crate::input::release::Release;

/// The release of `uname -r`; 0.0 if it cannot be parsed.
#[must_use]
pub fn running() -> Release {
    Release::parse(&rustix::system::uname().release().to_string_lossy()).unwrap_or(Release(0, 0))
}
