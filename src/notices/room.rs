//! How many notices a user has on a day already: whether there is room for one more, read without a query, which would
//! take a third of the time that minting a token takes.

use std::ops::ControlFlow;

use pgrx::pg_sys;
use supabase_pat_core::notices::{DAY, Kind, Room};
use uuid::Uuid;

use super::store::day_of;
use crate::pg::clock::Instant;
use crate::pg::column::{Column, Id, Text, Timestamp};
use crate::pg::relations::{Table, layout};
use crate::pg::scan::look;
use crate::pg::settings;

/// `pat.notices`, as far as it is read here.
#[derive(Clone, Copy)]
pub struct Notices {
    table: Table,
    by_user: pg_sys::Oid,
    user_id: Column<Id>,
    kind: Column<Text>,
    happened_at: Column<Timestamp>,
}

layout!(Notices, NOTICES, c"pat".c"notices", |open| {
    let user_id = open.column(c"user_id")?;
    let happened_at = open.column(c"happened_at")?;
    Some(Notices {
        table: open.table,
        by_user: open.index_since(user_id, happened_at),
        user_id,
        kind: open.column(c"kind")?,
        happened_at,
    })
});

/// What room there is for a notice. None where notices of that kind are not written, and in a database of 0.1.0.
///
/// Nobody is waited for, so that two transactions at once may both find the last room.
pub fn of(kind: Kind, user: Uuid, happened_at: Instant) -> Room {
    if !settings::notices().has(kind) {
        return Room::None;
    }
    let day = day_of(happened_at);
    let next = day.plus_seconds(DAY);
    let name = kind.as_str();
    let told = look::<Notices, _>(|notices| {
        let layout = &notices.layout;
        let columns = (layout.user_id, layout.happened_at);
        let mut told = 0;
        // What was told before that day is not read. What was told after it has another clock, which was wrong.
        notices.rows_since(columns, layout.by_user, (&user, day), |row| {
            let is_of_day = row.get(layout.happened_at).is_some_and(|at| at < next);
            if is_of_day && row.get(layout.kind).is_some_and(|kind| kind.is(name)) {
                told += 1;
            }
            ControlFlow::Continue(())
        });
        told
    });
    told.map_or(Room::None, Room::after)
}
