//! How requests wait in shared memory for leases, and how they come by them: see [`supabase_pat_core::lease`].
//!
//! A request that needs a lease notes that in the place of its token, wakes the launcher, and waits: in its transaction,
//! so that it can be cancelled, and without a lock. Every now and then it wakes the launcher again, which may be another
//! one by then, or may have been unable to start a writer. The writer gives all tokens of a database that are waiting
//! their leases in one batch.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant as Monotonic};

use pgrx::pg_sys;
use supabase_pat_core::lease::{Counters, Lease};
use supabase_pat_core::places::{self, Demanded};
use supabase_pat_core::rate::Which;
use uuid::Uuid;

use super::NotAdmitted;
use super::blocks::{self, with_set};
use super::memory::{Shared, shared, this_database};
use super::places::find;
use crate::pg::clock::Instant;
use crate::pg::unguarded;

/// How long a request waits for a lease.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What requests and writers tell each other.
#[repr(C)]
pub struct Leases {
    /// Whether a request has begun to wait since the launcher last looked.
    are_asked_for: AtomicBool,
    /// That leases have been given.
    given: MaybeUninit<pg_sys::ConditionVariable>,
}

impl Leases {
    pub const fn none() -> Self {
        Self {
            are_asked_for: AtomicBool::new(false),
            given: MaybeUninit::uninit(),
        }
    }

    /// Called once, when the server starts.
    pub fn make_ready(&mut self) {
        // SAFETY: nobody else uses the memory yet.
        unsafe { pg_sys::ConditionVariableInit(self.given.as_mut_ptr()) };
    }

    /// For Postgres, which changes it under a lock of its own.
    fn given(&self) -> *mut pg_sys::ConditionVariable {
        self.given.as_ptr().cast_mut()
    }
}

/// Runs `admit`, and again each time that leases have been given, until the request needs none.
///
/// # Errors
/// Those of `admit`; [`NotAdmitted::OnStandby`].
pub fn admit(
    shared: &Shared,
    admit: impl Fn() -> Result<Counters, NotAdmitted>,
) -> Result<Counters, NotAdmitted> {
    let admitted = admit();
    if !matches!(admitted, Err(NotAdmitted::NoLease)) {
        return admitted;
    }
    // SAFETY: it only reads.
    if unsafe { unguarded::RecoveryInProgress() } {
        return Err(NotAdmitted::OnStandby);
    }
    wait(shared, admit)
}

#[cold]
fn wait(
    shared: &Shared,
    admit: impl Fn() -> Result<Counters, NotAdmitted>,
) -> Result<Counters, NotAdmitted> {
    /// How often the launcher is told again.
    const MILLISECONDS: i64 = 100;

    /// Also if an error gets past it.
    struct Waiting;
    impl Drop for Waiting {
        fn drop(&mut self) {
            // SAFETY: Postgres remembers what this process waits for, if anything.
            unsafe { pg_sys::ConditionVariableCancelSleep() };
        }
    }

    let began = Monotonic::now();
    let given = shared.leases.given();
    // SAFETY: `make_ready` has made it.
    unsafe { pg_sys::ConditionVariablePrepareToSleep(given) };
    let _waiting = Waiting;
    loop {
        // Whatever is given from here on ends the sleep below.
        let admitted = admit();
        if !matches!(admitted, Err(NotAdmitted::NoLease)) || began.elapsed() >= PATIENCE {
            return admitted;
        }
        shared.leases.are_asked_for.store(true, Relaxed);
        wake_launcher(shared);
        // SAFETY: as above. Where the request is cancelled, it raises an error.
        unsafe {
            pg_sys::ConditionVariableTimedSleep(given, MILLISECONDS, pg_sys::PG_WAIT_EXTENSION);
        }
    }
}

fn wake_launcher(shared: &Shared) {
    let process = shared.worker.load(Relaxed);
    // SAFETY: Postgres returns null for a process that is none of its own. If another one has taken its place since, that
    // one wakes up and goes to sleep again.
    unsafe {
        let launcher = pg_sys::BackendPidGetProc(process);
        if process != 0 && !launcher.is_null() {
            pg_sys::SetLatch(&raw mut (*launcher).procLatch);
        }
    }
}

/// Whether a request has begun to wait since [`databases_waiting`] was last called.
pub fn are_asked_for() -> bool {
    shared().is_some_and(|shared| shared.leases.are_asked_for.load(Relaxed))
}

/// The databases in which a token waits for a lease.
pub fn databases_waiting() -> Vec<pg_sys::Oid> {
    let Some(shared) = shared() else {
        return Vec::new();
    };
    shared.leases.are_asked_for.store(false, Relaxed);
    databases(shared)
        .into_iter()
        .map(pg_sys::Oid::from)
        .collect()
}

/// As [`databases_waiting`], for a round in which all is written.
pub fn databases(shared: &Shared) -> Vec<u32> {
    let mut databases = Vec::new();
    for number in 0..blocks::sets(shared) {
        // There is room for all of the set, so that nothing is allocated under the lock.
        databases.reserve(blocks::MAX_PLACES);
        with_set(shared, number, |set| {
            databases.extend(places::waiting(set.blocks()).map(|place| place.database));
        });
        databases.sort_unstable();
        databases.dedup();
    }
    databases
}

/// About `max` leases that tokens of this database are to be given, from the set of that number on, and the set to go on
/// with, if there are more.
pub fn demanded(only_waiting: bool, from_set: usize, max: usize) -> (Vec<Demanded>, Option<usize>) {
    let Some(shared) = shared() else {
        return (Vec::new(), None);
    };
    let database = this_database();
    let mut demanded = Vec::with_capacity(max + Which::BOTH.len() * blocks::MAX_PLACES);
    for number in from_set..blocks::sets(shared) {
        if demanded.len() >= max {
            return (demanded, Some(number));
        }
        // There is room for all of them, so that nothing is allocated under the lock.
        with_set(shared, number, |set| {
            let now = Instant::now().unix_micros();
            places::demanded(set.blocks(), database, only_waiting, now, |lease| {
                demanded.push(lease);
            });
        });
    }
    (demanded, None)
}

/// A lease that the table has, and whose it is.
#[derive(Clone, Copy)]
pub struct Given {
    pub token: Uuid,
    pub which: Which,
    pub lease: Lease,
}

/// Gives tokens the leases that have been written for them.
pub fn give(leases: &[Given]) {
    let Some(shared) = shared() else {
        return;
    };
    for given in leases {
        let (number, key) = find(shared, given.token);
        with_set(shared, number, |set| {
            let now = Instant::now().unix_micros();
            places::give(set.blocks(), &key, given.which, &given.lease, now);
        });
    }
    // SAFETY: `make_ready` has made it.
    unsafe { pg_sys::ConditionVariableBroadcast(shared.leases.given()) };
}
