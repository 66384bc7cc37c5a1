//! The answers of `auth.uid()`, `auth.role()`, `auth.email()` and `auth.jwt()`, in functions that cost a row a few
//! nanoseconds, and take the place of Supabase's when a query is planned: [`replace`].
//!
//! # What is answered
//! What the bodies in SQL give that `supabase_pat_core::auth_functions` knows, to the last value and error: the
//! settings are read, and what they hold is converted, by the functions of Postgres that those bodies call, in the
//! same order.
//!
//! # What is kept, under what key, and what ends it
//! The answer, with the place in the plan that asked. It is a function of two settings, so it holds for as long as
//! neither has changed: Postgres is made to tell ([`guc::watch`]) of each value that they are given, by SET, by a
//! function, by the end of a transaction, of a savepoint or of a function's own settings; and settings are counted, in
//! case that one which did not exist has been created ([`guc::Moment`]).
//!
//! Where the answer keeps changing, as in a statement that acts for one user after another, it is not kept, since what
//! was kept before cannot be freed: it may be in a row that is still being put together.
//!
//! # Safety
//! Errors of the conversions are what somebody compares, DETAIL and CONTEXT included, and pgrx's guard would build them
//! anew. So there is none, and no frame has anything that needs dropping.
#![allow(unsafe_code)]

mod replace;

use std::ffi::{CStr, c_char};

use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use supabase_pat_core::auth_functions::AuthFunction;

use crate::pg::function::version_1;
use crate::pg::guc::{self, Moment, Watch};
use crate::pg::unguarded;

/// Called once, from _PG_init.
pub fn install() {
    replace::install();
}

const CLAIMS: &CStr = c"request.jwt.claims";

/// What is read before the claims: what servers set that set one setting a claim.
fn legacy(function: AuthFunction) -> &'static CStr {
    match function {
        AuthFunction::Uid => c"request.jwt.claim.sub",
        AuthFunction::Role => c"request.jwt.claim.role",
        AuthFunction::Email => c"request.jwt.claim.email",
        AuthFunction::Jwt => c"request.jwt.claim",
    }
}

/// The name of the function in the library that answers.
fn symbol(function: AuthFunction) -> &'static CStr {
    match function {
        AuthFunction::Uid => c"supabase_pat_auth_uid",
        AuthFunction::Role => c"supabase_pat_auth_role",
        AuthFunction::Email => c"supabase_pat_auth_email",
        AuthFunction::Jwt => c"supabase_pat_auth_jwt",
    }
}

/// Declares it.
macro_rules! answers {
    ($info:ident, $symbol:ident, $function:expr) => {
        version_1!($info);

        /// # Safety
        /// Called by Postgres.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $symbol(call: FunctionCallInfo) -> Datum {
            // SAFETY: Postgres passes a call whose `fn_extra` is null or of ours.
            unsafe { answer($function, call) }
        }
    };
}

answers!(
    pg_finfo_supabase_pat_auth_uid,
    supabase_pat_auth_uid,
    AuthFunction::Uid
);
answers!(
    pg_finfo_supabase_pat_auth_role,
    supabase_pat_auth_role,
    AuthFunction::Role
);
answers!(
    pg_finfo_supabase_pat_auth_email,
    supabase_pat_auth_email,
    AuthFunction::Email
);
answers!(
    pg_finfo_supabase_pat_auth_jwt,
    supabase_pat_auth_jwt,
    AuthFunction::Jwt
);

/// An answer, kept with the place that asked.
struct Kept {
    seen: Moment,
    /// The legacy setting and the claims, as they were watched.
    settings: [Watch; 2],
    value: Datum,
    is_null: bool,
    /// How many answers have been kept at this place.
    times: u8,
}

/// How many answers a place keeps, each in its own memory: a session is somebody else's for a few statements, and a
/// statement for millions of rows.
const MOST: u8 = 16;

#[inline(always)]
unsafe fn answer(function: AuthFunction, call: FunctionCallInfo) -> Datum {
    // SAFETY: `call` and its `flinfo` are valid, and `fn_extra` is null or what `find_out` has put there.
    unsafe {
        let kept = (*(*call).flinfo).fn_extra.cast::<Kept>();
        if !kept.is_null() && (*kept).seen.is_now() {
            (*call).isnull = (*kept).is_null;
            return (*kept).value;
        }
        find_out(function, call)
    }
}

#[cold]
#[inline(never)]
unsafe fn find_out(function: AuthFunction, call: FunctionCallInfo) -> Datum {
    // SAFETY: as above. What is kept is in the memory of the place, which outlives the result.
    unsafe {
        let place = (*call).flinfo;
        let settings = [guc::watch(legacy(function)), guc::watch(CLAIMS)];
        let seen = Moment::now();
        let mut kept = (*place).fn_extra.cast::<Kept>();
        if !kept.is_null() && (*kept).seen.changes == seen.changes && (*kept).settings == settings {
            (*kept).seen = seen;
            (*call).isnull = (*kept).is_null;
            return (*kept).value;
        }
        let found = evaluate(function);
        (*call).isnull = found.is_none();
        let value = found.unwrap_or(Datum::null());
        let times = match kept.is_null() {
            true => 0,
            false => (*kept).times,
        };
        if times == MOST || settings.contains(&Watch::Unwatched) {
            return value;
        }
        let context = (*place).fn_mcxt;
        if kept.is_null() {
            kept = unguarded::MemoryContextAlloc(context, size_of::<Kept>()).cast();
        }
        // In case that there is no memory for the value.
        kept.write(Kept {
            seen: Moment::NEVER,
            settings,
            value: Datum::null(),
            is_null: true,
            times,
        });
        (*place).fn_extra = kept.cast();
        let value = match found {
            None => value,
            Some(value) => copied(function, value, context),
        };
        kept.write(Kept {
            seen: if times + 1 == MOST {
                Moment::NEVER
            } else {
                seen
            },
            settings,
            value,
            is_null: found.is_none(),
            times: times + 1,
        });
        value
    }
}

unsafe fn copied(function: AuthFunction, value: Datum, context: pg_sys::MemoryContext) -> Datum {
    // SAFETY: the value is what `evaluate` gives: 16 bytes, or a varlena in memory.
    unsafe {
        let from = value.cast_mut_ptr::<u8>();
        let size = match function {
            AuthFunction::Uid => size_of::<uuid::Bytes>(),
            _ => pgrx::varsize_any(from.cast()),
        };
        let to = unguarded::MemoryContextAlloc(context, size).cast::<u8>();
        to.copy_from_nonoverlapping(from, size);
        Datum::from(to)
    }
}

/// What the body in SQL gives. It raises its errors.
unsafe fn evaluate(function: AuthFunction) -> Option<Datum> {
    // SAFETY: functions of Postgres, with arguments of their types; texts are C strings in the current memory context.
    unsafe {
        let legacy = setting(legacy(function));
        let text = match (function, legacy.is_null()) {
            (AuthFunction::Jwt, true) => setting(CLAIMS),
            (_, false) => legacy,
            (_, true) => return from_claims(function),
        };
        match text.is_null() {
            true => None,
            false => Some(match function {
                AuthFunction::Uid => converted(unguarded::uuid_in, text),
                AuthFunction::Role | AuthFunction::Email => {
                    Datum::from(unguarded::cstring_to_text(text))
                }
                AuthFunction::Jwt => converted(unguarded::jsonb_in, text),
            }),
        }
    }
}

unsafe fn from_claims(function: AuthFunction) -> Option<Datum> {
    let name = match function {
        AuthFunction::Uid => c"sub",
        AuthFunction::Role => c"role",
        AuthFunction::Email | AuthFunction::Jwt => c"email",
    };
    // SAFETY: as above.
    unsafe {
        let claims = setting(CLAIMS);
        if claims.is_null() {
            return None;
        }
        let claims = converted(unguarded::jsonb_in, claims);
        let name = Datum::from(unguarded::cstring_to_text(name.as_ptr()));
        let claim = field_text(claims, name)?;
        Some(match function {
            AuthFunction::Uid => converted(
                unguarded::uuid_in,
                unguarded::text_to_cstring(claim.cast_mut_ptr()),
            ),
            _ => claim,
        })
    }
}

/// As `nullif(current_setting(name, true), '')`, in the current memory context.
unsafe fn setting(name: &CStr) -> *const c_char {
    // SAFETY: a C string; what is missing is a null pointer.
    unsafe {
        let text = unguarded::GetConfigOptionByName(name.as_ptr(), std::ptr::null_mut(), true);
        match text.is_null() || *text == 0 {
            true => std::ptr::null(),
            false => text,
        }
    }
}

type Function = unsafe extern "C-unwind" fn(FunctionCallInfo) -> Datum;

unsafe fn converted(input: Function, text: *const c_char) -> Datum {
    // SAFETY: an input function that takes a C string alone.
    unsafe {
        unguarded::DirectFunctionCall1Coll(Some(input), pg_sys::InvalidOid, Datum::from(text))
    }
}

/// As `claims ->> name`. The macros of Postgres take a null for an error.
unsafe fn field_text(claims: Datum, name: Datum) -> Option<Datum> {
    #[repr(C)]
    struct Call {
        base: pg_sys::FunctionCallInfoBaseData,
        arguments: [pg_sys::NullableDatum; 2],
    }
    let argument = |value| pg_sys::NullableDatum {
        value,
        isnull: false,
    };
    let mut call = Call {
        base: pg_sys::FunctionCallInfoBaseData {
            nargs: 2,
            ..Default::default()
        },
        arguments: [argument(claims), argument(name)],
    };
    // SAFETY: two arguments of its types stand where Postgres looks for them.
    unsafe {
        let text = unguarded::jsonb_object_field_text((&raw mut call).cast());
        (!call.base.isnull).then_some(text)
    }
}
