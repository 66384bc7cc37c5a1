//! Whether a setting that did not exist may have been created since.
//!
//! What creates one (SET, `set_config`, a function's own settings, an extension) tells nobody, and to look for one by
//! its name takes twice as long as the rest of a row in a scan. So the settings are counted, which takes two
//! nanoseconds. Postgres removes settings only when a library is loaded that reserves their prefix. A statement in which
//! that happens, and in which just as many settings are created, among them the first claims of the connection, does not
//! hear of these until its end. Whoever makes it so runs SQL, and could have set any claims.
//!
//! Postgres 15 says how many there are. Later versions keep them in a hash table, tell of its size, and do not tell
//! where it is. But each private hash table lies in a memory context whose `ident` is the name that the table was made
//! with, and Postgres keeps that name right behind the table's head. How large a head is, a table of our own tells.
//! What is found has to have as many entries as there are settings; else each look-up is by name.
#![allow(unsafe_code)]

/// Never to be taken for the same as before.
pub const UNKNOWN: u64 = 0;

#[cfg(feature = "pg15")]
mod how {
    use crate::pg::unguarded;

    pub fn find_table() {}

    /// As long as this stays the same, no setting has been created.
    #[inline(always)]
    pub fn seen() -> u64 {
        // SAFETY: it only reads.
        unsafe { unguarded::GetNumConfigOptions() as u64 }
    }
}

#[cfg(not(feature = "pg15"))]
mod how {
    use std::ffi::{CStr, c_int};

    use pgrx::pg_sys;

    use super::UNKNOWN;
    use crate::pg::{Local, unguarded};

    /// The table of all settings. Null if it was not found.
    static TABLE: Local<*mut pg_sys::HTAB> = Local::new(std::ptr::null_mut());

    /// As long as this stays the same, no setting has been created.
    #[inline(always)]
    pub fn seen() -> u64 {
        // SAFETY: the reference is gone at the end of the line, and the table stays as long as the process.
        unsafe {
            let table = *TABLE.get();
            match table.is_null() {
                true => UNKNOWN,
                false => unguarded::hash_get_num_entries(table) as u64,
            }
        }
    }

    /// To be called once. A process that is forked finds the table in the same place.
    pub fn find_table() {
        // SAFETY: contexts are read while nothing changes them.
        unsafe {
            let Some(name) = name_in(pg_sys::TopMemoryContext, c"GUC hash table") else {
                return;
            };
            let Some(head) = size_of_a_head() else {
                return;
            };
            let table = name.byte_sub(head).cast_mut().cast::<pg_sys::HTAB>();
            let mut count: c_int = 0;
            pg_sys::pfree(pg_sys::get_guc_variables(&mut count).cast());
            if unguarded::hash_get_num_entries(table) as c_int == count {
                *TABLE.get() = table;
            }
        }
    }

    /// How many bytes before its name a table begins.
    unsafe fn size_of_a_head() -> Option<usize> {
        const NAME: &CStr = c"supabase_pat measure";
        let flags = pg_sys::HASH_ELEM | pg_sys::HASH_BLOBS | pg_sys::HASH_CONTEXT;
        // SAFETY: a table that is made as Postgres makes that of the settings, and is removed again.
        unsafe {
            let how = pg_sys::HASHCTL {
                keysize: size_of::<u32>(),
                entrysize: size_of::<u32>(),
                hcxt: pg_sys::CurrentMemoryContext,
                ..Default::default()
            };
            let table = pg_sys::hash_create(NAME.as_ptr(), 1, &how, flags as c_int);
            let name = name_in(pg_sys::CurrentMemoryContext, NAME);
            let size = name.and_then(|name| (name as usize).checked_sub(table as usize));
            pg_sys::hash_destroy(table);
            size.filter(|&size| (size_of::<usize>()..1024).contains(&size))
        }
    }

    /// Where the name of the table is kept, if it lies in a context below this one.
    unsafe fn name_in(parent: pg_sys::MemoryContext, name: &CStr) -> Option<*const u8> {
        // SAFETY: contexts are linked until a null pointer, and `ident` is null or a C string.
        unsafe {
            let mut child = (*parent).firstchild;
            while !child.is_null() {
                let ident = (*child).ident;
                if !ident.is_null() && CStr::from_ptr(ident) == name {
                    return Some(ident.cast());
                }
                if let Some(found) = name_in(child, name) {
                    return Some(found);
                }
                child = (*child).nextchild;
            }
            None
        }
    }
}

pub use how::{find_table, seen};
