//! How a refusal reaches the REST server, and how the next pre-request function is called.
//!
//! pgrx rebuilds each error that passes through its guard from the SQLSTATEs that it knows, and would make XX000 of
//! `PT401`, whether it is ours or the next function's. So the function that Postgres calls has no guard: it lets a
//! guarded one decide, and then raises the error, or calls the next function, with nothing in its frame that needs
//! dropping.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int};

use pgrx::pg_sys::{self, Datum};
use supabase_pat_core::error::Error;
use supabase_pat_core::refusal::Refusal;

use crate::pg::rights;

/// Postgres's level of that name, a macro in elog.h.
const ERROR: c_int = pgrx::PgLogLevel::ERROR as c_int;

/// An error that is to be raised. The texts are in a memory context of Postgres's.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Raised {
    sqlstate: c_int,
    message: *const c_char,
    detail: *const c_char,
    hint: *const c_char,
}

/// What the gate has decided.
#[derive(Clone, Copy)]
#[repr(C)]
pub enum Decision {
    Refused(Raised),
    /// The request may run. The next pre-request function is called first, unless this is no object.
    Admitted(pg_sys::Oid),
}

mod unguarded {
    use super::{c_char, c_int, pg_sys};

    unsafe extern "C-unwind" {
        pub fn errstart(level: c_int, domain: *const c_char) -> bool;
        pub fn errcode(sqlstate: c_int) -> c_int;
        pub fn errmsg_internal(format: *const c_char, ...) -> c_int;
        pub fn errdetail_internal(format: *const c_char, ...) -> c_int;
        pub fn errhint(format: *const c_char, ...) -> c_int;
        pub fn errfinish(file: *const c_char, line: c_int, function: *const c_char);
        pub fn fmgr_info(function: pg_sys::Oid, info: *mut pg_sys::FmgrInfo);
    }
}

/// Raises the error of a refusal, or calls the next pre-request function.
///
/// # Safety
/// Called in the frame of a function that Postgres calls, without a guard and without anything that needs
/// dropping.
pub unsafe fn carry_out(decision: Decision) -> Datum {
    // SAFETY: the texts are C strings, and errors pass through as they are.
    unsafe {
        match decision {
            Decision::Refused(raised) => {
                unguarded::errstart(ERROR, std::ptr::null());
                unguarded::errcode(raised.sqlstate);
                unguarded::errmsg_internal(c"%s".as_ptr(), raised.message);
                if !raised.detail.is_null() {
                    unguarded::errdetail_internal(c"%s".as_ptr(), raised.detail);
                }
                if !raised.hint.is_null() {
                    unguarded::errhint(c"%s".as_ptr(), raised.hint);
                }
                unguarded::errfinish(c"raise.rs".as_ptr(), 0, c"gate".as_ptr());
            }
            Decision::Admitted(pg_sys::InvalidOid) => (),
            Decision::Admitted(next) => {
                // As OidFunctionCall0 does it. That one takes a null for an error, and a function in SQL that returns
                // void returns null.
                let mut function = pg_sys::FmgrInfo::default();
                unguarded::fmgr_info(next, &mut function);
                let mut call = pg_sys::FunctionCallInfoBaseData {
                    flinfo: &mut function,
                    ..Default::default()
                };
                if let Some(body) = function.fn_addr {
                    body(&mut call);
                }
            }
        }
    }
    Datum::from(0)
}

/// Defines the function that Postgres calls, which lets `$decide` decide: a function from nothing to
/// `Result<Decision, Error>`.
macro_rules! gate {
    ($info:ident, $function:ident, $decide:path) => {
        $crate::pg::function::version_1!($info);

        /// # Safety
        /// Called by Postgres.
        #[unsafe(no_mangle)]
        #[allow(unsafe_code)]
        pub unsafe extern "C-unwind" fn $function(
            call: pgrx::pg_sys::FunctionCallInfo,
        ) -> pgrx::pg_sys::Datum {
            #[pgrx::pg_guard]
            unsafe extern "C-unwind" fn guarded(
                _call: pgrx::pg_sys::FunctionCallInfo,
            ) -> $crate::gate::raise::Decision {
                use pgrx::pg_sys::panic::ErrorReportable;
                $crate::pg::error::reported($decide).unwrap_or_report()
            }
            // SAFETY: there is nothing in this frame that needs dropping.
            unsafe { $crate::gate::raise::carry_out(guarded(call)) }
        }
    };
}

pub(crate) use gate;

impl Raised {
    /// What a refusal becomes. PostgREST takes status and body from an error with the SQLSTATE `PTnnn`,
    /// and headers too from one with `PGRST`.
    pub fn by(refusal: &Refusal) -> Self {
        match refusal.retry_after() {
            None => Self {
                sqlstate: crate::pg::error::encode(refusal.code()),
                message: text(&refusal.to_string()),
                detail: refusal
                    .detail()
                    .map_or(std::ptr::null(), |detail| text(&detail)),
                hint: refusal.hint().map_or(std::ptr::null(), text),
            },
            Some(seconds) => {
                let (message, detail) = refusal.with_retry_after(seconds);
                Self {
                    sqlstate: crate::pg::error::encode("PGRST"),
                    message: text(&message),
                    detail: text(&detail),
                    hint: std::ptr::null(),
                }
            }
        }
    }
}

/// A copy in the current memory context.
fn text(text: &str) -> *const c_char {
    let text = CString::new(text.replace('\0', "")).unwrap_or_default();
    // SAFETY: a C string.
    unsafe { pg_sys::pstrdup(text.as_ptr()) }
}

/// Whether the transaction has written anything.
pub fn transaction_has_written() -> bool {
    // SAFETY: it only reads.
    unsafe { pg_sys::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId }
}

/// The function of that name, which must have a schema, no argument, and be one that the role in force may
/// call.
///
/// # Errors
/// [`Error::NextPreRequest`].
pub fn find_next(name: &str) -> Result<pg_sys::Oid, Error> {
    let failed = |reason| Error::NextPreRequest {
        name: name.to_owned(),
        reason,
    };
    // SAFETY: SplitIdentifierString cuts a C string that is ours into names, and puts them into a list; the
    // rest are look-ups in the system caches.
    unsafe {
        let mut names = std::ptr::null_mut();
        let copy = text(name).cast_mut();
        if !pg_sys::SplitIdentifierString(copy, b'.' as c_char, &mut names) {
            return Err(failed("it is not a name"));
        }
        let names: Vec<*mut c_char> = pgrx::PgList::from_pg(names).iter_ptr().collect();
        let &[schema, function] = names.as_slice() else {
            return Err(failed(
                "it must be written with its schema, and nothing else",
            ));
        };
        // It would call itself until the stack is used up.
        if [schema, function].map(|name| std::ffi::CStr::from_ptr(name)) == [c"pat", c"gate"] {
            return Err(failed("it is the gate itself"));
        }
        let mut qualified = pgrx::PgList::<pg_sys::String>::new();
        qualified.push(pg_sys::makeString(schema));
        qualified.push(pg_sys::makeString(function));
        let function = pg_sys::LookupFuncName(qualified.into_pg(), 0, std::ptr::null(), true);
        if function == pg_sys::InvalidOid {
            return Err(failed("there is no such function without arguments"));
        }
        // An aggregate, a window function, a handler or a function that returns rows is called in another way than
        // here, and would take something for its state that is not there.
        let result = pg_sys::get_func_rettype(function);
        let is_plain = pg_sys::get_func_prokind(function) as u8 == pg_sys::PROKIND_FUNCTION
            && !pg_sys::get_func_retset(function)
            && (pg_sys::get_typtype(result) as u8 != pg_sys::TYPTYPE_PSEUDO
                || [pg_sys::VOIDOID, pg_sys::RECORDOID].contains(&result));
        if !is_plain {
            return Err(failed("it cannot be called as a plain function"));
        }
        match rights::may_execute(function) {
            true => Ok(function),
            false => Err(failed("the role of the request may not execute it")),
        }
    }
}
