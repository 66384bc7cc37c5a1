//! The sets of places in shared memory, and the blocks that they are made of.
//!
//! All blocks lie in one part of the server's shared memory, which is asked for when the server starts, as large as it
//! may become. Linux gives memory to a page of it only once something is written there. So what is not used costs
//! addresses and nothing else. Blocks are given out from the lowest free one on. Every few seconds the launcher takes
//! back those that are empty ([`tidy`]), moves those that are in use down if that frees much, and returns the memory
//! above to Linux.
//!
//! Dynamic shared memory would do the same, but getting more of it can raise an error in the middle of a request, each
//! backend has to map it, and it is taken from `/dev/shm`, 64 MB in a container, which parallel queries need too.
//!
//! # Locks
//! The blocks of a set, and the list of them, are changed under the lock of the set. Which blocks are in use is changed
//! under a lock of its own, which is taken last.
#![allow(unsafe_code)]

use std::ffi::c_int;
#[cfg(target_os = "linux")]
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use pgrx::pg_sys;
use supabase_pat_core::places::{self, Block, PLACES};

use super::memory::{BLOCKS_LOCK, SET_LOCKS, Shared, locked};
use crate::pg::settings;
use crate::pg::unguarded;

/// How many places a set may have on average. A search reads one cache line of each of its blocks.
const PLACES_OF_A_SET: usize = 128;
/// How many blocks a set has at most. Tokens are spread so evenly that none comes near it.
const MAX_BLOCKS: usize = 64;
/// How many places a set has at most.
pub const MAX_PLACES: usize = MAX_BLOCKS * PLACES;

/// In place of the number of a block or of a set.
const NONE: u32 = u32::MAX;
/// Memory is returned in whole pages, which have up to 64 KiB where memory is not in huge pages.
const PAGE: usize = 64 * 1024;

/// What is known of all sets. It is followed by the number of the first block of each set, by the number of the set
/// that each block belongs to, and from the next whole page on by the blocks.
#[repr(C)]
pub struct Blocks {
    /// What the ids of tokens are hashed with.
    seed: u64,
    sets: usize,
    blocks: usize,
    in_use: AtomicUsize,
    /// How many sets have no block yet. As many blocks are kept for them.
    empty_sets: AtomicUsize,
    /// No block from this one on is in use, and nothing has been written there since memory was returned.
    end: AtomicUsize,
    /// All blocks before this one are in use.
    full_to: AtomicUsize,
}

fn block_count() -> usize {
    settings::tracked_keys().div_ceil(PLACES)
}

fn set_count() -> usize {
    settings::tracked_keys().div_ceil(PLACES_OF_A_SET)
}

impl Blocks {
    /// Those of a server that starts.
    pub fn new() -> Self {
        Self {
            seed: random_seed(),
            sets: set_count(),
            blocks: block_count(),
            in_use: AtomicUsize::new(0),
            empty_sets: AtomicUsize::new(set_count()),
            end: AtomicUsize::new(0),
            full_to: AtomicUsize::new(0),
        }
    }

    /// How many places there are in blocks that are in use.
    pub fn places_in_use(&self) -> usize {
        self.in_use.load(Relaxed) * PLACES
    }

    /// Whether less than half of the blocks are in use.
    pub fn has_plenty(&self) -> bool {
        self.in_use.load(Relaxed) * 2 < self.blocks
    }

    /// How many places there can be.
    pub fn places(&self) -> usize {
        self.blocks * PLACES
    }

    /// How many places of a set one user's tokens may have for as long as their windows last: three quarters of those
    /// that a set has when all blocks are in use.
    pub fn share_of_a_user(&self) -> usize {
        (self.blocks * PLACES / self.sets * 3 / 4).max(1)
    }
}

/// How many bytes of shared memory come after [`Shared`].
pub fn size() -> usize {
    let numbers = size_of::<AtomicU32>() * (set_count() + block_count());
    numbers + PAGE + block_count() * size_of::<Block>()
}

/// Makes all sets empty, when the server starts.
///
/// # Safety
/// There are [`size`] bytes after `shared`, and nobody else uses them.
pub unsafe fn make_empty(shared: &Shared) {
    for set in 0..shared.blocks.sets {
        first_of(shared, set).store(NONE, Relaxed);
    }
}

fn random_seed() -> u64 {
    let mut bytes = [0; size_of::<u64>()];
    // SAFETY: as many bytes as it is told. Where there is no randomness, nothing but the even spread of tokens that
    // were chosen for it suffers.
    unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) };
    u64::from_ne_bytes(bytes)
}

fn number(shared: &Shared, index: usize) -> &AtomicU32 {
    // SAFETY: the callers ask for the numbers that `size` has counted.
    unsafe {
        &*std::ptr::from_ref(shared)
            .add(1)
            .cast::<AtomicU32>()
            .add(index)
    }
}

/// The number of the first block of a set.
fn first_of(shared: &Shared, set: usize) -> &AtomicU32 {
    debug_assert!(set < shared.blocks.sets);
    number(shared, set)
}

/// The number of the set that a block before [`Blocks::end`] belongs to.
fn set_of_block(shared: &Shared, block: usize) -> &AtomicU32 {
    debug_assert!(block < shared.blocks.blocks);
    number(shared, shared.blocks.sets + block)
}

fn address_of(shared: &Shared, block: usize) -> *mut Block {
    let numbers = shared.blocks.sets + shared.blocks.blocks;
    let start = std::ptr::from_ref(number(shared, numbers))
        .cast_mut()
        .cast::<u8>();
    // SAFETY: `size` has counted a page for this, and all blocks.
    unsafe {
        let first = start.add(start.align_offset(PAGE)).cast::<Block>();
        first.add(block)
    }
}

/// Which set a token belongs to, and the rest of the hash.
#[derive(Clone, Copy)]
pub struct Hashed {
    pub set: usize,
    pub tag: u16,
}

pub fn hash(shared: &Shared, token: &[u8; 16]) -> Hashed {
    // SAFETY: it reads as many bytes as it is told.
    let hash = unsafe {
        let length = size_of_val(token) as c_int;
        unguarded::hash_bytes_extended(token.as_ptr(), length, shared.blocks.seed)
    };
    Hashed {
        set: (hash % shared.blocks.sets as u64) as usize,
        tag: (hash >> 48) as u16,
    }
}

pub fn sets(shared: &Shared) -> usize {
    shared.blocks.sets
}

/// A set of places whose lock is held.
pub struct Set<'a> {
    shared: &'a Shared,
    number: usize,
    blocks: [MaybeUninit<&'a mut Block>; MAX_BLOCKS],
    count: usize,
}

/// Runs `f` on a set, under its lock. `f` must raise no error.
#[inline]
pub fn with_set<R>(shared: &Shared, number: usize, f: impl FnOnce(&mut Set) -> R) -> R {
    locked(number % SET_LOCKS, || {
        let mut set = Set {
            shared,
            number,
            blocks: [const { MaybeUninit::uninit() }; MAX_BLOCKS],
            count: 0,
        };
        let mut next = first_of(shared, number).load(Relaxed);
        while next != NONE && set.count < MAX_BLOCKS {
            // SAFETY: the lock is held, a block belongs to one set, and is once in its list.
            let block = unsafe { &mut *address_of(shared, next as usize) };
            next = block.next;
            set.blocks[set.count].write(block);
            set.count += 1;
        }
        f(&mut set)
    })
}

impl<'a> Set<'a> {
    #[inline]
    pub fn blocks(&mut self) -> &mut [&'a mut Block] {
        // SAFETY: so many of them have been written.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.blocks.as_mut_ptr().cast::<&mut Block>(),
                self.count,
            )
        }
    }

    /// Adds an empty block. False if there is none.
    pub fn grow(&mut self) -> bool {
        if self.count == MAX_BLOCKS {
            return false;
        }
        let Some(new) = allocate(self.shared, self.number, self.count == 0) else {
            return false;
        };
        // SAFETY: nobody else knows of the block, and what lies there is plain data.
        let block = unsafe {
            let address = address_of(self.shared, new as usize);
            address.write(Block::EMPTY);
            &mut *address
        };
        self.set_next(self.count, new);
        self.blocks[self.count].write(block);
        self.count += 1;
        true
    }

    /// Gives back all blocks after the first `count`, which are empty.
    fn shrink(&mut self, count: usize) {
        while self.count > count {
            self.count -= 1;
            let last = self.next(self.count);
            self.set_next(self.count, NONE);
            release(self.shared, last as usize, self.count == 0);
        }
    }

    /// The number of the block at that place of the list.
    fn next(&mut self, place: usize) -> u32 {
        match place.checked_sub(1) {
            None => first_of(self.shared, self.number).load(Relaxed),
            Some(before) => self.blocks()[before].next,
        }
    }

    fn set_next(&mut self, place: usize, block: u32) {
        match place.checked_sub(1) {
            None => first_of(self.shared, self.number).store(block, Relaxed),
            Some(before) => self.blocks()[before].next = block,
        }
    }

    /// Moves one of the blocks to the lowest free one before it. False if there is none.
    fn move_down(&mut self, block: u32) -> bool {
        let Some(place) = (0..self.count).find(|&place| self.next(place) == block) else {
            return false;
        };
        let Some(new) = allocate_before(self.shared, self.number, block as usize) else {
            return false;
        };
        // SAFETY: nobody else knows of the new block, and what lies there is plain data.
        let moved = unsafe {
            let address = address_of(self.shared, new as usize);
            address.write(*self.blocks()[place]);
            &mut *address
        };
        self.set_next(place, new);
        self.blocks[place].write(moved);
        release(self.shared, block as usize, false);
        true
    }
}

/// The number of a free block, which belongs to the set from now on. Blocks are kept for the sets that have none, so
/// that every token finds one.
fn allocate(shared: &Shared, set: usize, is_first: bool) -> Option<u32> {
    let blocks = &shared.blocks;
    locked(BLOCKS_LOCK, || {
        let empty_sets = blocks.empty_sets.load(Relaxed);
        let free = blocks.blocks - blocks.in_use.load(Relaxed);
        if !is_first && free <= empty_sets {
            return None;
        }
        let block = take_lowest(shared, set, blocks.blocks)?;
        if is_first {
            blocks
                .empty_sets
                .store(empty_sets.saturating_sub(1), Relaxed);
        }
        Some(block)
    })
}

fn allocate_before(shared: &Shared, set: usize, before: usize) -> Option<u32> {
    locked(BLOCKS_LOCK, || take_lowest(shared, set, before))
}

/// Takes the lowest free block before `before`. The lock of the blocks is held.
fn take_lowest(shared: &Shared, set: usize, before: usize) -> Option<u32> {
    let blocks = &shared.blocks;
    let end = blocks.end.load(Relaxed);
    let lowest = (blocks.full_to.load(Relaxed)..end)
        .find(|&block| set_of_block(shared, block).load(Relaxed) == NONE)
        .unwrap_or(end);
    blocks.full_to.store(lowest, Relaxed);
    if lowest >= before {
        return None;
    }
    set_of_block(shared, lowest).store(set as u32, Relaxed);
    blocks.full_to.store(lowest + 1, Relaxed);
    blocks.end.store(end.max(lowest + 1), Relaxed);
    blocks.in_use.fetch_add(1, Relaxed);
    Some(lowest as u32)
}

fn release(shared: &Shared, block: usize, was_last: bool) {
    let blocks = &shared.blocks;
    locked(BLOCKS_LOCK, || {
        set_of_block(shared, block).store(NONE, Relaxed);
        blocks.in_use.fetch_sub(1, Relaxed);
        blocks.full_to.fetch_min(block, Relaxed);
        if was_last {
            blocks.empty_sets.fetch_add(1, Relaxed);
        }
    });
}

/// Gives back the memory of places of which nothing is lost, if their tokens have not been used since `idle_since`.
/// Both times are in microseconds since 1970.
pub fn tidy(shared: &Shared, idle_since: i64, now: i64) {
    for number in 0..shared.blocks.sets {
        with_set(shared, number, |set| {
            let needed = places::pack(set.blocks(), idle_since, now);
            set.shrink(needed);
        });
    }
    move_down(shared);
    while return_memory(shared) {}
}

/// Moves the highest blocks down, if less than half of the blocks up to them are in use.
fn move_down(shared: &Shared) {
    /// So few blocks are not worth it.
    const FEW: usize = 64;
    let blocks = &shared.blocks;
    let end = blocks.end.load(Relaxed);
    let in_use = blocks.in_use.load(Relaxed);
    if end <= 2 * in_use + FEW {
        return;
    }
    for block in (in_use..end).rev() {
        let set = set_of_block(shared, block).load(Relaxed);
        // If the block is no longer of this set, it is not in its list.
        if (set as usize) < blocks.sets {
            with_set(shared, set as usize, |set| set.move_down(block as u32));
        }
    }
}

/// Returns some of the memory behind the last block in use. True if there is more.
fn return_memory(shared: &Shared) -> bool {
    /// About a megabyte at a time, since whoever needs a block waits. That is less than a huge page, none of which must
    /// be returned whole: it goes back to a pool in which there may be none when it is needed again, and the server
    /// would crash.
    const MANY: usize = 512;
    const HUGE_PAGE: usize = 2 * 1024 * 1024;
    const _: () = assert!(MANY * size_of::<Block>() + PAGE < HUGE_PAGE);
    let blocks = &shared.blocks;
    locked(BLOCKS_LOCK, || {
        let end = blocks.end.load(Relaxed);
        let lowest = end.saturating_sub(MANY);
        let new_end = (lowest..end)
            .rev()
            .find(|&block| set_of_block(shared, block).load(Relaxed) != NONE)
            .map_or(lowest, |block| block + 1);
        if new_end == end {
            return false;
        }
        blocks.end.store(new_end, Relaxed);
        // The pages of which no part is before the new end. That of the old end goes too: nothing is in use behind it.
        let first = address_of(shared, 0) as usize;
        let address = |block: usize| address_of(shared, block) as usize;
        let from = address(new_end).next_multiple_of(PAGE);
        let whole_pages = (address(blocks.blocks) - first) / PAGE * PAGE;
        let to = address(end).next_multiple_of(PAGE).min(first + whole_pages);
        if from < to {
            give_to_system(from, to - from);
        }
        new_end == lowest && lowest > 0
    })
}

/// Returns memory to Linux. What cannot be returned, such as a part of a huge page, stays, and is used again.
#[cfg(target_os = "linux")]
fn give_to_system(address: usize, length: usize) {
    unsafe extern "C" {
        fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
    }
    const MADV_REMOVE: c_int = 9;
    // SAFETY: whole pages of blocks that are free, under the lock of the blocks. A block is written before it is read.
    unsafe { madvise(address as *mut c_void, length, MADV_REMOVE) };
}

/// Elsewhere memory stays, and is used again.
#[cfg(not(target_os = "linux"))]
fn give_to_system(_: usize, _: usize) {}
