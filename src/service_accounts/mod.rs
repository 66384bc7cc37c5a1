//! Service accounts: users without a login, whose tokens machines use. Whoever manages one, by the word of a function of the
//! operator's, mints, rotates, edits and revokes its tokens with the functions that there are for one's own.

mod tokens;

use pgrx::datum::Uuid as PgUuid;
use pgrx::prelude::*;
use supabase_pat_core::error::Error;
use supabase_pat_core::scope::{SERVICE_ACCOUNTS_DELETE, Scopes};
use supabase_pat_core::service_account::{check_description, check_name, described};
use uuid::{Builder, Uuid};

use crate::events::{self, About};
use crate::pg::clock::Instant;
use crate::pg::error::{SqlResult, reported};
use crate::pg::predicate::Predicate;
use crate::pg::uuid::{pg_uuid, to_uuid};
use crate::pg::{random, rights, settings};
use crate::request::caller::{self, Caller, Judged};
use crate::tokens::revocation;
use crate::tokens::store::{self, ToRevoke};
use crate::users::accounts::{self, NewAccount};

extension_sql_file!(
    "../../sql/service_accounts.sql",
    name = "service_accounts",
    requires = [
        "request",
        create_service_account,
        delete_service_account,
        tokens::service_account_tokens,
        service_account_problem
    ]
);

const CREATE: &str = "create service accounts";
const DELETE: &str = "delete service accounts";

#[pg_extern(schema = "public", requires = ["schema"])]
fn create_service_account(
    name: Option<&str>,
    description: default!(Option<&str>, "NULL"),
) -> SqlResult<PgUuid> {
    reported(|| {
        rights::require_writable("creating a service account")?;
        let caller = Caller::now()?;
        caller.check_may_create_account(CREATE)?;
        let name = name.ok_or(Error::NullArgument("the name of a service account"))?;
        check_name(name)?;
        let description = description.filter(|text| !text.is_empty());
        check_description(description.unwrap_or_default())?;
        accounts::require_table()?;

        let by = caller.judged_after(lock_creator(&caller))?;
        check_is_login_of_user(&caller, CREATE)?;
        if !caller.is_trusted()
            && let Creator(Some(user)) = *by
            && accounts::count_of(user) >= settings::max_service_accounts_per_user()
        {
            return Err(Error::TooManyServiceAccounts {
                max: settings::max_service_accounts_per_user(),
            });
        }
        let id = create(&by, name, description)?;
        Ok(pg_uuid(id))
    })
}

/// The user who creates an account, whose lock is held. Others who create one as the same user wait, so that each counts
/// those of the ones before. `None` for a trusted role that stands for no user.
#[derive(Clone, Copy)]
struct Creator(Option<Uuid>);

fn lock_creator(caller: &Caller) -> Creator {
    if let Some(user) = caller.user() {
        caller::lock_user(user);
    }
    Creator(caller.user())
}

fn create(by: &Judged<Creator>, name: &str, description: Option<&str>) -> Result<Uuid, Error> {
    let Creator(created_by) = **by;
    let id = Builder::from_random_bytes(random::bytes()?).into_uuid();
    let role = settings::authenticated_role();
    let account = NewAccount {
        id,
        name,
        description,
        role: &role,
        created_by,
    };
    accounts::create(&account, Instant::now())?;
    let detail = described(name, created_by);
    events::record("service_account_created", About::user(id), Some(&detail))?;
    Ok(id)
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn delete_service_account(id: Option<PgUuid>) -> SqlResult<bool> {
    reported(|| {
        rights::require_writable("deleting a service account")?;
        let caller = Caller::now()?;
        let id = to_uuid(id.ok_or(Error::NullArgument("id"))?);
        if !caller.manages_account(DELETE, id, SERVICE_ACCOUNTS_DELETE)? {
            return Ok(false);
        }
        check_is_login_of_user(&caller, DELETE)?;
        let to_delete = match caller.judged_after(store::lock_to_revoke_by(&caller, id)) {
            // Somebody else has deleted it meanwhile.
            Err(Error::UnknownServiceAccount(_)) => return Ok(false),
            judged => judged?,
        };
        delete(&caller, &to_delete)
    })
}

fn delete(caller: &Caller, to_delete: &Judged<ToRevoke>) -> Result<bool, Error> {
    let account = to_delete.user();
    if !accounts::is_account(account) {
        return Ok(false);
    }
    // The tokens would die with the user anyway. This is for the trail, and for what a trigger or a foreign key of
    // somebody else's puts in the user's way: then all is undone.
    revocation::revoke_all(to_delete, Instant::now())?;
    let Some(name) = accounts::delete(account)? else {
        return Ok(false);
    };
    let by = caller.user().filter(|&user| user != account);
    let detail = described(&name, by);
    events::record(
        "service_account_deleted",
        About::user(account),
        Some(&detail),
    )?;
    Ok(true)
}

/// Goes on only for a login that may mint tokens, or for a token that such a login has made: an application that acts for a
/// user creates and deletes no accounts, unless it may mint.
///
/// # Errors
/// Those of [`Caller::restrictions`].
fn check_is_login_of_user(caller: &Caller, verb: &'static str) -> Result<(), Error> {
    if let (false, Some(user)) = (caller.is_trusted(), caller.user()) {
        caller.restrictions(verb, user, &Scopes::Only(Vec::new()))?;
    }
    Ok(())
}

/// What is wrong with service accounts, for `pat.status()`.
#[pg_extern(stable, requires = ["schema"])]
fn service_account_problem() -> SqlResult<Option<String>> {
    reported(|| {
        rights::require_trusted("see the state of the installation")?;
        let manager = settings::service_account_manager().and_then(|name| {
            let role = rights::role(&settings::authenticated_role())?;
            let reason = Predicate::find(&name, role).err()?;
            let name = name.chars().filter(|c| !c.is_control());
            Some(format!(
                "supabase_pat.service_account_manager is {}, and {reason}",
                name.collect::<String>()
            ))
        });
        let problems: Vec<String> = manager.into_iter().chain(accounts::problem()?).collect();
        Ok((!problems.is_empty()).then(|| problems.join("; ")))
    })
}
