//! Where the counts are in shared memory, and the locks that they are changed under.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64};

use pgrx::pg_sys;

use super::blocks::{self, Blocks};
use super::leases::Leases;
use super::refusals::{REFUSALS, Refused};
use super::requests::Requests;
use crate::pg::Local;

/// How many databases the requests are counted for.
const DATABASES: usize = 256;
const TRANCHE: &CStr = c"supabase_pat_usage";

/// How many locks the sets of places share. They are the first ones.
pub const SET_LOCKS: usize = 128;
const REFUSALS_LOCK: usize = SET_LOCKS;
/// For which blocks of places are in use.
pub const BLOCKS_LOCK: usize = SET_LOCKS + 1;
/// For which databases requests are counted.
pub const REQUESTS_LOCK: usize = SET_LOCKS + 2;
const LOCK_COUNT: usize = SET_LOCKS + 3;

/// The head of the shared memory. The places of the tokens follow it.
#[repr(C)]
pub struct Shared {
    pub requests: [Requests; DATABASES],
    pub blocks: Blocks,
    /// Uses for which there was no place.
    pub lost: AtomicU64,
    pub worker: AtomicI32,
    pub flushed_at: AtomicI64,
    pub leases: Leases,
    pub refusals: [Refused; REFUSALS],
}

static SHARED: Local<*mut Shared> = Local::new(std::ptr::null_mut());
static LOCKS: Local<*mut pg_sys::LWLockPadded> = Local::new(std::ptr::null_mut());
static NEXT_REQUEST_HOOK: Local<pg_sys::shmem_request_hook_type> = Local::new(None);
static NEXT_STARTUP_HOOK: Local<pg_sys::shmem_startup_hook_type> = Local::new(None);

/// Asks Postgres for the shared memory. To be called while the library is being preloaded.
pub fn init() {
    // SAFETY: called once; the hooks before ours are called by ours.
    unsafe {
        *NEXT_REQUEST_HOOK.get() = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        *NEXT_STARTUP_HOOK.get() = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(startup);
    }
}

fn size() -> usize {
    size_of::<Shared>() + blocks::size()
}

unsafe extern "C-unwind" fn request() {
    // SAFETY: Postgres calls this when shared memory is asked for.
    unsafe {
        if let Some(next) = *NEXT_REQUEST_HOOK.get() {
            next();
        }
        pg_sys::RequestAddinShmemSpace(size());
        pg_sys::RequestNamedLWLockTranche(TRANCHE.as_ptr(), LOCK_COUNT as i32);
    }
}

unsafe extern "C-unwind" fn startup() {
    // SAFETY: Postgres calls this when shared memory is there, which is as large as was asked for.
    unsafe {
        if let Some(next) = *NEXT_STARTUP_HOOK.get() {
            next();
        }
        // AddinShmemInitLock, a macro in lwlocknames.h.
        let init_lock = &raw mut (*pg_sys::MainLWLockArray.add(21)).lock;
        pg_sys::LWLockAcquire(init_lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let mut found = false;
        let shared: *mut Shared =
            pg_sys::ShmemInitStruct(TRANCHE.as_ptr(), size(), &mut found).cast();
        if !found {
            shared.write(Shared {
                requests: [const { Requests::none() }; DATABASES],
                blocks: Blocks::new(),
                lost: AtomicU64::new(0),
                worker: AtomicI32::new(0),
                flushed_at: AtomicI64::new(0),
                leases: Leases::none(),
                refusals: [Refused::NONE; REFUSALS],
            });
            (*shared).leases.make_ready();
            blocks::make_empty(&*shared);
        }
        *SHARED.get() = shared;
        *LOCKS.get() = pg_sys::GetNamedLWLockTranche(TRANCHE.as_ptr());
        pg_sys::LWLockRelease(init_lock);
    }
}

/// `None` without preloading.
pub fn shared() -> Option<&'static Shared> {
    // SAFETY: the memory stays as long as the server. Through this reference only atomics are written.
    unsafe { SHARED.get().as_ref() }
}

/// Runs `f` on the refusals, under their lock. `f` must raise no error.
pub fn with_refusals<R>(shared: &Shared, f: impl FnOnce(&mut [Refused]) -> R) -> R {
    locked(REFUSALS_LOCK, || {
        // SAFETY: the lock is held, so there is no other reference.
        let refusals = unsafe { (&raw const shared.refusals).cast_mut().as_mut() };
        f(refusals.map_or(&mut [], |all| &mut all[..]))
    })
}

/// Runs `f` under the lock of that number. `f` must raise no error.
#[inline]
pub fn locked<R>(lock: usize, f: impl FnOnce() -> R) -> R {
    // SAFETY: the tranche has LOCK_COUNT of them. Interrupts wait while a lock is held, and `f` raises
    // no error; if the process dies, Postgres begins anew with all shared memory.
    unsafe {
        let lock = &raw mut (*(*LOCKS.get()).add(lock)).lock;
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let result = f();
        pg_sys::LWLockRelease(lock);
        result
    }
}

/// The id of this database. In shared memory, zero stands for none.
pub fn this_database() -> u32 {
    // SAFETY: set before any query runs.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

/// In the place of the id of a token or a user.
pub const NOBODY: [u8; 16] = [0; 16];

/// An address as IPv6, and whether there is one.
pub type Address = Option<[u8; 16]>;

/// An address as IPv6.
pub fn to_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The address that [`to_bytes`] was given.
pub fn from_bytes(bytes: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}
