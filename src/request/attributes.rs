//! What the token of a request is limited to beside its scopes, for policies.
//!
//! Unlike scopes, attributes are not in the claims: what counts is what the row of the token says now. They are read once
//! a statement, and kept from one statement to the next as long as nothing has been written, as verdicts are.
#![allow(unsafe_code)]

use std::rc::Rc;

use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;
use pgrx::varlena;
use supabase_pat_core::attributes::Attributes;
use supabase_pat_core::claims::Credential;
use uuid::Uuid;

use crate::pg::column::Found;
use crate::pg::error::{SqlResult, reported};
use crate::pg::function::version_1;
use crate::pg::json::JsonbText;
use crate::pg::memory;
use crate::pg::scan::look;
use crate::request::liveness::{self, Horizon};
use crate::request::tables::Tokens;
use crate::request::{LAST, Request, run};

/// What the attributes of a request allow.
#[derive(Clone)]
pub enum Held {
    /// A login, or a token without attributes: everything.
    None,
    /// A token that is not valid: nothing.
    Dead,
    Of(Rc<Attributes>),
}

/// What the last request's token is limited to, and what could be seen when that was read.
pub struct KeptAttributes {
    seen: Horizon,
    held: Held,
}

impl Request {
    fn held(&mut self) -> Held {
        if let Some(held) = &self.attributes {
            return held.clone();
        }
        let held = match (self.is_valid(), &self.identity.credential) {
            (false, _) => Held::Dead,
            (true, Credential::Token(token)) => self.kept(token.id).unwrap_or(Held::Dead),
            (true, _) => Held::None,
        };
        self.attributes.insert(held).clone()
    }

    fn kept(&self, token: Uuid) -> Option<Held> {
        let seen = liveness::horizon()?;
        let last = || {
            // SAFETY: the reference is not held while Postgres is called.
            let last = unsafe { LAST.get() };
            last.as_mut()
                .filter(|last| Rc::ptr_eq(&last.identity, &self.identity))
        };
        if let Some(kept) = last().and_then(|last| last.attributes.as_ref())
            && kept.seen == seen
        {
            return Some(kept.held.clone());
        }
        let held = stored(token);
        if let Some(last) = last() {
            last.attributes = Some(KeptAttributes {
                seen,
                held: held.clone(),
            });
        }
        Some(held)
    }

    /// What [`Self::held`] has found in this run of the executor, if anything has asked.
    #[inline(always)]
    fn known_attributes(&self) -> Option<&Held> {
        self.attributes.as_ref()
    }
}

/// The column `attributes` of a token. What cannot be read allows nothing, and neither does a token whose row has gone
/// since the statement found it valid.
fn stored(token: Uuid) -> Held {
    look::<Tokens, _>(|tokens| {
        let layout = &tokens.layout;
        let mut found = None;
        tokens.row_with(layout.id, layout.by_id, &token, |row| {
            found = Some(match layout.attributes {
                Found::Missing => Ok(None),
                Found::AsExpected(column) => Ok(row.get(column)),
                Found::OfAnotherType(column) => match row.has(column) {
                    true => Err(()),
                    false => Ok(None),
                },
            });
        });
        found
    })
    .flatten()
    .map_or(Held::Dead, |found| match found {
        Ok(Some(attributes)) => Held::Of(Rc::new(Attributes::parse(&attributes.into_text()))),
        Ok(None) => Held::None,
        Err(()) => Held::Dead,
    })
}

version_1!(pg_finfo_supabase_pat_api_key_allows);
version_1!(pg_finfo_supabase_pat_api_key_allows_id);

/// Policies call it once for each row, so it has no wrapper of pgrx's: see [`crate::request::policy`].
///
/// # Safety
/// Called by Postgres.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn supabase_pat_api_key_allows(call: FunctionCallInfo) -> Datum {
    // SAFETY: the reference to the request ends before anything else of `run` is called. `call` is Postgres's.
    unsafe {
        match run::known_request().and_then(Request::known_attributes) {
            Some(Held::None) => true.into(),
            Some(Held::Dead) => false.into(),
            Some(Held::Of(attributes)) => allowed(attributes, call).into(),
            None => find_out(call),
        }
    }
}

/// As [`supabase_pat_api_key_allows`] for an id, which saves making a text of it for each row.
///
/// # Safety
/// Called by Postgres.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn supabase_pat_api_key_allows_id(call: FunctionCallInfo) -> Datum {
    // SAFETY: as above; the arguments are of the types text and uuid.
    unsafe {
        match run::known_request().and_then(Request::known_attributes) {
            Some(Held::None) => true.into(),
            Some(Held::Dead) => false.into(),
            Some(Held::Of(attributes)) => allowed_id(attributes, call).into(),
            None => find_out_for_id(call),
        }
    }
}

#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn find_out(call: FunctionCallInfo) -> Datum {
    memory::with_room(|| {
        // SAFETY: the call has two arguments of the type text.
        let [name, value] =
            unsafe { [0, 1].map(|place| pgrx::fcinfo::pg_getarg::<String>(call, place)) };
        match run::with_request(Request::held) {
            Held::None => true.into(),
            Held::Dead => false.into(),
            Held::Of(attributes) => name
                .is_some_and(|name| attributes.allow(&name, value.as_deref()))
                .into(),
        }
    })
}

#[cold]
#[pg_guard]
unsafe extern "C-unwind" fn find_out_for_id(call: FunctionCallInfo) -> Datum {
    memory::with_room(|| {
        // SAFETY: the call has arguments of the types text and uuid.
        let (name, id) = unsafe { (pgrx::fcinfo::pg_getarg::<String>(call, 0), id(call)) };
        match run::with_request(Request::held) {
            Held::None => true.into(),
            Held::Dead => false.into(),
            Held::Of(attributes) => name
                .is_some_and(|name| attributes.allow_id(&name, id))
                .into(),
        }
    })
}

/// A name that is null is that of no attribute. An error on the way to a text that is toasted jumps over nothing that
/// needs dropping.
///
/// # Safety
/// `call` is one of `api_key_allows(text, text)`.
unsafe fn allowed(attributes: &Attributes, call: FunctionCallInfo) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        match text(call, 0) {
            Some(name) => attributes.allow(name, text(call, 1)),
            None => false,
        }
    }
}

/// # Safety
/// `call` is one of `api_key_allows(text, uuid)`.
unsafe fn allowed_id(attributes: &Attributes, call: FunctionCallInfo) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        match text(call, 0) {
            Some(name) => attributes.allow_id(name, id(call)),
            None => false,
        }
    }
}

/// # Safety
/// As [`allowed_id`].
unsafe fn id(call: FunctionCallInfo) -> Option<Uuid> {
    // SAFETY: as the caller promises; a uuid is 16 bytes without alignment.
    unsafe {
        let argument = (*call).args.as_slice(2)[1];
        (!argument.isnull).then(|| *argument.value.cast_mut_ptr::<Uuid>())
    }
}

/// An argument. `None` for null, and for what is no UTF-8, which no text in a database in UTF-8 is.
unsafe fn text<'a>(call: FunctionCallInfo, place: usize) -> Option<&'a str> {
    unsafe extern "C-unwind" {
        fn pg_detoast_datum_packed(datum: *mut pg_sys::varlena) -> *mut pg_sys::varlena;
    }
    // SAFETY: the call has two arguments of the type text, which live as long as the call.
    unsafe {
        let argument = (*call).args.as_slice(2)[place];
        if argument.isnull {
            return None;
        }
        let text = pg_detoast_datum_packed(argument.value.cast_mut_ptr());
        let bytes = std::slice::from_raw_parts(
            varlena::vardata_any(text).cast::<u8>(),
            varlena::varsize_any_exhdr(text),
        );
        std::str::from_utf8(bytes).ok()
    }
}

#[pg_extern(schema = "public", stable, parallel_safe, requires = ["schema"])]
pub(super) fn api_key_attribute(name: &str) -> SqlResult<Option<JsonbText>> {
    reported(|| {
        Ok(match run::with_request(Request::held) {
            Held::None | Held::Dead => None,
            Held::Of(attributes) => attributes
                .value(name)
                .map(|value| JsonbText(value.to_owned())),
        })
    })
}
