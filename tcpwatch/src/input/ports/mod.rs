//! Ephemeral ports: the settings that rule them, and the sockets that hold them.

pub mod bits;
pub mod ends;
pub mod range;
pub mod reuse;
pub mod settings;
pub mod walk;

/// How long a timewait socket holds its port, s: `TCP_TIMEWAIT_LEN` (include/net/tcp.h), fixed in the kernel.
///
/// It may be a few more: timers of that length end at marks 2 to 5 s apart, as `HZ` has it (kernel/time/timer.c), and sockets
/// leave in groups, at 60 to 62 s where `HZ` is 250. The next walk of the sockets corrects the count.
pub const TIME_WAIT_S: usize = 60;
