//! How tokens are looked up: by direct index scans, for the reasons in [`crate::pg::scan`].

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use pgrx::pg_sys;
use supabase_pat_core::attributes::Attributes;
use supabase_pat_core::error::Error;
use supabase_pat_core::opaque_token::{self, OpaqueToken};
use supabase_pat_core::presented;
use supabase_pat_core::rate::Limits;
use supabase_pat_core::scope::Scopes;
use uuid::Uuid;

use crate::pg::clock::Instant;
use crate::pg::column::{BytesCopy, Column, JsonCopy, TextCopy, TextsCopy};
use crate::pg::net::Networks;
use crate::pg::relations::Indexed;
use crate::pg::scan::{Sought, SoughtDigest, expect, look, look_at_both};
use crate::request::liveness::live_until;
use crate::request::tables::{Origins, Tokens};
use crate::users::state::{self, Named, UserState, Users, named_state_of, state_of};

/// A token, dead or alive, as its row and that of its user say.
#[derive(Clone, Copy)]
pub struct StoredToken {
    pub id: Uuid,
    pub user: Uuid,
    pub user_state: UserState,
    pub created_at: Instant,
    pub expires_at: Instant,
    pub is_revoked: bool,
    pub is_disabled: bool,
    pub limits: Limits,
    /// These four are in the memory context that was current when they were read.
    scopes: Option<TextsCopy>,
    allowed_ips: Option<Networks>,
    token_digest: Option<BytesCopy>,
    attributes: Option<JsonCopy>,
}

impl StoredToken {
    /// The scopes that the row lists. All, if it has no list.
    pub fn scopes(&self) -> Scopes {
        match self.scopes {
            Some(texts) => Scopes::known(texts.to_texts().iter().flatten().map(String::as_str)),
            None => Scopes::Unlimited,
        }
    }

    /// What a JWT with these scopes in its claims may do: what its row lists too, if that has a list. It may have been
    /// given a shorter one since the token was signed.
    pub fn narrow(&self, claimed: &Scopes) -> Scopes {
        match self.scopes() {
            Scopes::Unlimited => claimed.clone(),
            listed => claimed.meet(&listed),
        }
    }

    pub fn attributes(&self) -> Attributes {
        self.attributes_text()
            .map_or(Attributes::default(), |text| Attributes::parse(&text))
    }

    /// A JSON object.
    pub fn attributes_text(&self) -> Option<String> {
        self.attributes.map(JsonCopy::into_text)
    }

    /// Whether it counts only where the gate has judged it.
    pub fn needs_gate(&self) -> bool {
        self.is_limited() || self.scopes.is_some()
    }

    /// Whether it is neither revoked nor disabled nor expired at `now`, and its user may log in.
    pub fn is_live(&self, now: Instant) -> bool {
        !self.is_revoked
            && !self.is_disabled
            && self.expires_at > now
            && self.user_state == UserState::Active
    }

    /// Whether it is for certain addresses, or has a limit: what nobody but the gate can hold it to.
    pub fn is_limited(&self) -> bool {
        !self.limits.is_none() || self.allowed_ips.is_some()
    }

    /// The networks that it may be used from. `None` for all.
    pub fn allowed_networks(&self) -> Option<Networks> {
        self.allowed_ips
    }
}

/// A token with what people know it by, and its user.
#[derive(Clone, Copy)]
pub struct Described {
    pub token: StoredToken,
    /// It is in the memory context that was current when it was read.
    pub name: Option<TextCopy>,
    pub user: Named,
}

/// The token of that id, dead or alive.
pub fn by_id(id: Uuid) -> Option<StoredToken> {
    find::<false, _>(|tokens| (tokens.id, tokens.by_id), &id).map(|found| found.token)
}

/// The opaque token of that digest, dead or alive.
pub fn by_digest(digest: &opaque_token::Digest) -> Option<StoredToken> {
    find_digest::<false>(digest).map(|found| found.token)
}

/// As [`by_id`], with what people know it by.
pub fn described_by_id(id: Uuid) -> Option<Described> {
    find::<true, _>(|tokens| (tokens.id, tokens.by_id), &id)
}

/// As [`by_text`], with what people know it by.
pub fn described_by_text(text: &str) -> Option<Described> {
    find_digest::<true>(&digest_of(text)?)
}

fn find_digest<const DESCRIBED: bool>(digest: &opaque_token::Digest) -> Option<Described> {
    let sought = SoughtDigest::new(&digest.0);
    let found = find::<DESCRIBED, _>(|tokens| (tokens.token_digest, tokens.by_digest), &sought);
    found.filter(|found| {
        let stored = found.token.token_digest;
        stored.is_some_and(|stored| digest.is(&stored.to_bytes()))
    })
}

/// The opaque token of that text, dead or alive: one of ours, or an imported one. Only what is a whole token of ours,
/// or no longer than an imported one may be, is looked up.
pub fn by_text(text: &str) -> Option<StoredToken> {
    by_digest(&digest_of(text)?)
}

fn digest_of(text: &str) -> Option<opaque_token::Digest> {
    match OpaqueToken::parse(text) {
        Some(token) => Some(token.digest()),
        None => presented::digest_of_imported(text),
    }
}

/// Only what is `DESCRIBED` has a name and a user's: each request asks for the rest.
fn find<const DESCRIBED: bool, T: Indexed>(
    by: fn(&Tokens) -> (Column<T>, pg_sys::Oid),
    sought: &impl Sought<T>,
) -> Option<Described> {
    look_at_both::<Tokens, Users, _>(|tokens, users| {
        let layout = &tokens.layout;
        let (column, index) = by(layout);
        let mut found: Option<StoredToken> = None;
        let mut name = None;
        tokens.row_with(column, index, sought, |row| {
            found = row
                .get(layout.id)
                .zip(row.get(layout.user_id))
                .map(|(id, user)| StoredToken {
                    id,
                    user,
                    user_state: UserState::Gone,
                    created_at: row.get(layout.created_at).unwrap_or(Instant::END),
                    expires_at: row.get(layout.expires_at).unwrap_or(Instant::END),
                    is_revoked: row.has(layout.revoked_at),
                    is_disabled: layout.is_disabled(row),
                    limits: layout.limits(row),
                    scopes: row.get(layout.scopes),
                    allowed_ips: row.get(layout.allowed_ips),
                    token_digest: row.get(layout.token_digest),
                    attributes: layout.attributes.as_expected().and_then(|it| row.get(it)),
                });
            if DESCRIBED {
                name = row.get(layout.name);
            }
        });
        found.map(|token| {
            let (user_state, user) = match DESCRIBED {
                true => named_state_of(users, &token.user),
                false => (state_of(users, &token.user), Named::default()),
            };
            let token = StoredToken {
                user_state,
                ..token
            };
            Described { token, name, user }
        })
    })?
}

/// The user of a token, dead or alive. The user of a token never changes.
pub fn owner_of(id: Uuid) -> Option<Uuid> {
    look::<Tokens, _>(|tokens| {
        let layout = &tokens.layout;
        let mut owner = None;
        tokens.row_with(layout.id, layout.by_id, &id, |row| {
            owner = row.get(layout.user_id);
        });
        owner
    })?
}

/// The users who have tokens that these tokens have made, that those have made, and so on. They are other ones than the
/// users of these tokens where service accounts got tokens by them.
pub fn users_of_families(tokens: &[Uuid]) -> BTreeSet<Uuid> {
    let mut users = BTreeSet::new();
    let mut seen: BTreeSet<Uuid> = tokens.iter().copied().collect();
    let mut next: Vec<Uuid> = tokens.to_vec();
    while let Some(maker) = next.pop() {
        let mut made = Vec::new();
        let found = look::<Origins, _>(|origins| {
            let layout = &origins.layout;
            origins.rows_with(layout.made_by, layout.by_maker, &maker, |row| {
                made.extend(row.get(layout.key_id).zip(row.get(layout.user_id)));
                ControlFlow::Continue(())
            });
        });
        expect::<Origins, _>(found);
        for (token, user) in made {
            users.insert(user);
            if seen.insert(token) {
                next.push(token);
            }
        }
    }
    users
}

/// The user of a token that has made or was made by another one, also if it has been deleted since.
pub fn owner_by_origin(token: Uuid) -> Option<Uuid> {
    let found = look::<Origins, _>(|origins| {
        let layout = &origins.layout;
        let mut owner = None;
        origins.rows_with(layout.key_id, layout.by_id, &token, |row| {
            owner = row.get(layout.user_id);
            ControlFlow::Break(())
        });
        owner
    });
    expect::<Origins, _>(found).flatten()
}

/// Whether a user is active, banned or gone, and how many live tokens they have.
///
/// # Errors
/// [`Error::NoUsersTable`].
pub fn standing_of(user: Uuid) -> Result<(UserState, usize), Error> {
    let standing = look_at_both::<Tokens, Users, _>(|tokens, users| {
        let layout = &tokens.layout;
        let mut count = 0;
        tokens.rows_with(layout.user_id, layout.by_user, &user, |row| {
            count += usize::from(live_until(layout, row).is_some());
            ControlFlow::Continue(())
        });
        (state_of(users, &user), count)
    });
    match standing {
        Some(standing) => Ok(standing),
        None if state::table().is_none() => Err(Error::NoUsersTable),
        None => Err(Error::UnfitTable("pat.api_keys".into())),
    }
}
