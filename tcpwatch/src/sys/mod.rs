//! Reads facts of the operating system, one per file. Each reader takes the root of the tree, so that tests can use a fake one.

pub mod btf;
pub mod caps;
pub mod cgroup;
pub mod conntrack;
pub mod counters;
pub mod cpus;
pub mod descriptor_limit;
pub mod host_root;
pub mod limits;
pub mod lockdown;
pub mod memlock;
pub mod memory_limit;
pub mod netns;
pub mod perf_event;
pub mod pidns;
pub mod proc_file;
pub mod procs;
pub mod release;
pub mod signals;
pub mod sockstat;
pub mod sysctl;
pub mod sysctl_d;
pub mod terminal;
pub mod threads;
pub mod timens;
pub mod tracefs;
