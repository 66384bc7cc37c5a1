//! Rust's memory, and what happens when there is none left.
//!
//! When Postgres itself runs out of memory, it raises an error and the session goes on. Rust aborts the process, and
//! then Postgres must assume that shared memory is damaged, ends all sessions and restarts. So anybody who may pass a
//! long text to a function could end all sessions of a server whose memory is limited (`vm.overcommit_memory = 2`,
//! `ulimit -v`). An allocator cannot raise an error, since unwinding out of it is undefined behaviour. But it can end
//! its own session, as Postgres ends one: Postgres releases the locks and rolls back the transaction, and the other
//! sessions go on.
//!
//! Nor does an error of Postgres get through Rust without memory: pgrx catches it and copies it, which fails with
//! another one, and so on until Postgres panics. So a session also ends at an error that there is no room for
//! ([`with_room`]).
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_char, c_int, c_void};

use pgrx::{PgSqlErrorCode, pg_sys};

struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: these functions pass on what the system's allocator returns; where that is null, they do not return.
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

/// What must be left, in bytes, so that an error can be copied: for a few short texts Postgres asks for 1 MiB at most.
const ROOM: usize = 2 * 1024 * 1024;

/// Runs `f`. An error of Postgres's in it ends the session, if there is no room left to carry it out of it.
pub fn with_room<T>(f: impl FnOnce() -> T) -> T {
    struct Restore(*mut pg_sys::ErrorContextCallback);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: what was there before lives longer than this.
            unsafe { pg_sys::error_context_stack = self.0 };
        }
    }
    // SAFETY: the callback stays where it is until `Restore` takes it out again, also where a panic gets past it. An
    // error that jumps over it leads to where Postgres has kept what to restore.
    unsafe {
        let mut callback = pg_sys::ErrorContextCallback {
            previous: pg_sys::error_context_stack,
            callback: Some(end_session_without_room),
            arg: std::ptr::null_mut(),
        };
        pg_sys::error_context_stack = &mut callback;
        let _restore = Restore(callback.previous);
        f()
    }
}

/// Postgres calls this for each error, before anybody catches it.
unsafe extern "C-unwind" fn end_session_without_room(_: *mut c_void) {
    // SAFETY: of the layout that it was allocated with. Without callbacks, the end of the session does not come here.
    unsafe {
        let layout = Layout::from_size_align_unchecked(ROOM, 1);
        // So that the compiler does not take it for granted.
        let room = std::hint::black_box(System.alloc(layout));
        if room.is_null() {
            pg_sys::error_context_stack = std::ptr::null_mut();
            end_session();
        }
        System.dealloc(room, layout);
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
    // SAFETY: this is what `ereport(FATAL, …)` expands to, with constant texts. Postgres reserves memory for it. It
    // does not return: it does what is to be done at the end of every session and ends the process. So no frame of ours
    // is jumped over, and no guard of pgrx is needed.
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
