//! The maps. A hash table has room for 1 entry here; the loader makes it larger where it is used (`source/ebpf/memory.rs` of tcpwatch).

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, ProgramArray, RingBuf};
use tcpwatch_common::filter::PORT_WORDS;
use tcpwatch_common::histogram::{HistogramKey, Lengths};
use tcpwatch_common::ledger::{COPIES, Pass};
use tcpwatch_common::names::STAGES;
use tcpwatch_common::owner::{Listener, Name};
use tcpwatch_common::{Ledger, Owner};

use crate::conn_info::StateAndInfo;
use crate::first_copy::FirstCopy;
use crate::hook::classic::Record;
use crate::run::Runs;
use crate::sock_state::SockState;

/// Entries of a jump table.
const STAGES_COUNT: u32 = STAGES.len() as u32;

/// The records. The loader sets the size (`--ring-size`), and a page where none are needed.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// User stacks. The loader sets the size where they are wanted.
#[map]
pub(crate) static STACKS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// When the reader of stacks was last called (`bpf_ktime_get_ns`).
#[map]
pub(crate) static CALLED: Array<u64> = Array::with_max_entries(1, 0);

/// The [`Ledger`]s, [`tcpwatch_common::ledger::BANKS`] a CPU; the loader sets how many. Not a per-CPU array, for userspace maps this one into its memory: a read
/// by `bpf(2)` would keep classic tracepoint programs from running on its CPU meanwhile (`bpf_disable_instrumentation`).
#[map]
pub(crate) static LEDGER: Array<Ledger> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What iterator passes counted: two banks of marks, and one for plain counts. One thread at a time runs a pass.
#[map]
pub(crate) static PASSES: Array<Pass> = Array::with_max_entries(3, 0);

/// The [`tcpwatch_common::ledger::Count`] that is kept now.
#[map]
pub(crate) static COUNT: Array<u32> = Array::with_max_entries(1, 0);

/// Three port sets of 65,536 bits: local, remote, either.
#[map]
pub(crate) static PORTS: Array<u64> = Array::with_max_entries(3 * PORT_WORDS, 0);

/// What the programs of one run hand on to each other, by copy.
#[map]
pub(crate) static RUNS: PerCpuArray<Runs> = PerCpuArray::with_max_entries(COPIES, 0);

/// What the second copy knows of the first.
#[map]
pub(crate) static FIRST_COPY: PerCpuArray<FirstCopy> = PerCpuArray::with_max_entries(1, 0);

/// The last event of each socket, by the hash of its address: the address shifted left by 8 bits, `from << 4 | to` below. The loader
/// makes it larger where it is used.
#[map]
pub(crate) static LAST_EVENTS: Array<u64> = Array::with_max_entries(1, 0);

/// 1 while a reset changes how an end is counted. Before Linux 6.1 another reset may interrupt it, on the same CPU.
#[map]
pub(crate) static AMENDING: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// The programs of each hook and copy, by their place in [`tcpwatch_common::names::STAGES`]. The table of the second copy also has the
/// entry program of the first: nobody calls it from there, but its count of runs is found by it.
#[map]
pub(crate) static STAGES_TYPED: ProgramArray = ProgramArray::with_max_entries(STAGES_COUNT, 0);
#[map]
pub(crate) static STAGES_TYPED2: ProgramArray = ProgramArray::with_max_entries(STAGES_COUNT + 1, 0);
#[map]
pub(crate) static STAGES_CLASSIC: ProgramArray = ProgramArray::with_max_entries(STAGES_COUNT, 0);

/// The state of each socket, in the socket's own storage: nothing to size, nothing to evict, freed with the socket.
#[btf_map]
pub(crate) static STATES: SkStorage<SockState> = SkStorage::new();

/// The state of each socket by its address, where sockets have no storage for us.
#[map]
pub(crate) static STATES_BY_ADDR: HashMap<u64, SockState> = HashMap::with_max_entries(1, 0);

/// State and info of each socket, in place of [`STATES`] where infos are needed.
#[btf_map]
pub(crate) static INFOS: SkStorage<StateAndInfo> = SkStorage::new();

/// The same, in place of [`STATES_BY_ADDR`].
#[map]
pub(crate) static INFOS_BY_ADDR: HashMap<u64, StateAndInfo> = HashMap::with_max_entries(1, 0);

/// The process that accepted a socket, by its address, until its next transition or its death: a program on a system call cannot
/// reach the socket's own storage.
#[map]
pub(crate) static ACCEPTED: HashMap<u64, Owner> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// The listeners, by namespace and port. The children of a listener that had to make room have no owner until they are accepted.
#[map]
pub(crate) static LISTENERS: LruHashMap<u64, Listener> = LruHashMap::with_max_entries(1, 0);

/// Names of the processes that listen, kept while they change: a child is born long after its listener.
#[map]
pub(crate) static COMMS: LruHashMap<u32, Name> = LruHashMap::with_max_entries(1, 0);

/// Histograms. What finds no room under its own group is counted together.
#[map]
pub(crate) static HISTOGRAMS: PerCpuHashMap<HistogramKey, Lengths> =
    PerCpuHashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// When each socket was established, by its address, until `accept()` returns it.
#[map]
pub(crate) static WAITING: HashMap<u64, u64> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// The classic tracepoint's record, copied.
#[map]
pub(crate) static CLASSIC_RECORD: PerCpuArray<Record> = PerCpuArray::with_max_entries(1, 0);
