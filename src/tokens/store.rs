//! The statements that store and replace tokens, in the tables `pat.api_keys` and `pat.api_key_origins`, and the locks
//! under which tokens are given and revoked.

use std::collections::BTreeSet;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::{pg_sys, spi};
use supabase_pat_core::error::Error;
use supabase_pat_core::notices::{Kind as NoticeKind, Room};
use supabase_pat_core::opaque_token::Digest;
use supabase_pat_core::rate::Limit;
use supabase_pat_core::scope::Scopes;
use supabase_pat_core::token::Kind;
use uuid::Uuid;

use super::lookup;
use crate::events::Actor;
use crate::notices::{self, By};
use crate::pg::clock::{self, Instant};
use crate::pg::durability;
use crate::pg::json;
use crate::pg::net::Networks;
use crate::pg::relations;
use crate::pg::statement::Statement;
use crate::pg::uuid::pg_uuid;
use crate::request::caller::{self, Caller, Judged};
use crate::signing_keys::ring;

/// A row to be added to `pat.api_keys`.
pub struct NewToken<'a> {
    pub id: Uuid,
    pub name: &'a str,
    pub scopes: &'a Scopes,
    pub hint: &'a str,
    pub created_at: Instant,
    pub expires_at: Instant,
    pub known_by: KnownBy,
    /// Who makes it.
    pub by: By,
    pub limits: Limits,
    pub details: Details<'a>,
    pub provenance: Provenance,
}

/// What a token may have besides. A rotation takes it over.
#[derive(Clone, Copy, Default)]
pub struct Details<'a> {
    pub description: Option<&'a str>,
    /// A JSON object.
    pub attributes: Option<&'a str>,
}

/// What a token is recognised by when a request presents it.
pub enum KnownBy {
    /// The signature of a JWT, made with the signing key of that id, or with the configured secret for `None`.
    SigningKey(Option<String>),
    /// The text of an opaque token.
    Digest(Digest),
}

/// What is remembered of how a token was made.
pub struct Provenance {
    /// The token of the request that made it.
    pub made_with: Option<Maker>,
    /// What the token carries of the claims of a restricted login, a JSON object.
    pub claims: Option<String>,
}

/// A token that makes another one, which may be of another user: of a service account.
#[derive(Clone, Copy)]
pub struct Maker {
    pub id: Uuid,
    pub user: Uuid,
}

/// The addresses that a token may be used from, and how often it may be used: within a short window, and a long one.
#[derive(Clone, Copy)]
pub enum Limits {
    Of {
        allowed_ips: Option<Networks>,
        rate: Option<Limit>,
        quota: Option<Limit>,
    },
    /// Those of the token of that id.
    LikeThoseOf(Uuid),
}

/// What a rotation takes over from the token that it replaces.
pub struct ReplacedToken {
    pub name: String,
    pub kind: Kind,
    pub scopes: Scopes,
    /// Seconds from creation to expiry.
    pub lifetime: i64,
    /// What the token carries of the claims of a restricted login, a JSON object.
    pub claims: Option<String>,
}

/// Shows that this transaction holds the locks to give a user a token. It and other transactions wait for each other if
/// those give the same user a token, revoke one of that user's, or revoke a signing key.
pub struct ToGrant(ToRevoke);

/// Shows that this transaction holds the lock to revoke tokens of a user. It waits for transactions that give the same
/// user a token, and they wait for it.
pub struct ToRevoke {
    user: Uuid,
    /// All users whose locks are held, if those have tokens that a token of the user has made.
    family: Vec<Uuid>,
}

use pg_sys::BuiltinOid::{
    BYTEAOID, CIDRARRAYOID, INT4OID, INTERVALOID, JSONBOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID,
    UUIDOID,
};

thread_local! {
    // The token and its event are written by one statement, which saves a third of the time of two.
    static INSERT: Statement = const { Statement::new(
        "with event as (insert into pat.events (event, happened_at, user_id, key_id, role, by_key, address, detail) \
             values ('token_minted', $6, $2, $1, $9, $10, $11::pg_catalog.inet, $16)) \
         insert into pat.api_keys (id, user_id, name, scopes, hint, created_at, expires_at, signing_key, \
             kind, token_digest, allowed_ips, rate_limit, rate_window) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, \
             case when $12 is null then 'jwt' else 'opaque' end, $12, $13, $14, $15)",
        &[
            UUIDOID, UUIDOID, TEXTOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID,
            TEXTOID, UUIDOID, TEXTOID, BYTEAOID, CIDRARRAYOID, INT4OID, INTERVALOID, TEXTOID,
        ],
    ) };

    static INSERT_SUCCESSOR: Statement = const { Statement::new(
        "with event as (insert into pat.events (event, happened_at, user_id, key_id, role, by_key, address, detail) \
             values ('token_rotated', $6, $2, $1, $9, $10, $11::pg_catalog.inet, \
             pg_catalog.concat_ws(', ', pg_catalog.concat('in the place of ', $13), $14))) \
         insert into pat.api_keys (id, user_id, name, scopes, hint, created_at, expires_at, signing_key, \
             kind, token_digest, allowed_ips, rate_limit, rate_window) \
         select $1, $2, $3, $4, $5, $6, $7, $8, \
             old.kind, $12, old.allowed_ips, old.rate_limit, old.rate_window \
         from pat.api_keys as old where old.id operator(pg_catalog.=) $13",
        &[
            UUIDOID, UUIDOID, TEXTOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID,
            TEXTOID, UUIDOID, TEXTOID, BYTEAOID, UUIDOID, TEXTOID,
        ],
    ) };

    // The same, with a notice for the user. A statement of its own would take half as long as all of this.
    static INSERT_AND_TELL: Statement = const { Statement::new(
        "with event as (insert into pat.events (event, happened_at, user_id, key_id, role, by_key, address, detail) \
             values ('token_minted', $6, $2, $1, $9, $10, $11::pg_catalog.inet, $16)), \
         notice as (insert into pat.notices (kind, user_id, happened_at, due_at, key_id, name, hint, actor, by_key) \
             values ('minted', $2, $6, $6, $1, $3, $5, $17, $18)) \
         insert into pat.api_keys (id, user_id, name, scopes, hint, created_at, expires_at, signing_key, \
             kind, token_digest, allowed_ips, rate_limit, rate_window) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, \
             case when $12 is null then 'jwt' else 'opaque' end, $12, $13, $14, $15)",
        &[
            UUIDOID, UUIDOID, TEXTOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID,
            TEXTOID, UUIDOID, TEXTOID, BYTEAOID, CIDRARRAYOID, INT4OID, INTERVALOID, TEXTOID, TEXTOID,
            UUIDOID,
        ],
    ) };

    // The columns that 0.1.0 does not have. Few tokens have any of them.
    static SET_DETAILS: Statement = const { Statement::new(
        "update pat.api_keys set description = $2, attributes = $3, quota = $4, quota_window = $5 \
         where id operator(pg_catalog.=) $1",
        &[UUIDOID, TEXTOID, JSONBOID, INT4OID, INTERVALOID],
    ) };

    static TAKE_OVER_DETAILS: Statement = const { Statement::new(
        "update pat.api_keys as token set description = old.description, attributes = old.attributes, \
             quota = old.quota, quota_window = old.quota_window \
         from pat.api_keys as old where token.id operator(pg_catalog.=) $1 and old.id operator(pg_catalog.=) $2 \
         and (old.description is not null or old.attributes is not null or old.quota is not null)",
        &[UUIDOID, UUIDOID],
    ) };

    static ADD_ORIGIN: Statement = const { Statement::new(
        "insert into pat.api_key_origins (key_id, user_id, made_by, claims) values ($1, $2, $3, $4)",
        &[UUIDOID, UUIDOID, UUIDOID, JSONBOID],
    ) };

    // So that it is known whose the token was that has made one for another user, when it is deleted.
    static ADD_MAKER: Statement = const { Statement::new(
        "insert into pat.api_key_origins (key_id, user_id) values ($1, $2) on conflict do nothing",
        &[UUIDOID, UUIDOID],
    ) };

    static CARRIED_CLAIMS: Statement = const { Statement::new(
        "select claims from pat.api_key_origins where key_id operator(pg_catalog.=) $1 and claims is not null",
        &[UUIDOID],
    ) };

    // With a grace, the token lives on until the grace ends, but cannot be rotated again.
    static REPLACE: Statement = const { Statement::new(
        "update pat.api_keys as token set replaced_by = $4, \
         revoked_at = case when $5 is null then $2 end, \
         expires_at = case when $5 operator(pg_catalog.<) token.expires_at then $5 else token.expires_at end \
         from pat.api_keys as old \
         where token.id operator(pg_catalog.=) $1 and old.id operator(pg_catalog.=) token.id \
         and token.revoked_at is null and token.replaced_by is null \
         and token.expires_at operator(pg_catalog.>) $2 \
         and token.user_id operator(pg_catalog.=) $3 \
         returning old.name, old.scopes, old.created_at, old.expires_at, old.kind",
        &[UUIDOID, TIMESTAMPTZOID, UUIDOID, UUIDOID, TIMESTAMPTZOID],
    ) };
}

/// Stores a new token of a user. The argument proves that the caller was judged again after all locks were taken.
///
/// # Errors
/// [`Error::OldSchema`], for a token of a restricted login while the tables are those of 0.1.0.
pub fn insert(to_grant: &Judged<ToGrant>, new: &NewToken) -> Result<(), Error> {
    insert_row(to_grant.user(), new)?;
    insert_details(new)?;
    let Provenance { made_with, claims } = &new.provenance;
    if made_with.is_none() && claims.is_none() {
        return Ok(());
    }
    if !has_origins() {
        // Until the extension is updated, only the event says which token has made the new one.
        return match claims {
            Some(_) => Err(Error::OldSchema),
            None => Ok(()),
        };
    }
    if let Some(maker) = made_with
        && maker.user != to_grant.user()
    {
        let arguments = [uuid(maker.id), uuid(maker.user)];
        ADD_MAKER.with(|statement| statement.run(&arguments, |_| Ok(())))?;
    }
    let arguments = [
        uuid(new.id),
        uuid(to_grant.user()),
        made_with.map(|maker| pg_uuid(maker.id)).into(),
        claims.clone().map(json::JsonbText).into(),
    ];
    ADD_ORIGIN.with(|statement| statement.run(&arguments, |_| Ok(())))
}

fn insert_details(new: &NewToken) -> Result<(), Error> {
    let quota = match new.limits {
        Limits::Of { quota, .. } => quota,
        Limits::LikeThoseOf(old) => {
            return match has_details() {
                true => TAKE_OVER_DETAILS
                    .with(|statement| statement.run(&[uuid(new.id), uuid(old)], |_| Ok(()))),
                false => Ok(()),
            };
        }
    };
    let Details {
        description,
        attributes,
    } = new.details;
    if description.is_none() && attributes.is_none() && quota.is_none() {
        return Ok(());
    }
    require_details()?;
    let attributes = attributes.map(|text| json::JsonbText(text.to_owned()));
    let arguments = [
        uuid(new.id),
        description.into(),
        attributes.into(),
        quota.map(|quota| quota.requests as i32).into(),
        quota
            .and_then(|quota| clock::interval(quota.seconds()))
            .into(),
    ];
    SET_DETAILS.with(|statement| statement.run(&arguments, |_| Ok(())))
}

/// Whether the table of tokens has the columns that came with 0.2.0.
pub fn has_details() -> bool {
    relations::find_table(c"pat", c"key_attributes").is_some()
}

/// # Errors
/// [`Error::OldSchema`].
pub fn require_details() -> Result<(), Error> {
    match has_details() {
        true => Ok(()),
        false => Err(Error::OldSchema),
    }
}

/// Whether there is the table `pat.api_key_origins`. Version 0.1.0 does not have it.
pub fn has_origins() -> bool {
    relations::find_table(c"pat", c"api_key_origins").is_some()
}

fn insert_row(user: Uuid, new: &NewToken) -> Result<(), Error> {
    let actor = Actor::now();
    let [role, by_token, address] = actor.arguments();
    let other = actor.other_than(user);
    let (signing_key, digest) = match &new.known_by {
        KnownBy::SigningKey(id) => (id.as_deref(), None),
        KnownBy::Digest(digest) => (None, Some(digest.0.to_vec())),
    };
    let mut arguments = vec![
        uuid(new.id),
        uuid(user),
        new.name.into(),
        new.scopes.to_texts().into(),
        new.hint.into(),
        new.created_at.to_timestamp()?.into(),
        new.expires_at.to_timestamp()?.into(),
        signing_key.into(),
        role,
        by_token,
        address,
        digest.into(),
    ];
    let (allowed_ips, rate) = match new.limits {
        Limits::Of {
            allowed_ips, rate, ..
        } => (allowed_ips, rate),
        Limits::LikeThoseOf(old) => {
            arguments.push(uuid(old));
            arguments.push(other.into());
            INSERT_SUCCESSOR.with(|statement| statement.run(&arguments, |_| Ok(())))?;
            return tell(user, new, true);
        }
    };
    let window = rate.and_then(|rate| clock::interval(rate.seconds()));
    arguments.push(match allowed_ips {
        Some(networks) => networks.as_argument(),
        None => DatumWithOid::null_oid(pg_sys::CIDRARRAYOID),
    });
    arguments.push(rate.map(|rate| rate.requests as i32).into());
    arguments.push(window.into());
    arguments.push(other.into());
    if notices::room(NoticeKind::Minted, user, new.created_at) == Room::Own {
        let by_token = match &new.by {
            By::Token(token) => Some(pg_uuid(*token)),
            _ => None,
        };
        arguments.push(new.by.as_str().into());
        arguments.push(by_token.into());
        INSERT_AND_TELL.with(|statement| statement.run(&arguments, |_| Ok(())))?;
        return notices::tidy(new.created_at);
    }
    INSERT.with(|statement| statement.run(&arguments, |_| Ok(())))?;
    tell(user, new, false)
}

/// Tells a user of a new token, as [`notices::tell`] says.
fn tell(user: Uuid, new: &NewToken, is_rotation: bool) -> Result<(), Error> {
    let about = notices::About {
        user,
        token: new.id,
        name: new.name,
        hint: Some(new.hint),
        is_rotation,
    };
    notices::tell(NoticeKind::Minted, &about, &new.by, new.created_at)
}

/// Which token is replaced, and by which.
#[derive(Clone, Copy)]
pub struct Replacement {
    pub id: Uuid,
    pub successor: Uuid,
}

/// Ends a live token of the user in favour of its successor: at once, or when the grace ends. `None` if there is no
/// such token, or it has been replaced before.
pub fn replace(
    to_grant: &Judged<ToGrant>,
    Replacement { id, successor }: Replacement,
    now: Instant,
    grace_ends: Option<Instant>,
) -> Result<Option<ReplacedToken>, Error> {
    let grace_ends = grace_ends.map(Instant::to_timestamp).transpose()?;
    let arguments = [
        uuid(id),
        now.to_timestamp()?.into(),
        uuid(to_grant.user()),
        uuid(successor),
        grace_ends.into(),
    ];
    durability::of_revocation()?;
    let claims = match has_origins() {
        true => CARRIED_CLAIMS.with(|statement| {
            statement.run(&[uuid(id)], |rows| match rows.is_empty() {
                true => Ok(None),
                false => rows.first().get_one::<json::JsonbText>(),
            })
        })?,
        false => None,
    };
    REPLACE.with(|statement| {
        statement.run(&arguments, |rows| {
            let row = rows.first();
            if row.is_empty() {
                return Ok(None);
            }
            let time = |column| -> spi::Result<Option<Instant>> {
                let time = row.get::<TimestampWithTimeZone>(column)?;
                Ok(time.map(Instant::from_timestamp))
            };
            let kind = row.get::<String>(5)?.and_then(|kind| kind.parse().ok());
            let (Some(name), Some(created), Some(expires), Some(kind)) =
                (row.get::<String>(1)?, time(3)?, time(4)?, kind)
            else {
                return Ok(None); // no column of these is null
            };
            let scopes = match row.get::<Vec<Option<String>>>(2)? {
                Some(texts) => Scopes::known(texts.iter().flatten().map(String::as_str)),
                None => Scopes::Unlimited,
            };
            Ok(Some(ReplacedToken {
                name,
                kind,
                scopes,
                lifetime: expires.seconds_since(created),
                claims: claims.map(|json::JsonbText(claims)| claims),
            }))
        })
    })
}

impl ToGrant {
    /// The user who is to have the token.
    pub fn user(&self) -> Uuid {
        self.0.user
    }
}

impl ToRevoke {
    /// The user whose tokens are to be revoked.
    pub fn user(&self) -> Uuid {
        self.user
    }

    /// The users whose tokens may be revoked with one of the user's.
    pub fn users(&self) -> Vec<Uuid> {
        let mut users = self.family.clone();
        users.push(self.user);
        users
    }
}

/// Makes this transaction and those that give the same user a token wait for each other, as [`caller::lock_user`] says.
pub fn lock_to_revoke(user: Uuid) -> ToRevoke {
    caller::lock_user(user);
    ToRevoke {
        user,
        family: Vec::new(),
    }
}

/// As [`lock_to_revoke`], with the locks of all users who have tokens that these tokens have made, or that those have
/// made, and so on, and of `others`. Whoever makes one more with any of them waits, so that nothing is missed.
pub fn lock_families(tokens: &[Uuid], others: &[Uuid]) -> BTreeSet<Uuid> {
    let others = others.iter().copied().collect();
    // Between the look and the lock one of them may have made another one, for one more user.
    caller::lock_all_found(others, || lookup::users_of_families(tokens))
}

/// As [`lock_to_revoke_by`], to revoke a token of the user and all that were made with it.
pub fn lock_family(caller: Option<&Caller>, user: Uuid, token: Uuid) -> ToRevoke {
    let own = caller
        .filter(|caller| !caller.is_trusted())
        .and_then(Caller::user);
    let others: Vec<Uuid> = own.into_iter().chain([user]).collect();
    let family = lock_families(&[token], &others);
    ToRevoke {
        user,
        family: family.into_iter().collect(),
    }
}

/// As [`lock_to_revoke`] for a caller who may be another user: then the lock of the caller is taken too, in its place.
pub fn lock_to_revoke_by(caller: &Caller, user: Uuid) -> ToRevoke {
    caller.lock_with(user);
    ToRevoke {
        user,
        family: Vec::new(),
    }
}

/// Takes the lock of [`lock_to_revoke_by`], and before it a lock on the signing keys, as [`ring::lock_to_sign`] says.
pub fn lock_to_grant(caller: &Caller, user: Uuid) -> ToGrant {
    ring::lock_to_sign();
    ToGrant(lock_to_revoke_by(caller, user))
}

fn uuid(value: Uuid) -> DatumWithOid<'static> {
    pg_uuid(value).into()
}
