//! The tables that are read without a query: where they are, and which columns and indexes they have.
//!
//! # What is kept, under what key, and what ends it
//! The layout of each table is kept in a [`Slot`] of its own, until a message says that this table or any schema has
//! changed ([`crate::pg::changes`]). Finding a layout opens the table and makes a dozen look-ups in the system caches,
//! which takes 2 µs.
//!
//! Postgres processes these messages when a backend takes a lock that it does not have yet. So what is kept was right
//! when the last message came, and until then it is a guess, which is good enough to say which table to lock.
//! [`crate::pg::scan`] takes the lock, then checks that the table has not changed ([`Guess::holds`]), and only then
//! reads. Under the lock nothing can change that matters: neither the columns, nor the index, since dropping one waits
//! for all who have locked its table. Nor can another table get the name, unless the schema is renamed, which locks no
//! table. Then the rows are those of the table that had the name a moment before.
//!
//! Nothing here runs code of a table's owner. Asking Postgres for the predicate of an index would run some: Postgres
//! folds constants in it, and calls functions that are declared immutable. So the code only asks whether there is one.
#![allow(unsafe_code)]

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::Local;
use crate::pg::changes::{self, Listener};
use crate::pg::column::{Bytes, Column, Found, Id, Timestamp, Type};

/// A relation and the role that owns it.
#[derive(Clone, Copy)]
pub struct Table {
    pub oid: pg_sys::Oid,
    pub owner: pg_sys::Oid,
}

/// What is known of a table, so that its rows can be read: its columns and indexes.
pub trait Layout: Copy + 'static {
    const SCHEMA: &'static CStr;
    const NAME: &'static CStr;
    const SLOT: &'static Slot<Self>;

    /// Finds the columns and indexes in a table of that name. `None` if one is missing that is needed.
    fn find(table: &OpenTable) -> Option<Self>;

    fn table(&self) -> Table;
}

/// Declares which table a layout is of, and how the layout is found in it.
macro_rules! layout {
    ($layout:ident, $slot:ident, $schema:literal . $name:literal, |$open:ident| $find:expr) => {
        static $slot: $crate::pg::relations::Slot<$layout> = $crate::pg::relations::Slot::new();

        impl $crate::pg::relations::Layout for $layout {
            const SCHEMA: &'static std::ffi::CStr = $schema;
            const NAME: &'static std::ffi::CStr = $name;
            const SLOT: &'static $crate::pg::relations::Slot<Self> = &$slot;

            fn find($open: &$crate::pg::relations::OpenTable) -> Option<Self> {
                $find
            }

            fn table(&self) -> $crate::pg::relations::Table {
                self.table
            }
        }
    };
}

pub(crate) use layout;

/// A table of the extension, from which the extension's owner is known.
#[derive(Clone, Copy)]
struct OwnTable {
    table: Table,
}

layout!(OwnTable, OWN_TABLE, c"pat".c"api_keys", |open| Some(OwnTable { table: open.table }));

/// The role that owns the extension's tables. `None` while the extension is being installed or dropped.
pub fn extension_owner() -> Option<pg_sys::Oid> {
    current::<OwnTable>().map(|own| own.table.owner)
}

/// A table that is open and locked, so that its layout stays as it is.
pub struct OpenTable {
    pub table: Table,
    relation: pg_sys::Relation,
}

/// Which rows an index must have.
pub enum Rows {
    All,
    /// A partial index will do: it has at least the rows that are looked for.
    AllOrSome,
}

/// A type by which rows can be looked up.
pub trait Indexed: Type {
    const OID: pg_sys::Oid;
    /// The function of the operator `=`.
    const EQUALS: u32;
    /// The function that orders a btree index.
    const COMPARES: u32;
}

impl Indexed for Id {
    const OID: pg_sys::Oid = pg_sys::UUIDOID;
    const EQUALS: u32 = pg_sys::F_UUID_EQ;
    const COMPARES: u32 = pg_sys::F_UUID_CMP;
}

impl Indexed for Bytes {
    const OID: pg_sys::Oid = pg_sys::BYTEAOID;
    const EQUALS: u32 = pg_sys::F_BYTEAEQ;
    const COMPARES: u32 = pg_sys::F_BYTEACMP;
}

impl OpenTable {
    /// Looks for a column that may be missing or of another type.
    pub fn find<T: Type>(&self, name: &CStr) -> Found<T> {
        // SAFETY: `find`, which alone makes an `OpenTable`, has opened and locked the table.
        unsafe { Column::find((*self.relation).rd_att, name) }
    }

    /// Looks for a column that must be there and have that type. `None` if it has not.
    pub fn column<T: Type>(&self, name: &CStr) -> Option<Column<T>> {
        self.find(name).as_expected()
    }

    /// A valid btree index without expressions whose first column is `column`, in the order that Postgres has for its
    /// type. No object (`InvalidOid`) if there is none.
    pub fn index<T: Indexed>(&self, column: Column<T>, rows: Rows) -> pg_sys::Oid {
        self.indexes()
            .into_iter()
            .find(|&index| is_index_on(index, column, None, &rows))
            .unwrap_or(pg_sys::InvalidOid)
    }

    /// As [`OpenTable::index`] with all rows, for an index whose second column is `since`.
    pub fn index_since<T: Indexed>(
        &self,
        column: Column<T>,
        since: Column<Timestamp>,
    ) -> pg_sys::Oid {
        self.indexes()
            .into_iter()
            .find(|&index| is_index_on(index, column, Some(since), &Rows::All))
            .unwrap_or(pg_sys::InvalidOid)
    }

    fn indexes(&self) -> Vec<pg_sys::Oid> {
        // SAFETY: the table is open, and the list is copied at once.
        unsafe {
            let list = pg_sys::RelationGetIndexList(self.relation);
            pgrx::PgList::<pg_sys::Oid>::from_pg(list)
                .iter_oid()
                .collect()
        }
    }
}

/// The number of the function that orders a btree index, `BTORDER_PROC` in nbtree.h.
const BTREE_ORDER: i16 = 1;

fn is_index_on<T: Indexed>(
    index: pg_sys::Oid,
    column: Column<T>,
    since: Option<Column<Timestamp>>,
    rows: &Rows,
) -> bool {
    use pg_sys::SysCacheIdentifier::{INDEXRELID, RELOID};
    // SAFETY: each look-up in a system cache is checked for null, and its tuple is cast to the struct of that catalog
    // and released when it has been read. An index has at least one column, so that the first of `indkey` and of
    // `indclass` exists; the second one is read only if it has two key columns. Predicate and expressions are only
    // checked for null: nothing evaluates them.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(RELOID as i32, index.into());
        if tuple.is_null() {
            return false;
        }
        let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>();
        let is_btree = form.relam == pg_sys::BTREE_AM_OID;
        pg_sys::ReleaseSysCache(tuple);

        let tuple = pg_sys::SearchSysCache1(INDEXRELID as i32, index.into());
        if tuple.is_null() {
            return false;
        }
        let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_index>();
        let lacks =
            |attribute: u32| pg_sys::heap_attisnull(tuple, attribute as i32, std::ptr::null_mut());
        let fits = is_btree
            && form.indisvalid
            && form.indislive
            && form.indkey.values.as_slice(1)[0] == column.number()
            && since.is_none_or(|since| {
                form.indnkeyatts >= 2 && form.indkey.values.as_slice(2)[1] == since.number()
            })
            && lacks(pg_sys::Anum_pg_index_indexprs)
            && (matches!(rows, Rows::AllOrSome) || lacks(pg_sys::Anum_pg_index_indpred));
        let mut is_null = false;
        let classes = pg_sys::SysCacheGetAttr(
            INDEXRELID as i32,
            tuple,
            pg_sys::Anum_pg_index_indclass as i16,
            &mut is_null,
        );
        // An index with another order calls another function, which any role may have written.
        let fits = fits && !is_null && {
            let classes = &(*classes.cast_mut_ptr::<pg_sys::oidvector>()).values;
            let is_by = |class: pg_sys::Oid, of: pg_sys::Oid, compares: u32| {
                let family = pg_sys::get_opclass_family(class);
                let order = pg_sys::get_opfamily_proc(family, of, of, BTREE_ORDER);
                order == pg_sys::Oid::from(compares)
            };
            is_by(classes.as_slice(1)[0], T::OID, T::COMPARES)
                && (since.is_none()
                    || is_by(
                        classes.as_slice(2)[1],
                        pg_sys::TIMESTAMPTZOID,
                        pg_sys::F_TIMESTAMPTZ_CMP,
                    ))
        };
        pg_sys::ReleaseSysCache(tuple);
        fits
    }
}

/// The last layout of a table that was found, and a count of the changes.
pub struct Slot<L>(Local<State<L>>);

struct State<L> {
    layout: Option<L>,
    /// Counts the messages about the table. For some tables these include changes of rows: see [`crate::pg::kept`].
    changes: u64,
    /// Whether messages of changes reach this slot.
    is_told: bool,
}

/// The layout of a table as it was when its slot had counted so many changes.
#[derive(Clone, Copy)]
pub struct Guess<L> {
    pub layout: L,
    changes: u64,
}

impl<L: Layout> Guess<L> {
    /// Whether no message about the table has been processed since the layout was found.
    #[inline(always)]
    pub fn holds(&self) -> bool {
        self.changes == changes_of::<L>()
    }
}

/// Lets messages of changes reach a slot from now on.
fn tell<L: Layout>(slot: &'static Slot<L>) {
    // SAFETY: the reference is gone at the end of the line.
    if !std::mem::replace(&mut unsafe { slot.0.get() }.is_told, true) {
        changes::tell(slot);
    }
}

impl<L> Slot<L> {
    pub const fn new() -> Self {
        Self(Local::new(State {
            layout: None,
            changes: 0,
            is_told: false,
        }))
    }
}

impl<L: Layout> Listener for Slot<L> {
    fn relation_changed(&self, relation: pg_sys::Oid) {
        // SAFETY: in this file a reference to a slot ends before Postgres is called, so none is in use while Postgres
        // processes messages.
        let state = unsafe { self.0.get() };
        // A slot without a layout counts each message, since it does not know which table is its own. Otherwise rows
        // that were read while the layout could not be kept would never be read again.
        if relation == pg_sys::InvalidOid
            || state
                .layout
                .is_none_or(|layout| layout.table().oid == relation)
        {
            state.layout = None;
            state.changes += 1;
        }
    }
}

/// How many times the table may have changed since this backend first looked for it.
#[inline(always)]
pub fn changes_of<L: Layout>() -> u64 {
    // SAFETY: the reference is gone at the end of the line.
    unsafe { L::SLOT.0.get() }.changes
}

/// The layout of a table, as far as this backend has processed messages. `None` if there is no table with that layout.
#[inline(always)]
pub fn guess<L: Layout>() -> Option<Guess<L>> {
    // SAFETY: the reference is gone before Postgres is called.
    let state = unsafe { L::SLOT.0.get() };
    if let Some(layout) = state.layout {
        return Some(Guess {
            layout,
            changes: state.changes,
        });
    }
    find()
}

#[cold]
fn find<L: Layout>() -> Option<Guess<L>> {
    tell(L::SLOT);
    let changes = changes_of::<L>();
    let table = find_table(L::SCHEMA, L::NAME)?;
    let lock = pg_sys::AccessShareLock as i32;
    // SAFETY: `try_table_open` takes the lock and returns null if there is no such relation. The relation is open until
    // `table_close`, which keeps nothing of it.
    let layout = unsafe {
        let relation = pg_sys::try_table_open(table.oid, lock);
        if relation.is_null() {
            return None;
        }
        let owner = (*(*relation).rd_rel).relowner;
        let layout = L::find(&OpenTable {
            table: Table { owner, ..table },
            relation,
        });
        pg_sys::table_close(relation, lock);
        layout?
    };
    // SAFETY: the reference is gone before Postgres is called again.
    let state = unsafe { L::SLOT.0.get() };
    if state.changes == changes {
        state.layout = Some(layout);
    }
    Some(Guess { layout, changes })
}

/// Whether there is a relation with the name of the layout, whatever its columns are.
pub fn exists<L: Layout>() -> bool {
    find_relation(L::SCHEMA, L::NAME).is_some()
}

/// The layout of a table, after processing the messages that wait. For callers that do not lock the table: the answer
/// was right a moment ago.
pub fn current<L: Layout>() -> Option<L> {
    // SAFETY: Postgres processes messages wherever it takes a lock, so it can here. No reference into a slot is in use.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    guess().map(|guess| guess.layout)
}

/// Looks for a table, which is neither a view nor partitioned, by its full name.
pub fn find_table(schema: &CStr, name: &CStr) -> Option<Table> {
    find_relation(schema, name).filter(|table| {
        // SAFETY: it looks into the system caches, and returns 0 for a relation that is gone.
        unsafe { pg_sys::get_rel_relkind(table.oid) as u8 == pg_sys::RELKIND_RELATION }
    })
}

/// Whether a table of the schema `pat` belongs to the extension. If so it is locked, and belongs to it until the end of
/// the transaction.
pub fn hold_own_table(name: &CStr) -> bool {
    let find = || find_table(c"pat", name).map(|table| table.oid);
    let Some(table) = find() else {
        return false;
    };
    // SAFETY: Postgres takes the lock or raises an error, and the rest are look-ups in the catalogs, under pgrx's
    // guards. With this lock in force the table can be neither dropped nor changed.
    unsafe {
        pg_sys::LockRelationOid(table, pg_sys::RowExclusiveLock as i32);
        let extension = pg_sys::get_extension_oid(c"supabase_pat".as_ptr(), true);
        find() == Some(table)
            && extension != pg_sys::InvalidOid
            && pg_sys::getExtensionOfObject(pg_sys::RelationRelationId, table) == extension
    }
}

/// Looks for a table, view or anything else in `pg_class`, by its full name.
pub fn find_relation(schema: &CStr, name: &CStr) -> Option<Table> {
    // SAFETY: look-ups in the system caches, which return no object for what does not exist.
    unsafe {
        let schema = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        if schema == pg_sys::InvalidOid {
            return None;
        }
        let oid = pg_sys::get_relname_relid(name.as_ptr(), schema);
        if oid == pg_sys::InvalidOid {
            return None;
        }
        let owner = owner_of(oid)?;
        Some(Table { oid, owner })
    }
}

/// The name of a table, with its schema. `None` if it is gone.
pub fn name_of(table: pg_sys::Oid) -> Option<String> {
    // SAFETY: look-ups in the system caches, which return null for what does not exist. The texts end in NUL and are
    // copied at once.
    unsafe {
        let name = pg_sys::get_rel_name(table);
        let schema = pg_sys::get_rel_namespace(table);
        let schema = match name.is_null() || schema == pg_sys::InvalidOid {
            true => return None,
            false => pg_sys::get_namespace_name(schema),
        };
        if schema.is_null() {
            return None;
        }
        let text = |text: *const std::ffi::c_char| CStr::from_ptr(text).to_string_lossy();
        Some(format!("{}.{}", text(schema), text(name)))
    }
}

/// The role that owns a table now. `None` if the table is gone.
pub fn owner_of(table: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: the tuple of the look-up is checked for null, is a row of `pg_class`, and is released when it has been
    // read.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::RELOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, table.into());
        if tuple.is_null() {
            return None;
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>()).relowner;
        pg_sys::ReleaseSysCache(tuple);
        Some(owner)
    }
}

/// The number of a column, of any type or `of_type`. `None` if there is no such column.
pub fn find_column(table: pg_sys::Oid, name: &CStr, of_type: Option<pg_sys::Oid>) -> Option<i16> {
    // SAFETY: look-ups in the system caches, which return 0 for a column that does not exist.
    unsafe {
        let number = pg_sys::get_attnum(table, name.as_ptr());
        let has_type = |expected| pg_sys::get_atttype(table, number) == expected;
        (number > 0 && of_type.is_none_or(has_type)).then_some(number)
    }
}
