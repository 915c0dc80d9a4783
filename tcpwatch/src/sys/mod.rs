//! What the running system is: one fact of the OS a file. Each takes the root of the tree it reads, so that tests use a
//! fake one.

pub mod btf;
pub mod caps;
pub mod cgroup;
pub mod conntrack;
pub mod counters;
pub mod cpus;
pub mod limits;
pub mod lockdown;
pub mod memlock;
pub mod memory_limit;
pub mod netns;
pub mod perf_event;
pub mod pidns;
pub mod procs;
pub mod release;
pub mod reread;
pub mod signals;
pub mod sockstat;
pub mod sysctl;
pub mod sysctl_d;
pub mod terminal;
pub mod timens;
pub mod tracefs;
pub mod tree;
