//! The tables that are read without a query: where they are, and which of their columns and indexes count.
//!
//! # What is kept, under what key, and what ends it
//! How each table looks, one [`Slot`] a table, for as long as Postgres tells of no change of that table or of any
//! schema: finding it takes an open table and a dozen look-ups in the system caches, 2 µs.
//!
//! Postgres tells a backend of changes when it takes a lock that it does not have. So what is kept was right when the
//! last message came, and is no more than a guess: it says which table to lock. [`crate::pg::scan`] takes the lock, and
//! then asks whether the table has changed since ([`Guess::holds`]); only then does it read. From there on nothing can
//! change that matters, neither columns nor, as whoever drops an index waits for all who have a lock on its table, the
//! index. The name cannot come to mean another table either, but by a change of the schema's name, which locks no
//! table: that is an answer of the moment before.
//!
//! Nothing here runs code of a table's owner. To ask Postgres for the predicate of an index would (it folds
//! constants, and functions that are declared immutable with them), so that only its absence is asked for.
#![allow(unsafe_code)]

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::Local;
use crate::pg::column::{Bytes, Column, Found, Id, Type};

#[derive(Clone, Copy)]
pub struct Table {
    pub oid: pg_sys::Oid,
    pub owner: pg_sys::Oid,
}

/// How a table looks.
pub trait Layout: Copy + 'static {
    const SCHEMA: &'static CStr;
    const NAME: &'static CStr;
    const SLOT: &'static Slot<Self>;

    /// `None` if it is not such a table.
    fn find(table: &OpenTable) -> Option<Self>;

    fn table(&self) -> Table;
}

/// Declares which table a layout is of, and how it is found.
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

/// Any table of the extension's, to know its owner by.
#[derive(Clone, Copy)]
struct OwnTable {
    table: Table,
}

layout!(OwnTable, OWN_TABLE, c"pat".c"api_keys", |open| Some(OwnTable { table: open.table }));

/// Who owns the extension's tables. `None` while it is being installed or dropped.
pub fn extension_owner() -> Option<pg_sys::Oid> {
    current::<OwnTable>().map(|own| own.table.owner)
}

/// A table that is open and locked, so that it stays as it is.
pub struct OpenTable {
    pub table: Table,
    relation: pg_sys::Relation,
}

/// Which rows an index must have.
pub enum Rows {
    All,
    /// Those that somebody looks for, at least.
    AllOrSome,
}

/// A type by which rows can be looked up.
pub trait Indexed: Type {
    const OID: pg_sys::Oid;
    const EQUALS: u32;
    /// By which an index must be ordered.
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
    pub fn find<T: Type>(&self, name: &CStr) -> Found<T> {
        // SAFETY: the table is open and locked.
        unsafe { Column::find((*self.relation).rd_att, name) }
    }

    /// A column that must be there, and of that type.
    pub fn column<T: Type>(&self, name: &CStr) -> Option<Column<T>> {
        self.find(name).as_expected()
    }

    /// A btree index that can be used, whose first column is `column`, in the order that Postgres has for its type. No
    /// object if there is none.
    pub fn index<T: Indexed>(&self, column: Column<T>, rows: Rows) -> pg_sys::Oid {
        // SAFETY: the table is open.
        let indexes: Vec<pg_sys::Oid> = unsafe {
            let list = pg_sys::RelationGetIndexList(self.relation);
            pgrx::PgList::<pg_sys::Oid>::from_pg(list)
                .iter_oid()
                .collect()
        };
        indexes
            .into_iter()
            .find(|&index| is_index_on(index, column, &rows))
            .unwrap_or(pg_sys::InvalidOid)
    }
}

/// The number of the function that orders a btree index, `BTORDER_PROC` in nbtree.h.
const BTREE_ORDER: i16 = 1;

fn is_index_on<T: Indexed>(index: pg_sys::Oid, column: Column<T>, rows: &Rows) -> bool {
    use pg_sys::SysCacheIdentifier::{INDEXRELID, RELOID};
    // SAFETY: look-ups in the system caches, with checked results; a tuple is released when it has been read. Of the
    // predicate and the expressions nothing is looked at but whether they are null.
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
            && lacks(pg_sys::Anum_pg_index_indexprs)
            && (matches!(rows, Rows::AllOrSome) || lacks(pg_sys::Anum_pg_index_indpred));
        let mut is_null = false;
        let classes = pg_sys::SysCacheGetAttr(
            INDEXRELID as i32,
            tuple,
            pg_sys::Anum_pg_index_indclass as i16,
            &mut is_null,
        );
        // Another order would be another function, which may be anybody's.
        let fits = fits && !is_null && {
            let class = (*classes.cast_mut_ptr::<pg_sys::oidvector>())
                .values
                .as_slice(1)[0];
            let family = pg_sys::get_opclass_family(class);
            let compares = pg_sys::get_opfamily_proc(family, T::OID, T::OID, BTREE_ORDER);
            compares == pg_sys::Oid::from(T::COMPARES)
        };
        pg_sys::ReleaseSysCache(tuple);
        fits
    }
}

/// How a table looked the last time.
pub struct Slot<L>(Local<State<L>>);

struct State<L> {
    layout: Option<L>,
    /// Counts what may have changed the table, for some tables their rows included: see [`crate::pg::kept`].
    changes: u64,
    /// Whether the messages of changes reach it.
    is_told: bool,
}

/// How a table looked when there had been so many changes.
#[derive(Clone, Copy)]
pub struct Guess<L> {
    pub layout: L,
    changes: u64,
}

impl<L: Layout> Guess<L> {
    /// Whether the table still looks so, as far as this backend has been told.
    #[inline(always)]
    pub fn holds(&self) -> bool {
        self.changes == changes_of::<L>()
    }
}

trait Concerned {
    fn has_changed(&self, relation: pg_sys::Oid);
}

/// Those that this backend has looked for: others have nothing that could be out of date.
static TOLD: Local<Vec<&'static (dyn Concerned + Sync)>> = Local::new(Vec::new());

/// Lets the messages of changes reach a slot from now on.
fn tell<L: Layout>(slot: &'static Slot<L>) {
    // SAFETY: nothing is called that could come back here.
    unsafe {
        if !std::mem::replace(&mut slot.0.get().is_told, true) {
            TOLD.get().push(slot);
        }
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

impl<L: Layout> Concerned for Slot<L> {
    fn has_changed(&self, relation: pg_sys::Oid) {
        // SAFETY: nobody holds a reference while Postgres processes invalidations.
        let state = unsafe { self.0.get() };
        // A table that is not known may be any. Else what was read from one that could not be kept would
        // never be read anew.
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

/// How many times the table may have changed.
#[inline(always)]
pub fn changes_of<L: Layout>() -> u64 {
    // SAFETY: the reference is gone at the end of the line.
    unsafe { L::SLOT.0.get() }.changes
}

/// How a table looks, as far as this backend has been told. `None` if there is none that looks so.
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
    listen();
    tell(L::SLOT);
    let changes = changes_of::<L>();
    let table = find_table(L::SCHEMA, L::NAME)?;
    let lock = pg_sys::AccessShareLock as i32;
    // SAFETY: the relation is open and locked while it is looked at.
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
    // SAFETY: as above.
    let state = unsafe { L::SLOT.0.get() };
    if state.changes == changes {
        state.layout = Some(layout);
    }
    Some(Guess { layout, changes })
}

/// Whether there is a table of that name, whatever it looks like.
pub fn exists<L: Layout>() -> bool {
    find_relation(L::SCHEMA, L::NAME).is_some()
}

/// As it is told now, for whoever does not look with the lock: no more than a moment old.
pub fn current<L: Layout>() -> Option<L> {
    // SAFETY: as at any lock that is taken. The callbacks hold no reference of ours.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    guess().map(|guess| guess.layout)
}

/// A plain table, its owner included, by its full name.
pub fn find_table(schema: &CStr, name: &CStr) -> Option<Table> {
    find_relation(schema, name).filter(|table| {
        // SAFETY: a look-up in the system caches.
        unsafe { pg_sys::get_rel_relkind(table.oid) as u8 == pg_sys::RELKIND_RELATION }
    })
}

/// Whether a table of the schema `pat` is the extension's; if so, it stays that until the end of the
/// transaction.
pub fn hold_own_table(name: &CStr) -> bool {
    let find = || find_table(c"pat", name).map(|table| table.oid);
    let Some(table) = find() else {
        return false;
    };
    // SAFETY: a lock like any other, after which nothing can be dropped or changed, and look-ups in the catalogs.
    unsafe {
        pg_sys::LockRelationOid(table, pg_sys::RowExclusiveLock as i32);
        let extension = pg_sys::get_extension_oid(c"supabase_pat".as_ptr(), true);
        find() == Some(table)
            && extension != pg_sys::InvalidOid
            && pg_sys::getExtensionOfObject(pg_sys::RelationRelationId, table) == extension
    }
}

/// A table, view or anything else in `pg_class`.
pub fn find_relation(schema: &CStr, name: &CStr) -> Option<Table> {
    // SAFETY: look-ups in the system caches, with checked results.
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

/// The name of a table, with its schema.
pub fn name_of(table: pg_sys::Oid) -> Option<String> {
    // SAFETY: look-ups in the system caches. What is null does not exist; the texts are copied at once.
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

/// Who owns a table now.
pub fn owner_of(table: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a look-up in the system caches, with a checked result, which is released when it has been read.
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

pub fn find_column(table: pg_sys::Oid, name: &CStr, of_type: Option<pg_sys::Oid>) -> Option<i16> {
    // SAFETY: look-ups in the system caches.
    unsafe {
        let number = pg_sys::get_attnum(table, name.as_ptr());
        let has_type = |expected| pg_sys::get_atttype(table, number) == expected;
        (number > 0 && of_type.is_none_or(has_type)).then_some(number)
    }
}

/// Counts all messages of changes, whatever they are about.
static MESSAGES: Local<u64> = Local::new(0);

/// How many messages of changes there have been.
#[inline(always)]
pub fn messages() -> u64 {
    // SAFETY: the reference is gone at the end of the line.
    unsafe { *MESSAGES.get() }
}

/// Counts the messages of changes of functions, operators, types and roles.
static OTHER_MESSAGES: Local<u64> = Local::new(0);

/// How many messages of changes there have been that could tell of who has made a view what it is.
pub fn messages_of_makers() -> u64 {
    listen();
    // SAFETY: as at any lock that is taken; the references are gone at the end of each line.
    unsafe {
        pg_sys::AcceptInvalidationMessages();
        *MESSAGES.get() + *OTHER_MESSAGES.get()
    }
}

static IS_LISTENING: Local<bool> = Local::new(false);

/// Starts listening for changes, unless this backend does already.
fn listen() {
    // SAFETY: the callbacks stay valid as long as the backend, which never unloads the library.
    unsafe {
        if std::mem::replace(IS_LISTENING.get(), true) {
            return;
        }
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0));
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as i32,
            Some(schema_changed),
            pg_sys::Datum::from(0),
        );
        use pg_sys::SysCacheIdentifier::{AUTHOID, OPEROID, PROCOID, TYPEOID};
        for cache in [AUTHOID, OPEROID, PROCOID, TYPEOID] {
            let callback = Some(other_changed as unsafe extern "C-unwind" fn(_, _, _));
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, callback, pg_sys::Datum::from(0));
        }
    }
}

unsafe extern "C-unwind" fn relation_changed(_: pg_sys::Datum, relation: pg_sys::Oid) {
    // SAFETY: nobody holds a reference while Postgres processes invalidations.
    unsafe {
        *MESSAGES.get() += 1;
        for slot in TOLD.get() {
            slot.has_changed(relation);
        }
    }
}

unsafe extern "C-unwind" fn schema_changed(argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    // SAFETY: as if every relation had changed.
    unsafe { relation_changed(argument, pg_sys::InvalidOid) };
}

unsafe extern "C-unwind" fn other_changed(_: pg_sys::Datum, _cache: i32, _hash: u32) {
    // SAFETY: nobody holds a reference while Postgres processes invalidations.
    unsafe { *OTHER_MESSAGES.get() += 1 };
}
