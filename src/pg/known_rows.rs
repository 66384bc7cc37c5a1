//! Where rows were found, so that to look one up again takes no index.
//!
//! # What is kept, under what key, and what ends it
//! - **Key.** The table, and the first 16 bytes of the value that the row was looked up by.
//! - **Value.** A place: which buffer, page and line. It is a guess, and no part of an answer is kept. Whoever looks a
//!   row up reads what stands in that place now, on a snapshot of now, and goes to the index unless that is a row that
//!   the snapshot sees, with the value that is looked for ([`crate::pg::scan`]). So a revocation that has committed is
//!   seen, and also a row that has moved, been deleted, or lies in a buffer that holds something else by now.
//! - **End.** None is needed. Each set of [`WAYS`] places forgets the oldest.
//!
//! It saves the descent of a btree, its lock, and the making of a scan: 10,600 of 16,000 instructions a row.
//! 4,096 places take 128 KiB, in backends that look rows up.
#![allow(unsafe_code)]

use pgrx::pg_sys::{BlockNumber, Buffer, InvalidOid, OffsetNumber, Oid};

use crate::pg::Local;

const SETS: usize = 1024;
const WAYS: usize = 4;

/// What a row is known by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub table: Oid,
    pub key: [u8; 16],
}

/// Where the row was.
#[derive(Clone, Copy)]
pub struct Place {
    pub buffer: Buffer,
    pub block: BlockNumber,
    /// That of the first version, from which Postgres finds those that an update has left on the same page.
    pub line: OffsetNumber,
}

type Entry = (Known, Place);

const EMPTY: Entry = (
    Known {
        table: InvalidOid,
        key: [0; 16],
    },
    Place {
        buffer: 0,
        block: 0,
        line: 0,
    },
);

static SETS_OF_PLACES: Local<Vec<[Entry; WAYS]>> = Local::new(Vec::new());

impl Known {
    fn set(&self) -> usize {
        let [low, high] = [0, 8].map(|at| {
            let bytes = self.key[at..].first_chunk().copied();
            u64::from_le_bytes(bytes.unwrap_or_default())
        });
        // Ids may be made in any way: multiplying spreads what they differ in over the highest bits.
        let spread = (low ^ high).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (spread >> 54) as usize % SETS
    }

    pub fn place(&self) -> Option<Place> {
        // SAFETY: nothing is called while the reference is in use.
        let set = unsafe { SETS_OF_PLACES.get() }.get(self.set())?;
        let found = set.iter().find(|(known, _)| known == self)?;
        Some(found.1)
    }

    pub fn is_at(self, place: Place) {
        // SAFETY: nothing is called while the reference is in use, but the allocator, which does not come back here.
        let sets = unsafe { SETS_OF_PLACES.get() };
        if sets.is_empty() {
            sets.resize(SETS, [EMPTY; WAYS]);
        }
        let set = &mut sets[self.set()];
        let oldest = set.iter().position(|(known, _)| *known == self);
        set[..=oldest.unwrap_or(WAYS - 1)].rotate_right(1);
        set[0] = (self, place);
    }
}
