//! Parameters that the loader writes into `.rodata` before loading. The verifier knows these values, and removes code that they
//! turn off.

use tcpwatch_common::{ABI_VERSION, ClassicLayout, Filter, Params, ResetLayout, SockLayout, TaskLayout};

/// The ABI version of this object. The loader refuses another version.
#[unsafe(no_mangle)]
pub(crate) static TCPWATCH_ABI: u32 = ABI_VERSION;

/// Selects the sockets to count.
#[unsafe(no_mangle)]
pub(crate) static FILTER: Filter = Filter::ALL;

/// The needs of the command, and the features of the kernel.
#[unsafe(no_mangle)]
pub(crate) static PARAMS: Params = Params::COUNTS;

/// Offsets of a socket's fields in the running kernel.
#[unsafe(no_mangle)]
pub(crate) static SOCK: SockLayout = SockLayout::UNKNOWN;

/// Offsets for the path from a task to its sockets.
#[unsafe(no_mangle)]
pub(crate) static TASK: TaskLayout = TaskLayout::UNKNOWN;

/// Offsets in the records of the other tracepoints.
#[unsafe(no_mangle)]
pub(crate) static RESET: ResetLayout = ResetLayout::UNKNOWN;

/// Offsets in the record of the classic tracepoint.
#[unsafe(no_mangle)]
pub(crate) static CLASSIC: ClassicLayout = ClassicLayout::UNKNOWN;

/// Reads a field of a global above. Volatile, because the compiler would otherwise use the value at build time.
macro_rules! param {
    ($global:ident . $($field:tt)+) => {
        // SAFETY: this is a field of an aligned and initialised static, which nothing writes after loading.
        unsafe { core::ptr::read_volatile(&raw const crate::params::$global.$($field)+) }
    };
}
pub(crate) use param;
