//! Rust's memory, and what happens when there is none left.
//!
//! Postgres raises an error then, and the session goes on. Rust aborts the process, and Postgres, which must
//! think that shared memory is damaged, throws everybody out and begins anew: so whoever may pass a long text to
//! a function could end all sessions of a server whose memory is limited (`vm.overcommit_memory = 2`, `ulimit -v`).
//! An allocator cannot raise an error, since unwinding out of it is undefined. But it can end the session
//! alone, as Postgres ends one: locks are released, the transaction is rolled back, the others go on.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_char, c_int};

use pgrx::{PgSqlErrorCode, pg_sys};

struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: System's, which returns no null pointer to its callers.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        there_is(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        there_is(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        there_is(unsafe { System.realloc(old, layout, size) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[inline(always)]
fn there_is(memory: *mut u8) -> *mut u8 {
    match memory.is_null() {
        true => end_session(),
        false => memory,
    }
}

#[cold]
#[inline(never)]
fn end_session() -> ! {
    unsafe extern "C-unwind" {
        fn errstart(level: c_int, domain: *const c_char) -> bool;
        fn errcode(sqlstate: c_int) -> c_int;
        fn errmsg(format: *const c_char, ...) -> c_int;
        fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
    }
    // SAFETY: what `ereport(FATAL, …)` expands to. Postgres keeps memory for it, and it does not come back: it
    // ends the process after what is to be done at the end of every session. No guard of pgrx's is needed,
    // since nothing is jumped over.
    unsafe {
        if errstart(pg_sys::FATAL as c_int, std::ptr::null()) {
            errcode(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as c_int);
            errmsg(c"out of memory".as_ptr());
            errfinish(
                c"memory.rs".as_ptr(),
                line!() as c_int,
                c"end_session".as_ptr(),
            );
        }
    }
    std::process::abort()
}
