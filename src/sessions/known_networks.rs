//! The table `pat.known_networks`: the networks that each user has signed in from lately.
//!
//! By these the owner of an account is told from strangers who try passwords at it.

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

    // A row is written again once an hour at most, since nothing needs its time more exactly.
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

/// Seconds. If the user has not signed in from a network for so long, it counts as a stranger's again.
const KEPT: i64 = 90 * 86_400;
const HOUR: i64 = 3600;

/// Whether there is the table. Version 0.1.0 does not have it.
fn is_there() -> bool {
    relations::find_table(c"pat", c"known_networks").is_some()
}

fn text(address: IpAddr) -> String {
    let (network, length) = network_of(address);
    format!("{network}/{length}")
}

/// Whether a user has signed in from the network of that address lately. If there is no user, the table is searched all
/// the same, so that the time does not tell. If the address is not known, the answer is no.
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

/// Notes that a user has shown, from that address, who they are. The latest 16 networks of a user are kept.
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

/// Forgets the networks of a user whose password has been reset: somebody else may have had the old password.
pub fn forget(user: Uuid) -> Result<(), Error> {
    match is_there() {
        true => FORGET.with(|statement| statement.run(&[pg_uuid(user).into()], |_| Ok(()))),
        false => Ok(()),
    }
}
