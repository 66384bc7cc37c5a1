//! From where each user has signed in lately: the table `pat.known_networks`.
//!
//! By it the owner of an account is told from strangers who try passwords at it.

use std::net::IpAddr;

use pgrx::pg_sys::BuiltinOid::{TEXTOID, TIMESTAMPTZOID, UUIDOID};
use supabase_pat_core::error::Error;
use supabase_pat_core::throttle::network_of;
use uuid::Uuid;

use crate::pg::clock::Instant;
use crate::pg::relations;
use crate::pg::statement::Statement;
use crate::pg::uuid::pg_uuid;

thread_local! {
    static FIND: Statement = const { Statement::new(
        "select from pat.known_networks where user_id operator(pg_catalog.=) $1 \
         and network operator(pg_catalog.=) $2::pg_catalog.cidr::pg_catalog.inet \
         and last_at operator(pg_catalog.>) $3",
        &[UUIDOID, TEXTOID, TIMESTAMPTZOID],
    ) };

    // Written again once an hour only: a row that changes with each sign-in is work for nothing.
    static NOTE: Statement = const { Statement::new(
        "insert into pat.known_networks as known (user_id, network, last_at) \
         values ($1, $2::pg_catalog.cidr, $3) \
         on conflict (user_id, network) do update set last_at = $3 \
         where known.last_at operator(pg_catalog.<) $4",
        &[UUIDOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID],
    ) };

    static KEEP_THE_LATEST: Statement = const { Statement::new(
        "delete from pat.known_networks where user_id operator(pg_catalog.=) $1 and (user_id, network) in (\
             select user_id, network from pat.known_networks where user_id operator(pg_catalog.=) $1 \
             order by last_at desc, network offset 16)",
        &[UUIDOID],
    ) };

    static FORGET: Statement = const { Statement::new(
        "delete from pat.known_networks where user_id operator(pg_catalog.=) $1",
        &[UUIDOID],
    ) };

    static SWEEP: Statement = const { Statement::new(
        "delete from pat.known_networks where (user_id, network) in (\
             select user_id, network from pat.known_networks \
             where last_at operator(pg_catalog.<) $1 limit 100 for update skip locked)",
        &[TIMESTAMPTZOID],
    ) };
}

/// Seconds. A network that nobody has come from for so long is a stranger's again.
const KEPT: i64 = 90 * 86_400;
const HOUR: i64 = 3600;

/// Not there while the SQL is that of an older version.
fn is_there() -> bool {
    relations::find_table(c"pat", c"known_networks").is_some()
}

fn text(address: IpAddr) -> String {
    let (network, length) = network_of(address);
    format!("{network}/{length}")
}

/// Whether a user has signed in from the network of that address lately. `None`, for nobody and for an address that is not
/// known, takes the same look.
pub fn is_known_here(
    user: Option<Uuid>,
    address: Option<IpAddr>,
    now: Instant,
) -> Result<bool, Error> {
    let Some(address) = address.filter(|_| is_there()) else {
        return Ok(false);
    };
    let arguments = [
        pg_uuid(user.unwrap_or_default()).into(),
        text(address).into(),
        now.plus_seconds(-KEPT).to_timestamp()?.into(),
    ];
    let is_known = FIND.with(|statement| statement.run(&arguments, |rows| Ok(!rows.is_empty())))?;
    Ok(is_known && user.is_some())
}

/// The user has shown who they are, from there. The latest 16 networks are kept.
pub fn note(user: Uuid, address: Option<IpAddr>, now: Instant) -> Result<(), Error> {
    let Some(address) = address.filter(|_| is_there()) else {
        return Ok(());
    };
    let arguments = [
        pg_uuid(user).into(),
        text(address).into(),
        now.to_timestamp()?.into(),
        now.plus_seconds(-HOUR).to_timestamp()?.into(),
    ];
    NOTE.with(|statement| statement.run(&arguments, |_| Ok(())))?;
    KEEP_THE_LATEST.with(|statement| statement.sweep(&[pg_uuid(user).into()]))?;
    let end = now.plus_seconds(-KEPT).to_timestamp()?;
    SWEEP.with(|statement| statement.sweep(&[end.into()]))
}

/// Whoever had the password before may have been somebody else.
pub fn forget(user: Uuid) -> Result<(), Error> {
    match is_there() {
        true => FORGET.with(|statement| statement.run(&[pg_uuid(user).into()], |_| Ok(()))),
        false => Ok(()),
    }
}
