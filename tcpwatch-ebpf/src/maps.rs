//! The maps. A hash table has room for 1 entry here; the loader sets its size if it is used (`source/ebpf/map_sizes.rs` of
//! tcpwatch).

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use tcpwatch_common::filter::PORT_WORDS;
use tcpwatch_common::histogram::BucketKey;
use tcpwatch_common::ledger::{COPIES, Pass};
use tcpwatch_common::names::STAGES;
use tcpwatch_common::owner::{Name, PortListeners};
use tcpwatch_common::{Ledger, Owner};

use crate::conn_info::StateAndInfo;
use crate::first_copy::FirstCopy;
use crate::hook::classic::Record;
use crate::run::Runs;
use crate::sock_state::SockState;

/// Entries of a jump table.
const STAGES_COUNT: u32 = STAGES.len() as u32;

/// The records. The loader sets the size (`--ring-size`), or one page if no records are needed.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// User stacks. The loader sets the size if they are needed.
#[map]
pub(crate) static STACKS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// When the reader of stacks was last woken (`bpf_ktime_get_ns`).
#[map]
pub(crate) static CALLED: Array<u64> = Array::with_max_entries(1, 0);

/// The [`Ledger`]s, [`tcpwatch_common::ledger::BANKS`] for each CPU; the loader sets the number. Not a per-CPU array, because
/// userspace maps it into memory: a read by `bpf(2)` would stop classic tracepoint programs on that CPU meanwhile
/// (`bpf_disable_instrumentation`).
#[map]
pub(crate) static LEDGER: Array<Ledger> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Results of iterator passes: two banks of marks, and one for plain counts. Only one pass runs at a time.
#[map]
pub(crate) static PASSES: Array<Pass> = Array::with_max_entries(3, 0);

/// The current [`tcpwatch_common::ledger::Count`].
#[map]
pub(crate) static COUNT: Array<u32> = Array::with_max_entries(1, 0);

/// Three port sets of 65,536 bits: local, remote, either.
#[map]
pub(crate) static PORTS: Array<u64> = Array::with_max_entries(3 * PORT_WORDS, 0);

/// Data that the programs of a run pass to each other, for each copy.
#[map]
pub(crate) static RUNS: PerCpuArray<Runs> = PerCpuArray::with_max_entries(COPIES, 0);

/// Data of the second copy about the first.
#[map]
pub(crate) static FIRST_COPY: PerCpuArray<FirstCopy> = PerCpuArray::with_max_entries(1, 0);

/// The last event of each socket, by the hash of its address: the address shifted left by 8 bits, and `from << 4 | to` in the
/// low bits. The loader sets its size if it is used.
#[map]
pub(crate) static LAST_EVENTS: Array<u64> = Array::with_max_entries(1, 0);

/// 1 while a reset changes how an ending is counted. Before Linux 6.1 another reset may interrupt it on the same CPU.
#[map]
pub(crate) static AMENDING: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// The address of the last socket of this CPU that was destroyed before its reset was sent.
#[map]
pub(crate) static LAST_DESTROYED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The programs of each hook and copy, by their index in [`tcpwatch_common::names::STAGES`]. The table of the second copy also
/// has the entry program of the first. It is never called from there; the second copy uses it to find its count of runs.
#[map]
pub(crate) static STAGES_TYPED: ProgramArray = ProgramArray::with_max_entries(STAGES_COUNT, 0);
#[map]
pub(crate) static STAGES_TYPED2: ProgramArray = ProgramArray::with_max_entries(STAGES_COUNT + 1, 0);
#[map]
pub(crate) static STAGES_CLASSIC: ProgramArray = ProgramArray::with_max_entries(STAGES_COUNT, 0);

/// The state of each socket, in the storage of the socket: it needs no size and no eviction, and is freed with the socket.
#[btf_map]
pub(crate) static STATES: SkStorage<SockState> = SkStorage::new();

/// The state of each socket by its address, if sockets have no storage.
///
/// Limit: 65,536 sockets. The kernel evicts none; a socket without room is counted as unremembered. An entry goes when its socket is
/// destroyed; the one in [`LAST_DESTROYED`] goes with the next of its kind on that CPU.
#[map]
pub(crate) static STATES_BY_ADDR: HashMap<u64, SockState> = HashMap::with_max_entries(1, 0);

/// State and info of each socket, instead of [`STATES`] if infos are needed.
#[btf_map]
pub(crate) static INFOS: SkStorage<StateAndInfo> = SkStorage::new();

/// The same, instead of [`STATES_BY_ADDR`], with the same limit.
#[map]
pub(crate) static INFOS_BY_ADDR: HashMap<u64, StateAndInfo> = HashMap::with_max_entries(1, 0);

/// The process that accepted a socket, by the socket's address, until its next transition or its destruction. A program on a
/// system call cannot reach the storage of the socket.
///
/// Limit: 262,144 sockets; 65,536 before Linux 6.1, where the loader clears the flag. The kernel evicts none; a process without room is
/// counted as an owner not kept.
#[map]
pub(crate) static ACCEPTED: HashMap<u64, Owner> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// The listeners, by namespace and port. Children of an evicted listener have no owner until they are accepted.
///
/// Limit: 16,384 listeners. The kernel evicts the least recently used.
#[map]
pub(crate) static LISTENERS: LruHashMap<u64, PortListeners> = LruHashMap::with_max_entries(1, 0);

/// Names of listening processes, updated when they change: a child may be created long after its listener.
///
/// Limit: 4,096 processes. The kernel evicts the least recently used. An entry goes when its process ends.
#[map]
pub(crate) static COMMS: LruHashMap<u32, Name> = LruHashMap::with_max_entries(1, 0);

/// Counts the times of all connections, by [`tcpwatch_common::histogram::total`]. If times are counted by group, it counts only those
/// that found no room in [`BUCKETS`]. Each counter has its place, so none is evicted. Userspace maps this array into its memory.
#[map]
pub(crate) static TOTALS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Counts of the times of groups of connections: the buckets that are not empty, shared by all CPUs.
///
/// Limit: 131,072 buckets. The kernel evicts none; a time without room is counted in [`TOTALS`]. A bucket lives about a second.
/// Then userspace makes the programs write the other bank. It waits until no program writes this one, reads its buckets and removes
/// them.
#[map]
pub(crate) static BUCKETS: HashMap<BucketKey, u64> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// The bank of [`BUCKETS`] that the programs write now: 0 or 1.
#[map]
pub(crate) static BANK: Array<u32> = Array::with_max_entries(1, 0);

/// When each socket was established, by its address, until `accept()` returns it.
///
/// Limit: as of [`ACCEPTED`]. The kernel evicts none; a wait without room is counted as unmeasured. An entry goes when its socket is
/// destroyed.
#[map]
pub(crate) static WAITING: HashMap<u64, u64> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// The number of transitions of each network namespace, by its inode number.
///
/// Limit: 4,096 namespaces. The kernel evicts none; where the table is full, userspace looks into all namespaces. An entry goes when
/// userspace finds that its namespace is gone.
#[map]
pub(crate) static NAMESPACES: HashMap<u32, u64> = HashMap::with_max_entries(1, 0);

/// A copy of the classic tracepoint's record.
#[map]
pub(crate) static CLASSIC_RECORD: PerCpuArray<Record> = PerCpuArray::with_max_entries(1, 0);
