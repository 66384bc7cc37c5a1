//! Whether users are active, banned or gone, and what their claims should say, read without a query: see
//! [`crate::pg::scan`].

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReportable;
use supabase_pat_core::error::Error;
use supabase_pat_core::live_claims::LiveUser;
use uuid::Uuid;

use crate::pg::clock::Instant;
use crate::pg::column::{Boolean, Column, Found, Id, Json, JsonCopy, Text, TextCopy, Timestamp};
use crate::pg::error::reported;
use crate::pg::relations::{self, Rows, Table, layout};
use crate::pg::scan::{Open, Row, look};

/// `auth.users`, which is Supabase's table: a column other than `id` may be missing or have another type.
#[derive(Clone, Copy)]
pub struct Users {
    pub table: Table,
    pub by_id: pg_sys::Oid,
    pub id: Column<Id>,
    pub deleted_at: Found<Timestamp>,
    pub banned_until: Found<Timestamp>,
    pub role: Found<Text>,
    pub email: Found<Text>,
    pub email_confirmed_at: Found<Timestamp>,
    pub phone: Found<Text>,
    pub app_metadata: Found<Json>,
    pub user_metadata: Found<Json>,
    pub is_anonymous: Found<Boolean>,
}

layout!(Users, USERS, c"auth".c"users", |open| {
    let id = open.column(c"id")?;
    Some(Users {
        table: open.table,
        by_id: open.index(id, Rows::All),
        id,
        deleted_at: open.find(c"deleted_at"),
        banned_until: open.find(c"banned_until"),
        role: open.find(c"role"),
        email: open.find(c"email"),
        email_confirmed_at: open.find(c"email_confirmed_at"),
        phone: open.find(c"phone"),
        app_metadata: open.find(c"raw_app_meta_data"),
        user_metadata: open.find(c"raw_user_meta_data"),
        is_anonymous: open.find(c"is_anonymous"),
    })
});

/// The table of users. `None` if there is no table `auth.users` with a column `id` of type uuid.
pub fn table() -> Option<Users> {
    relations::current()
}

/// The state of a user, by their row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum UserState {
    Active,
    Banned {
        until: Instant,
    },
    /// There is no such row, or `deleted_at` is set in it (soft deletion).
    Gone,
}

/// The state of a user now.
///
/// # Errors
/// [`Error::NoUsersTable`].
pub fn state_of_user(user: Uuid) -> Result<UserState, Error> {
    look::<Users, _>(|users| state_of(users, &user)).ok_or(Error::NoUsersTable)
}

/// As [`state_of_user`], in a table that is open.
pub fn state_of(users: &Open<Users>, user: &Uuid) -> UserState {
    state_and(users, user, |_| ())
}

/// Who a user is to others. The texts are in the memory context that was current when they were read.
#[derive(Clone, Copy, Default)]
pub struct Named {
    pub email: Option<TextCopy>,
    pub role: Option<TextCopy>,
    pub is_anonymous: Option<bool>,
    /// There is a role, which cannot be read.
    pub has_unfit_role: bool,
}

/// As [`state_of`], with who the user is.
pub fn named_state_of(users: &Open<Users>, user: &Uuid) -> (UserState, Named) {
    let layout = &users.layout;
    let mut named = Named::default();
    let state = state_and(users, user, |row| {
        named = Named {
            email: layout.email.as_expected().and_then(|it| row.get(it)),
            role: layout.role.as_expected().and_then(|it| row.get(it)),
            is_anonymous: (layout.is_anonymous.as_expected())
                .map(|it| row.get(it).unwrap_or(false)),
            has_unfit_role: matches!(layout.role, Found::OfAnotherType(it) if row.has(it)),
        };
    });
    (state, named)
}

/// Whether a user is anonymous, as their row says now. `None` if there is no such user, or no column for it.
pub fn is_anonymous(user: Uuid) -> Option<bool> {
    look::<Users, _>(|users| named_state_of(users, &user).1.is_anonymous)?
}

/// Bytes. Users write their metadata themselves, hundreds of megabytes if they like, and whoever waits for mails waits for
/// them to be read.
const MAX_METADATA: usize = 1 << 16;

/// Whom a mail goes to, and what their metadata say.
pub struct Correspondent {
    pub email: String,
    /// A JSON object. None if it is too large.
    pub metadata: Option<String>,
}

/// How a user can be reached by mail. `None` without an address that they have confirmed, for an anonymous user, and for
/// one who may not log in: else whoever signs up with the address of somebody else could have mails sent there.
pub fn correspondent(user: Uuid) -> Option<Correspondent> {
    let (email, metadata) = look::<Users, _>(|users| {
        let layout = &users.layout;
        let mut found = None;
        let state = state_and(users, &user, |row| {
            let is_confirmed = match layout.email_confirmed_at {
                Found::AsExpected(column) => row.has(column),
                Found::OfAnotherType(column) => row.has(column),
                Found::Missing => true,
            };
            let is_anonymous = layout.is_anonymous.as_expected().and_then(|it| row.get(it));
            if is_confirmed && is_anonymous != Some(true) {
                let email = layout.email.as_expected().and_then(|it| row.get(it));
                let metadata = layout.user_metadata.as_expected();
                let metadata = metadata.and_then(|it| row.get_small(it, MAX_METADATA));
                found = email.map(|email| (email, metadata));
            }
        });
        found.filter(|_| state == UserState::Active)
    })??;
    Some(Correspondent {
        email: email.to_text(),
        metadata: metadata.map(JsonCopy::into_text),
    })
}

fn state_and(users: &Open<Users>, user: &Uuid, mut also: impl FnMut(&Row)) -> UserState {
    let layout = &users.layout;
    let mut state = UserState::Gone;
    users.row_with(layout.id, layout.by_id, user, |row| {
        let is_deleted = match layout.deleted_at {
            Found::AsExpected(column) => row.has(column),
            Found::OfAnotherType(column) => row.has(column),
            Found::Missing => false,
        };
        let banned_until = match layout.banned_until {
            Found::AsExpected(column) => row.get(column),
            // The end of the ban cannot be read, only whether there is one.
            Found::OfAnotherType(column) => row.has(column).then_some(Instant::END),
            Found::Missing => None,
        };
        state = match banned_until {
            _ if is_deleted => UserState::Gone,
            Some(until) if until > Instant::now() => UserState::Banned { until },
            _ => UserState::Active,
        };
        also(row);
    });
    state
}

/// What the claims of a user should say now. `None` if there is no such user.
///
/// Raises [`Error::UnfitColumn`] if a column for a claim has another type: a value that cannot be read must not count
/// as empty.
pub fn live_user(user: Uuid) -> Option<LiveUser> {
    let (columns, found) = look::<Users, _>(|users| {
        let layout = &users.layout;
        let mut found = None;
        users.row_with(layout.id, layout.by_id, &user, |row| {
            let text = |column: Found<Text>| column.as_expected().and_then(|it| row.get(it));
            let json = |column: Found<Json>| column.as_expected().and_then(|it| row.get(it));
            found = Some((
                [layout.role, layout.email, layout.phone].map(text),
                [layout.app_metadata, layout.user_metadata].map(json),
                // Supabase Auth never writes null there.
                (layout.is_anonymous.as_expected()).map(|it| row.get(it).unwrap_or(true)),
            ));
        });
        (users.layout, found)
    })?;
    let unfit = [
        unfit(columns.role, "auth.users.role", "text"),
        unfit(columns.email, "auth.users.email", "text"),
        unfit(columns.phone, "auth.users.phone", "text"),
        unfit(
            columns.app_metadata,
            "auth.users.raw_app_meta_data",
            "jsonb",
        ),
        unfit(
            columns.user_metadata,
            "auth.users.raw_user_meta_data",
            "jsonb",
        ),
        unfit(columns.is_anonymous, "auth.users.is_anonymous", "boolean"),
    ];
    if let Some(error) = unfit.into_iter().flatten().next() {
        reported(|| Err(error)).unwrap_or_report()
    }
    let (texts, metadata, is_anonymous) = found?;
    let [role, email, phone] = texts.map(|text| {
        text.map(|text| text.to_text())
            .filter(|text| !text.is_empty())
    });
    let [app_metadata, user_metadata] = metadata.map(|json| json.map(JsonCopy::into_text));
    Some(LiveUser {
        role,
        email,
        phone,
        app_metadata,
        user_metadata,
        is_anonymous,
    })
}

fn unfit<T>(column: Found<T>, name: &'static str, expected: &'static str) -> Option<Error> {
    match column {
        Found::OfAnotherType(_) => Some(Error::UnfitColumn(name, expected)),
        Found::AsExpected(_) | Found::Missing => None,
    }
}
