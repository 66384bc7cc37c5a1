//! Codes that are sent by e-mail: issue a code with its token, and find the user whom they belong to.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::prelude::*;
use supabase_pat_core::account::{Address, Holder};
use supabase_pat_core::codes::{self, Code, CodeToken, Database, NewCodeToken, Opener, Purpose};
use supabase_pat_core::error::Error;
use supabase_pat_core::guessing::{self, Chance};
use supabase_pat_core::jwt::Unverified;
use supabase_pat_core::sealed;
use supabase_pat_core::signing_key::SigningKey;
use supabase_pat_core::token;
use uuid::Uuid;

use crate::events::{self, About};
use crate::passwords::attempts::{self, Admission, CodeTry, Payers, TokenTries, table};
use crate::passwords::outbox::{self, Asker, NewMessage, Requests};
use crate::pg::clock::Instant;
use crate::pg::cluster;
use crate::pg::composite::{self, Field};
use crate::pg::random;
use crate::pg::rights;
use crate::pg::settings;
use crate::request::http::Origin;
use crate::sessions::known_networks;
use crate::signing_keys::ring::{self, KeysInUse};
use crate::users;

/// A code, and the token that goes with it.
pub struct IssuedCode {
    id: Uuid,
    purpose: Purpose,
    address: Address,
    code: Code,
    pub token: String,
    /// `None` if the address is nobody's.
    pub holder: Option<Holder>,
    /// If it is not, no code opens the token, and none must be sent.
    pub is_within_limit: bool,
    address_digest: [u8; 32],
    /// `None` for a backend, which sends the code itself.
    asker: Option<Asker>,
    created_at: Instant,
    expires_at: Instant,
}

/// A code that somebody asks for.
struct RequestedCode {
    address: Address,
    address_digest: [u8; 32],
    /// `None` if the address is nobody's.
    holder: Option<Holder>,
    purpose: Purpose,
    /// `None` for a backend, which sends the code itself.
    asker: Option<Asker>,
    /// If not, no code opens the token, and none must be sent.
    is_within_limit: bool,
}

/// All strangers together may ask for so many times the mails that one of them may ask for, so that many strangers do
/// not flood a mailbox.
const STRANGERS: usize = 4;

impl IssuedCode {
    /// A code to be sent by mail, within the limits for whoever makes the present request.
    pub fn new(address: Address, purpose: Purpose, now: Instant) -> Result<Self, Error> {
        let key = ring::signing_key()?;
        outbox::sweep(now, 100)?;
        let holder = users::by_address(&address, now)?;
        let asker = asker(&key, &address, holder.as_ref(), now)?;
        let address_digest = codes::digest(&key, &address)?;
        let requests = outbox::count_requests(&address_digest, purpose, &asker, now)?;
        let is_within_limit = is_within_limit(requests, &asker);
        let requested = RequestedCode {
            address,
            address_digest,
            holder,
            purpose,
            asker: Some(asker),
            is_within_limit,
        };
        Self::made(&key, requested, now)
    }

    /// A code that a trusted backend asks for, and sends itself. No limit is looked at: strangers who ask for codes
    /// must not keep a backend from getting one, and it has limits of its own, if any.
    pub fn for_backend(address: Address, purpose: Purpose, now: Instant) -> Result<Self, Error> {
        let key = ring::signing_key()?;
        outbox::sweep(now, 100)?;
        let holder = users::by_address(&address, now)?;
        let address_digest = codes::digest(&key, &address)?;
        let requested = RequestedCode {
            address,
            address_digest,
            holder,
            purpose,
            asker: None,
            is_within_limit: true,
        };
        Self::made(&key, requested, now)
    }

    fn made(key: &SigningKey, requested: RequestedCode, now: Instant) -> Result<Self, Error> {
        let RequestedCode {
            address,
            address_digest,
            holder,
            purpose,
            asker,
            is_within_limit,
        } = requested;
        table::recall(now)?;
        let id = token::new_id(now.unix_millis(), &random::bytes()?);
        let payers = payers(&address, holder.as_ref());
        let digits = match attempts::may_be_short(Some((payers, id.as_bytes())), now) {
            true => settings::reset_code_length(),
            false => guessing::LONG,
        };
        let code = draw(digits)?;
        let created_at = now.floor_to_second();
        let expires_at = created_at.plus_seconds(settings::reset_lifetime());
        let nothing = Opener::Nothing(random::bytes()?);
        let nobody = Holder::nobody();
        let token = NewCodeToken {
            purpose,
            id,
            address: &address,
            database: database(),
            opener: match is_within_limit {
                true => Opener::Code(&code),
                false => nothing,
            },
            digits: code.digits(),
            holder: holder.as_ref().unwrap_or(&nobody),
            issued_at: created_at.unix_seconds(),
            expires_at: expires_at.unix_seconds(),
        };
        let token = token.sign(key)?;
        Ok(Self {
            token,
            id,
            purpose,
            address,
            code,
            holder,
            is_within_limit,
            address_digest,
            asker,
            created_at: now,
            expires_at,
        })
    }

    /// Counts the code, and puts it into the outbox for the mail worker.
    pub fn put_into_outbox(&self) -> Result<(), Error> {
        let key = ring::signing_key()?;
        let purpose = self.purpose;
        let text =
            zeroize::Zeroizing::new(format!("{} {}", self.code.expose(), self.address.as_str()));
        let sealed = sealed::seal(&key, purpose, self.id, &text)?;
        outbox::insert(&NewMessage {
            id: self.id,
            purpose,
            address_digest: &self.address_digest,
            signing_key: key.id(),
            sealed: &sealed,
            is_deliverable: match (self.purpose, &self.holder) {
                (_, None) => false,
                (Purpose::Recovery, Some(_)) => true,
                // A user who has confirmed an address is not asked to do so again.
                (Purpose::SignUp, Some(holder)) => !holder.is_confirmed,
            },
            created_at: self.created_at,
            expires_at: self.expires_at,
            asker: self.asker.as_ref(),
        })
    }

    /// The row of a function that returns `pat.issued_reset_code`.
    pub fn into_row(
        self,
        call: pg_sys::FunctionCallInfo,
    ) -> Result<PgHeapTuple<'static, AllocatedByRust>, Error> {
        let expires_at: TimestampWithTimeZone = self.expires_at.to_timestamp()?;
        let fields = [
            Field::new(c"token", self.token),
            Field::new(c"code", self.code.expose()),
            Field::new(c"expires_at", expires_at),
        ];
        composite::result_row(call, fields)
    }
}

fn is_within_limit(requests: Requests, asker: &Asker) -> bool {
    let max = settings::reset_requests_per_hour();
    requests.of_asker < max && (asker.is_known || requests.of_strangers < STRANGERS * max)
}

/// Who asks for a mail to an address: a trusted role, or the network that the request comes from. All requests whose
/// address is not known count as those of one asker.
fn asker(
    key: &SigningKey,
    address: &Address,
    holder: Option<&Holder>,
    now: Instant,
) -> Result<Asker, Error> {
    let from = Origin::of_request().address.map(guessing::neighbourhood);
    let is_trusted = rights::is_trusted();
    let who = match from {
        _ if is_trusted => "trusted".to_owned(),
        Some(from) => from.to_string(),
        None => "unknown".to_owned(),
    };
    Ok(Asker {
        digest: codes::digest_of(key, &["asker", address.as_str(), &who])?,
        is_known: is_trusted
            || known_networks::is_known_here(
                holder.map(|holder| holder.user),
                Origin::of_request().address,
                now,
            )?,
    })
}

/// Whose allowances tries at the codes of an address are paid from. An address that is nobody's has an account of its
/// own too, so that its codes become long as early as those of others.
fn payers(address: &Address, holder: Option<&Holder>) -> Payers {
    let database = database();
    let user = holder.map(|holder| holder.user.to_string());
    // A backend asks for many users, so that nothing is counted for it.
    let from = match rights::is_trusted() {
        true => None,
        false => Origin::of_request().address.map(guessing::neighbourhood),
    };
    Payers {
        address: database.digest_of(&["address", address.as_str()]),
        account: match &user {
            Some(user) => database.digest_of(&["user", user]),
            None => database.digest_of(&["nobody", address.as_str()]),
        },
        caller: from.map(|from| database.digest_of(&["caller", &from.to_string()])),
    }
}

fn database() -> Database {
    Database {
        cluster: cluster::system_identifier(),
        oid: cluster::database().to_u32(),
        has_debug_code: debug_code().is_some(),
    }
}

fn debug_code() -> Option<Code> {
    settings::debug_reset_code().and_then(|code| Code::typed(&code))
}

fn draw(digits: u32) -> Result<Code, Error> {
    match debug_code() {
        Some(code) => {
            pgrx::log!(
                "supabase_pat.debug_reset_code is set: every reset code is the same, and known"
            );
            Ok(code)
        }
        None => Code::draw(digits, random::bytes),
    }
}

/// How many digits the next code has, if nobody has been guessing at its address.
pub fn usual_digits() -> u32 {
    match (debug_code(), attempts::may_be_short(None, Instant::now())) {
        (Some(code), _) => code.digits(),
        (None, true) => settings::reset_code_length(),
        (None, false) => guessing::LONG,
    }
}

/// The user whom a token and its code belong to, `None` if anything about them is not right.
///
/// A try at a short code is counted before the code is compared, and is taken back if the code is right. A try at a
/// long code is written down only for the trail of events.
pub fn holder_of(
    token: Option<&str>,
    code: Option<&str>,
    purpose: Purpose,
) -> Result<Option<Holder>, Error> {
    let (Some(token), Some(code)) = (token, code.and_then(Code::typed)) else {
        return Ok(None);
    };
    let Ok(token) = Unverified::parse(token) else {
        return Ok(None);
    };
    let keys = KeysInUse::for_token(&token)?;
    let keys = keys.borrow();
    let Ok(key) = keys.named_by(&token) else {
        return Ok(None);
    };
    let Ok(token) = CodeToken::read(&token, key, purpose) else {
        return Ok(None);
    };

    let written = table::written(token.id);
    let max = settings::reset_max_attempts();
    // One try beyond the limit is written down, so that the trail of events shows that there was one.
    if written > max {
        return Ok(None);
    }
    let now = Instant::now();
    let expires_at = Instant::from_unix_seconds(token.expires_at);
    let holder = users::by_address(&token.address, now)?;
    let user = holder.as_ref().map(|holder| holder.user);
    let database = database();
    let guess = CodeTry {
        token: token.id.into_bytes(),
        expires_at: token.expires_at,
        chance: match database.has_debug_code {
            true => Chance::NONE, // everybody knows it
            false => Chance::of_code(token.digits),
        },
        payers: payers(&token.address, holder.as_ref()),
    };
    let refused = |reason, chance| {
        table::write(token.id, expires_at, chance, guess.payers, now)?;
        events::record("reset_code_refused", About::user(user), Some(reason))?;
        Ok(None)
    };
    if expires_at <= now {
        return refused("the code has expired", Chance::NONE);
    }
    if guess.chance.is_none() {
        if written == max {
            return refused("the attempts are used up", Chance::NONE);
        }
    } else {
        table::recall(now)?;
        match guess.admit(TokenTries { written, max }, now) {
            Admission::Admitted => (),
            Admission::TokenUsedUp { just_now: true } => {
                return refused("the attempts are used up", Chance::NONE);
            }
            Admission::TokenUsedUp { just_now: false } => return Ok(None),
            // These leave no events, since there is no end to them. The wrong tries before them have left theirs, and
            // `pat.status()` reports that the allowance is used up.
            Admission::NothingLeft => return Ok(None),
        }
    }
    let nobody = Holder::nobody();
    let is_right = token.belongs_to(&code, holder.as_ref().unwrap_or(&nobody), database, key);
    match (is_right, holder) {
        (true, Some(holder)) => {
            guess.take_back();
            Ok(Some(holder))
        }
        (_, Some(_)) => refused(
            "the code is wrong, or the account has changed since",
            guess.chance,
        ),
        (_, None) => refused("the address is nobody's", guess.chance),
    }
}
