//! What the loader wrote into `.rodata` before loading: the verifier knows these values, and prunes what they switch off.

use tcpwatch_common::{ABI_VERSION, ClassicLayout, Filter, Params, ResetLayout, SockLayout, TaskLayout};

/// The ABI this object speaks; the loader refuses another than its own.
#[unsafe(no_mangle)]
pub(crate) static TCPWATCH_ABI: u32 = ABI_VERSION;

/// Which sockets to count.
#[unsafe(no_mangle)]
pub(crate) static FILTER: Filter = Filter::ALL;

/// What is needed, and what the kernel offers.
#[unsafe(no_mangle)]
pub(crate) static PARAMS: Params = Params::COUNTS;

/// Where the running kernel keeps a socket's fields.
#[unsafe(no_mangle)]
pub(crate) static SOCK: SockLayout = SockLayout::UNKNOWN;

/// Where the running kernel keeps a task's sockets.
#[unsafe(no_mangle)]
pub(crate) static TASK: TaskLayout = TaskLayout::UNKNOWN;

/// Where the tracepoints about resets and accepts keep their fields.
#[unsafe(no_mangle)]
pub(crate) static RESET: ResetLayout = ResetLayout::UNKNOWN;

/// Where the classic tracepoint keeps its fields.
#[unsafe(no_mangle)]
pub(crate) static CLASSIC: ClassicLayout = ClassicLayout::UNKNOWN;

/// Reads one field of a global above; volatile, or the compiler would fold in the value of build time.
macro_rules! param {
    ($global:ident . $($field:tt)+) => {
        // SAFETY: the place is a field of a static, aligned and initialised, which nothing writes after loading.
        unsafe { core::ptr::read_volatile(&raw const crate::params::$global.$($field)+) }
    };
}
pub(crate) use param;
