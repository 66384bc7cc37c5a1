//! Views of others that the extension's owner reads: Vault's, for instance.
//!
//! A view calls its functions with the rights of the role that reads it. So the owner's rights, a superuser's as a
//! rule, are lent only to a view that nobody but superusers and the owner could have made what it is.
#![allow(unsafe_code)]

use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::spi::{self, Spi, SpiTupleTable};
use supabase_pat_core::error::Error;

use crate::pg::Local;
use crate::pg::changes;
use crate::pg::relations;
use crate::pg::rights;
use crate::pg::statement::{Statement, as_role, extension_owner};

/// A view that belongs to superusers or the extension's owner, as does all that it reads and calls.
pub struct SafeView(());

/// The view that was found safe last, the extension's owner, and the count of messages at that time.
static KNOWN_AS_SAFE: Local<Option<(pg_sys::Oid, pg_sys::Oid, u64)>> = Local::new(None);

thread_local! {
    // The owners of all that a view reads and calls, and of what the views beneath it read and call.
    static OWNERS_BENEATH: Statement = const { Statement::new(
        "with recursive beneath as ( \
             select 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid as class, $1 as object \
             union \
             select next.class, next.object from beneath cross join lateral ( \
                 select 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid as class, rule.oid as object \
                 from pg_catalog.pg_rewrite as rule \
                 where beneath.class operator(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
                     and rule.ev_class operator(pg_catalog.=) beneath.object \
                 union all \
                 select needed.refclassid, needed.refobjid from pg_catalog.pg_depend as needed \
                 where beneath.class operator(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
                     and needed.classid operator(pg_catalog.=) beneath.class \
                     and needed.objid operator(pg_catalog.=) beneath.object \
                 union all \
                 select 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid, sign.oprcode::pg_catalog.oid \
                 from pg_catalog.pg_operator as sign \
                 where beneath.class operator(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass \
                     and sign.oid operator(pg_catalog.=) beneath.object \
             ) as next) \
         select coalesce( \
             (select r.relowner from pg_catalog.pg_class as r \
                 where beneath.class operator(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
                     and r.oid operator(pg_catalog.=) beneath.object), \
             (select f.proowner from pg_catalog.pg_proc as f \
                 where beneath.class operator(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass \
                     and f.oid operator(pg_catalog.=) beneath.object), \
             (select t.typowner from pg_catalog.pg_type as t \
                 where beneath.class operator(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass \
                     and t.oid operator(pg_catalog.=) beneath.object)) \
         from beneath",
        &[pg_sys::BuiltinOid::OIDOID],
    ) };
}

impl SafeView {
    /// `None` if there is no such view, if it is not safe, or if the extension's owner may not read it.
    ///
    /// Finding that out takes 20 µs, more than all else in signing a token. So the last view that was safe is kept,
    /// with the owner for whom it was, until a message says that any relation, function, operator, type or role has
    /// changed. The view is locked until the end of the transaction.
    ///
    /// # Errors
    /// Those of [`Statement::read`].
    pub fn find(schema: &CStr, name: &CStr) -> Result<Option<Self>, Error> {
        let Some(owner) = relations::extension_owner() else {
            return Ok(None);
        };
        let Some(view) = relations::find_relation(schema, name) else {
            return Ok(None);
        };
        // SAFETY: Postgres takes the lock or raises an error, here under pgrx's guard.
        unsafe { pg_sys::LockRelationOid(view.oid, pg_sys::AccessShareLock as i32) };
        let is_it = relations::find_relation(schema, name)
            .is_some_and(|found| found.oid == view.oid && found.owner == view.owner);
        if !is_it || !rights::may_select(view, owner) {
            return Ok(None);
        }
        let present = (view.oid, owner, changes::of_all());
        // SAFETY: the reference is gone at the end of the line.
        if *unsafe { KNOWN_AS_SAFE.get() } == Some(present) {
            return Ok(Some(Self(())));
        }
        let is_safe = OWNERS_BENEATH.with(|statement| {
            statement.read(&[view.oid.into()], |rows| {
                let mut is_safe = true;
                for row in rows {
                    // The query gives null for rules, schemas and operators. Their owners do not matter: a rule is
                    // its view's, and an operator runs its function, which is looked at itself.
                    let found = row.get::<pg_sys::Oid>(1)?;
                    is_safe &=
                        found.is_none_or(|found| rights::is_owner_or_superuser(found, owner));
                }
                Ok(is_safe)
            })
        })?;
        if is_safe {
            // SAFETY: the reference is gone at the end of the line, and dropping the old value calls nothing.
            unsafe { *KNOWN_AS_SAFE.get() = Some(present) };
        }
        Ok(is_safe.then_some(Self(())))
    }

    /// Runs `sql`, which reads the view, as the extension's owner, and hands its first row to `read`.
    ///
    /// # Errors
    /// [`Error::Internal`] for errors of the SPI or of `read`. What Postgres raises passes through.
    pub fn read<R>(
        &self,
        sql: &'static str,
        read: impl FnOnce(SpiTupleTable) -> spi::Result<R>,
    ) -> Result<R, Error> {
        let owner = extension_owner()?;
        as_role(owner, true, || {
            Spi::connect(|client| read(client.select(sql, Some(1), &[])?))
        })
    }
}
