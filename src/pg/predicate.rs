//! Functions of the operator's that answer yes or no about a user id. They run with the rights and in the search path of
//! whoever asks, and never with raised ones: what others have written is not for the extension's owner to run.
//!
//! Such a function is not volatile. So Postgres lets its statements write nothing, and they all see one snapshot, which
//! is chosen here: the present one of the whole cluster where something is granted, in every isolation level.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_void};

use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use uuid::Uuid;

use crate::pg::rights;

/// A function that may be asked.
#[derive(Clone, Copy)]
pub struct Predicate {
    version: Version,
}

/// A function as one transaction has left it.
#[derive(Clone, Copy)]
struct Version {
    function: pg_sys::Oid,
    written_by: pg_sys::TransactionId,
    place: pg_sys::ItemPointerData,
}

impl Version {
    fn is(&self, other: &Self) -> bool {
        let place = |version: &Self| {
            let place = version.place;
            (place.ip_blkid.bi_hi, place.ip_blkid.bi_lo, place.ip_posid)
        };
        self.function == other.function
            && self.written_by == other.written_by
            && place(self) == place(other)
    }
}

/// What the statements of a predicate see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sees {
    /// All that has committed by now, whatever the isolation level.
    Latest,
    /// What the statement sees in which this call stands. The call keeps what the predicate has made ready, as that of
    /// any function does: a function in SQL would be parsed and planned for each row, which takes it 0.1 ms.
    Statement(FunctionCallInfo),
}

/// What a call keeps for the next row.
struct Kept {
    version: Version,
    function: pg_sys::FmgrInfo,
}

impl Predicate {
    /// The function of that name, which must have a schema, one argument of the type uuid, and return a boolean, and be
    /// one that `role` may execute and requests cannot replace. The error says what is wrong with it, after "and".
    pub fn find(name: &str, role: pg_sys::Oid) -> Result<Self, &'static str> {
        let name = CString::new(name).map_err(|_| "it is not a name")?;
        // SAFETY: SplitIdentifierString cuts a C string that is ours into names, and puts them into a list. The rest are
        // look-ups in the system caches. A row is that of a function, and is let go when it has been read.
        unsafe {
            let mut names = std::ptr::null_mut();
            let copy = pg_sys::pstrdup(name.as_ptr());
            if !pg_sys::SplitIdentifierString(copy, b'.' as c_char, &mut names) {
                return Err("it is not a name");
            }
            let names: Vec<*mut c_char> = pgrx::PgList::from_pg(names).iter_ptr().collect();
            let &[schema, function] = names.as_slice() else {
                return Err("it must be written with its schema, and nothing else");
            };
            let schema = pg_sys::get_namespace_oid(schema, true);
            let arguments = pg_sys::buildoidvector([pg_sys::UUIDOID].as_ptr(), 1);
            let row = pg_sys::SearchSysCache3(
                pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
                Datum::from(function),
                Datum::from(arguments),
                Datum::from(schema),
            );
            if row.is_null() {
                return Err("there is no such function with one argument of the type uuid");
            }
            let found = &*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_proc>();
            let owner = found.proowner;
            let version = Version {
                function: found.oid,
                written_by: (*(*row).t_data).t_choice.t_heap.t_xmin,
                place: (*row).t_self,
            };
            let problem = if found.prokind as u8 != pg_sys::PROKIND_FUNCTION || found.proretset {
                Some("it cannot be called as a plain function")
            } else if found.prorettype != pg_sys::BOOLOID {
                Some("it does not return boolean")
            } else if found.provolatile as u8 == pg_sys::PROVOLATILE_VOLATILE {
                Some("it is volatile: it must be declared stable, since it may only read")
            } else {
                None
            };
            pg_sys::ReleaseSysCache(row);
            match problem {
                Some(problem) => Err(problem),
                None if !rights::may_execute_as(version.function, role) => {
                    Err("the role of the request may not execute it")
                }
                // Where the operator's is missing, whoever may add functions to its schema could have made this one.
                None if rights::is_of_requests(owner) => {
                    Err("it belongs to a role that requests have, and they could replace it")
                }
                None => Ok(Self { version }),
            }
        }
    }

    /// What the function says. Null is no, and so is whatever a strict one would say of null. Its errors pass through.
    pub fn says(self, argument: Option<Uuid>, sees: Sees) -> bool {
        /// A call with one argument, which stands behind what all calls have.
        #[repr(C)]
        struct Call {
            call: pg_sys::FunctionCallInfoBaseData,
            argument: pg_sys::NullableDatum,
        }
        let id = argument.map(|id| *id.as_bytes());
        let argument = pg_sys::NullableDatum {
            value: id
                .as_ref()
                .map_or(Datum::from(0), |id| Datum::from(id.as_ptr())),
            isnull: id.is_none(),
        };
        let mut own = pg_sys::FmgrInfo::default();
        // SAFETY: the function takes one uuid, 16 bytes without alignment, and returns a boolean: `find` has seen to it,
        // and both stay so for a function that is there. It runs under one guard, and the closure holds nothing that
        // needs dropping. An error takes the snapshot away again, at the end of the (sub)transaction.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                let function = match sees {
                    Sees::Statement(call) if !(*call).flinfo.is_null() => self.kept_in(call),
                    _ => {
                        fmgr_info(self.version.function, &mut own);
                        &raw mut own
                    }
                };
                if (*function).fn_strict && argument.isnull {
                    return false;
                }
                let Some(body) = (*function).fn_addr else {
                    return false;
                };
                let mut call = Call {
                    call: pg_sys::FunctionCallInfoBaseData {
                        flinfo: function,
                        nargs: 1,
                        ..Default::default()
                    },
                    argument,
                };
                if sees == Sees::Latest {
                    PushActiveSnapshot(GetLatestSnapshot());
                }
                let call: FunctionCallInfo = (&raw mut call).cast();
                let result = body(call);
                let is_true = !(*call).isnull && result.value() as u8 != 0;
                if sees == Sees::Latest {
                    PopActiveSnapshot();
                }
                is_true
            })
        }
    }

    /// The function, as a call keeps it, or will from now on. One that was changed meanwhile is looked up again.
    ///
    /// # Safety
    /// A guard stands around it. The call is one of a function that keeps nothing else, and it has `flinfo`.
    unsafe fn kept_in(self, call: FunctionCallInfo) -> *mut pg_sys::FmgrInfo {
        // SAFETY: what a call keeps lives in the context that Postgres names for it, as long as the call can be repeated.
        // It is kept only when it is complete, and nothing in it needs dropping.
        unsafe {
            let asking = (*call).flinfo;
            let kept = (*asking).fn_extra.cast::<Kept>();
            if !kept.is_null() && (*kept).version.is(&self.version) {
                return &raw mut (*kept).function;
            }
            let kept = MemoryContextAllocZero((*asking).fn_mcxt, size_of::<Kept>()).cast::<Kept>();
            (*kept).version = self.version;
            fmgr_info_cxt(
                self.version.function,
                &raw mut (*kept).function,
                (*asking).fn_mcxt,
            );
            (*asking).fn_extra = kept.cast();
            &raw mut (*kept).function
        }
    }
}

unsafe extern "C-unwind" {
    // Called where one guard stands around all.
    fn fmgr_info(function: pg_sys::Oid, info: *mut pg_sys::FmgrInfo);
    fn fmgr_info_cxt(
        function: pg_sys::Oid,
        info: *mut pg_sys::FmgrInfo,
        context: pg_sys::MemoryContext,
    );
    fn MemoryContextAllocZero(context: pg_sys::MemoryContext, size: usize) -> *mut c_void;
    fn GetLatestSnapshot() -> pg_sys::Snapshot;
    fn PushActiveSnapshot(snapshot: pg_sys::Snapshot);
    fn PopActiveSnapshot();
}
