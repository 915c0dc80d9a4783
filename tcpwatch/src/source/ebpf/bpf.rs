//! Commands of bpf(2) that aya has no function for.

use std::ffi::{c_char, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use anyhow::{Context, Result};
use bytemuck::Pod;

/// Commands (`enum bpf_cmd`, include/uapi/linux/bpf.h).
const BPF_MAP_CREATE: c_long = 0;
const BPF_MAP_UPDATE_ELEM: c_long = 2;
const BPF_PROG_LOAD: c_long = 5;
const BPF_OBJ_GET_INFO_BY_FD: c_long = 15;
const BPF_MAP_LOOKUP_BATCH: c_long = 24;
const BPF_MAP_DELETE_BATCH: c_long = 27;
/// `BPF_MAP_TYPE_HASH`.
const HASH: u32 = 1;
/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_ARRAY_OF_MAPS`.
const ARRAY_OF_MAPS: u32 = 12;

/// `BPF_F_NO_PREALLOC`: the kernel allocates the entries of a hash table on demand.
pub(super) const BPF_F_NO_PREALLOC: u32 = 1;
/// `BPF_PROG_TYPE_PERF_EVENT`.
const PERF_EVENT: u32 = 7;

/// Entries that one call reads, unless a bucket of the hash table has more.
const BATCH: usize = 4096;

/// The start of `union bpf_attr`, for [`BPF_MAP_CREATE`].
#[repr(C)]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: i32,
}

/// The same, for [`BPF_PROG_LOAD`].
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: *const [u8; 8],
    license: *const c_char,
}

/// The same, for [`BPF_MAP_UPDATE_ELEM`].
#[repr(C)]
struct Update {
    map: i32,
    reserved: u32,
    key: *const u32,
    value: *const i32,
    flags: u64,
}

/// The same, for [`BPF_OBJ_GET_INFO_BY_FD`].
#[repr(C)]
struct Info {
    object: i32,
    length: u32,
    words: *mut u64,
}

/// Words of `struct bpf_prog_info` up to `recursion_misses`, which is the last of them.
const INFO_WORDS: usize = 27;

/// The same, for commands on many entries.
#[repr(C)]
struct Batch {
    from: *const u32,
    until: *mut u32,
    keys: *mut u8,
    values: *mut u8,
    count: u32,
    map: i32,
    flags: [u64; 2],
}

/// Calls bpf(2).
///
/// # Safety
/// `T` has the layout that the command expects, and its pointers lead to as much memory as the command reads and writes.
unsafe fn bpf<T>(command: c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the caller guarantees this.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(attributes), size_of::<T>()) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs of `program` that the kernel skipped (`recursion_misses`); `None` if it does not count them (before Linux 5.12).
///
/// It is read each time that records are, so by one system call rather than from the text of /proc/self/fdinfo, which a container may
/// hide. Unlike a read of a map, it keeps no program from running (`bpf_obj_get_info_by_fd` does not disable instrumentation).
///
/// # Errors
/// The kernel refuses.
pub(super) fn skipped_runs(program: BorrowedFd<'_>) -> Result<Option<u64>> {
    let mut words = [0; INFO_WORDS];
    let length = u32::try_from(size_of_val(&words))?;
    let mut info = Info {
        object: program.as_raw_fd(),
        length,
        words: words.as_mut_ptr(),
    };
    // SAFETY: the kernel writes `length` bytes at most, which `words` has, and nothing elsewhere: all pointers in `words` are null.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut info) }.context("cannot read how many runs the kernel skipped")?;
    // An older kernel has a shorter structure.
    Ok((info.length == length).then_some(words[INFO_WORDS - 1]))
}

/// Reads all entries of the hash table `map`. It reads an entry exactly once if nobody inserts or removes it meanwhile.
///
/// # Errors
/// The kernel refuses.
pub(super) fn entries<K: Pod, V: Pod>(map: BorrowedFd<'_>) -> Result<Vec<(K, V)>> {
    let mut all = Vec::new();
    let (mut keys, mut values) = (vec![K::zeroed(); BATCH], vec![V::zeroed(); BATCH]);
    let (mut from, mut until) = (None, 0u32);
    loop {
        let mut batch = Batch {
            from: from.as_ref().map_or(ptr::null(), ptr::from_ref),
            until: &raw mut until,
            keys: keys.as_mut_ptr().cast(),
            values: values.as_mut_ptr().cast(),
            count: u32::try_from(keys.len())?,
            map: map.as_raw_fd(),
            flags: [0; 2],
        };
        // SAFETY: there is room for `count` keys and values, and the position in a hash table has four bytes.
        let read = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut batch) };
        let error = read.err().and_then(|error| error.raw_os_error());
        match error {
            None | Some(libc::ENOENT) => {
                let count = usize::try_from(batch.count)?.min(keys.len());
                all.extend(keys[..count].iter().copied().zip(values[..count].iter().copied()));
                if error.is_some() {
                    return Ok(all);
                }
                from = Some(until);
            }
            Some(libc::ENOSPC) => {
                let more = keys.len() * 2;
                (keys, values) = (vec![K::zeroed(); more], vec![V::zeroed(); more]);
            }
            Some(other) => {
                return Err(io::Error::from_raw_os_error(other)).context("`bpf_map_lookup_batch` failed");
            }
        }
    }
}

/// Removes the entries of `keys` from the hash table `map`. All of them must exist.
///
/// # Errors
/// The kernel refuses.
pub(super) fn remove<K: Pod>(map: BorrowedFd<'_>, keys: &mut [K]) -> Result<()> {
    let mut batch = Batch {
        from: ptr::null(),
        until: ptr::null_mut(),
        keys: keys.as_mut_ptr().cast(),
        values: ptr::null_mut(),
        count: u32::try_from(keys.len())?,
        map: map.as_raw_fd(),
        flags: [0; 2],
    };
    // SAFETY: there are `count` keys.
    unsafe { bpf(BPF_MAP_DELETE_BATCH, &mut batch) }.context("`bpf_map_delete_batch` failed")?;
    Ok(())
}

/// Waits for running BPF programs. A write to a map of maps returns when all programs that were running have ended
/// (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c).
pub(super) struct Barrier {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl Barrier {
    /// Creates a map of maps.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn new() -> Result<Self> {
        let inner = one_entry(ARRAY, 0, 0)?;
        Ok(Self {
            outer: one_entry(ARRAY_OF_MAPS, 0, inner.as_raw_fd())?,
            inner,
        })
    }

    /// Returns when all programs that were running at the call have ended.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn wait(&self) -> Result<()> {
        let (key, value) = (0, self.inner.as_raw_fd());
        let mut update = Update {
            map: self.outer.as_raw_fd(),
            reserved: 0,
            key: &raw const key,
            value: &raw const value,
            flags: 0,
        };
        // SAFETY: key and value have four bytes, and live until the call returns.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut update) }.context("`bpf_map_update_elem` failed")?;
        Ok(())
    }
}

/// Whether programs on tracepoints may use hash tables whose entries are allocated on demand.
///
/// Before Linux 6.1 this can deadlock, so the kernel logs a warning for them, once, and refuses programs on perf events
/// (`check_map_prog_compatibility` in kernel/bpf/verifier.c). So this loads one of the latter.
///
/// # Errors
/// The kernel refuses for another reason.
pub(super) fn allows_entries_on_demand() -> Result<bool> {
    let map = one_entry(HASH, BPF_F_NO_PREALLOC, 0)?;
    let [a, b, c, d] = map.as_raw_fd().to_ne_bytes();
    // r1 = map, in two instructions; r0 = 0; return r0
    let code = [
        [0x18, 0x11, 0, 0, a, b, c, d],
        [0; 8],
        [0xb7, 0, 0, 0, 0, 0, 0, 0],
        [0x95, 0, 0, 0, 0, 0, 0, 0],
    ];
    let mut load = Load {
        kind: PERF_EVENT,
        instructions: 4,
        code: code.as_ptr(),
        license: c"GPL".as_ptr(),
    };
    // SAFETY: the code has four instructions, and lives until the call returns, as the licence does.
    match unsafe { bpf(BPF_PROG_LOAD, &mut load) } {
        Ok(program) => {
            // SAFETY: the kernel has just opened this descriptor.
            drop(unsafe { OwnedFd::from_raw_fd(program) });
            Ok(true)
        }
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error).context("`bpf_prog_load` failed"),
    }
}

/// Creates a map with one entry of four bytes.
fn one_entry(kind: u32, flags: u32, inner_map: i32) -> Result<OwnedFd> {
    let mut create = Create {
        kind,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        flags,
        inner_map,
    };
    // SAFETY: these are the attributes of a map.
    let map = unsafe { bpf(BPF_MAP_CREATE, &mut create) }.context("`bpf_map_create` failed")?;
    // SAFETY: the kernel has just opened this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(map) })
}
