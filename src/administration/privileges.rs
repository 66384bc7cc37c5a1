//! The privileges that `pg_dump` takes for those that CREATE EXTENSION gives, and does not dump.
#![allow(unsafe_code)]

use pgrx::pg_sys;

/// Makes the present privileges of an object the initial ones, if it belongs to the extension.
pub fn record_as_initial(catalog: pg_sys::Oid, object: pg_sys::Oid) {
    // SAFETY: look-ups and changes in the catalogues, or an error is raised.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"supabase_pat".as_ptr(), true);
        if extension != pg_sys::InvalidOid
            && pg_sys::getExtensionOfObject(catalog, object) == extension
        {
            pg_sys::recordExtObjInitPriv(object, catalog);
        }
    }
}
