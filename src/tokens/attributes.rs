//! Which attributes tokens have: the table `pat.key_attributes`, which each backend reads once, and again when it has
//! changed.
#![allow(unsafe_code)]

use std::ops::ControlFlow;
use std::rc::Rc;

use pgrx::pg_sys::BuiltinOid::{BOOLOID, JSONBOID, TEXTOID};
use pgrx::prelude::*;
use supabase_pat_core::attributes::{Attribute, Declared};
use supabase_pat_core::error::Error;

use crate::pg::column::{Boolean, Column, Json, JsonCopy, Text};
use crate::pg::error::{SqlResult, reported};
use crate::pg::json::JsonbText;
use crate::pg::kept::{Kept, change_trigger};
use crate::pg::relations::{self, Table, layout};
use crate::pg::rights;
use crate::pg::scan;
use crate::pg::statement::Statement;

thread_local! {
    static DEFINE: Statement = const { Statement::new(
        "insert into pat.key_attributes (name, schema, required) values ($1, $2, $3) \
         on conflict (name) do update set schema = excluded.schema, required = excluded.required",
        &[TEXTOID, JSONBOID, BOOLOID],
    ) };

    static REMOVE: Statement = const { Statement::new(
        "delete from pat.key_attributes where name operator(pg_catalog.=) $1 returning 1",
        &[TEXTOID],
    ) };
}

/// `pat.key_attributes`.
#[derive(Clone, Copy)]
pub struct KeyAttributes {
    table: Table,
    pub name: Column<Text>,
    pub schema: Column<Json>,
    pub required: Column<Boolean>,
}

layout!(KeyAttributes, ATTRIBUTES, c"pat".c"key_attributes", |open| {
    Some(KeyAttributes {
        table: open.table,
        name: open.column(c"name")?,
        schema: open.column(c"schema")?,
        required: open.column(c"required")?,
    })
});

/// `None` while the extension is being installed or dropped, and in the schema of 0.1.0.
fn table() -> Option<Table> {
    relations::find_table(c"pat", c"key_attributes")
}

static KEPT: Kept<Declared> = Kept::new(table, relations::changes_of::<KeyAttributes>);

/// The attributes that have been declared by now, whatever the snapshot of the transaction shows.
pub fn declared() -> Rc<Declared> {
    KEPT.now(|_| stored())
        .unwrap_or_else(|| Rc::new(Declared::default()))
}

fn stored() -> Declared {
    let mut rows = Vec::new();
    let read = scan::look::<KeyAttributes, _>(|attributes| {
        let layout = &attributes.layout;
        attributes.rows(|row| {
            let is_required = row.get(layout.required).unwrap_or(true);
            rows.push((row.get(layout.name), row.get(layout.schema), is_required));
            ControlFlow::Continue(())
        });
    });
    scan::expect::<KeyAttributes, _>(read);
    let attributes = rows.into_iter().filter_map(|(name, schema, is_required)| {
        let schema = schema.map(JsonCopy::into_text);
        let name = name?.to_text();
        Some(Attribute::from_stored(
            name,
            schema,
            is_required,
            check_for_interrupts,
        ))
    });
    Declared(attributes.collect())
}

fn check_for_interrupts() {
    pgrx::check_for_interrupts!();
}

#[pg_extern(requires = ["schema"])]
fn define_key_attribute(
    name: Option<&str>,
    schema: default!(Option<JsonbText>, "NULL"),
    required: default!(Option<bool>, "false"),
) -> SqlResult<()> {
    reported(|| {
        rights::require_trusted("define attributes")?;
        rights::require_writable("defining an attribute")?;
        let name = name.unwrap_or_default();
        let is_required = required.ok_or(Error::NullArgument("required"))?;
        let schema = schema.map(|JsonbText(schema)| schema);
        let attribute = Attribute::declare(name, schema, is_required, check_for_interrupts)?;
        let schema = attribute.schema().map(|text| JsonbText(text.to_owned()));
        let arguments = [name.into(), schema.into(), is_required.into()];
        DEFINE.with(|statement| statement.run(&arguments, |_| Ok(())))
    })
}

#[pg_extern(requires = ["schema"])]
fn drop_key_attribute(name: Option<&str>) -> SqlResult<bool> {
    reported(|| {
        rights::require_trusted("drop attributes")?;
        rights::require_writable("dropping an attribute")?;
        let name = name.unwrap_or_default();
        REMOVE.with(|statement| statement.run(&[name.into()], |rows| Ok(!rows.is_empty())))
    })
}

change_trigger!(
    pg_finfo_supabase_pat_key_attributes_changed,
    supabase_pat_key_attributes_changed,
    table
);
