//! Settings for each user: the application declares them, its users set them, and a request can override them.

pub mod store;

use pgrx::prelude::*;
use supabase_pat_core::error::Error;
use supabase_pat_core::user_settings::{Declaration, Definition, Layers};
use uuid::Uuid;

use crate::pg::clock::Instant;
use crate::pg::error::{SqlResult, reported};
use crate::pg::json::JsonbText;
use crate::pg::rights;
use crate::pg::settings;
use crate::request::caller::Caller;
use crate::request::run;

extension_sql_file!(
    "../../sql/user_settings.sql",
    name = "user_settings",
    requires = [
        "request",
        define_setting,
        drop_setting,
        get_settings,
        set_settings,
        setting_definitions
    ]
);

const SETTINGS_READ: &str = "settings:read";
const SETTINGS_WRITE: &str = "settings:write";

#[pg_extern(requires = ["schema"])]
fn define_setting(
    key: Option<&str>,
    default_value: Option<JsonbText>,
    schema: default!(Option<JsonbText>, "NULL"),
    overridable: default!(Option<bool>, "true"),
) -> SqlResult<()> {
    reported(|| {
        rights::require_trusted("define settings")?;
        rights::require_writable("defining a setting")?;
        let key = key.ok_or(Error::NullArgument("key"))?;
        let JsonbText(default) = default_value.ok_or(Error::NullArgument("default_value"))?;
        let is_overridable = overridable.ok_or(Error::NullArgument("overridable"))?;
        let schema = schema.map(|JsonbText(schema)| schema);
        let declaration = Declaration {
            key: key.to_owned(),
            default,
            schema,
            is_overridable,
        };
        let definition = Definition::declare(declaration, store::check_for_interrupts)?;

        store::lock_to_define();
        match store::users_who_do_not_fit(&definition)? {
            0 => store::define(&definition, Instant::now()),
            users => Err(Error::SettingInUse {
                key: key.to_owned(),
                users,
            }),
        }
    })
}

#[pg_extern(requires = ["schema"])]
fn drop_setting(key: Option<&str>) -> SqlResult<bool> {
    reported(|| {
        rights::require_trusted("drop settings")?;
        rights::require_writable("dropping a setting")?;
        let key = key.ok_or(Error::NullArgument("key"))?;
        store::lock_to_define();
        store::remove(key, Instant::now())
    })
}

#[pg_extern(schema = "public", stable, parallel_safe, requires = ["schema"])]
fn get_settings(overrides: default!(Option<JsonbText>, "'{}'")) -> SqlResult<JsonbText> {
    reported(|| {
        let own = readable_owner()?.and_then(store::of_user);
        effective(Layers {
            own: own.as_deref(),
            overrides: overrides.as_ref().map(|JsonbText(text)| text.as_str()),
        })
    })
}

#[pg_extern(schema = "public", requires = ["schema"])]
fn set_settings(patch: Option<JsonbText>) -> SqlResult<JsonbText> {
    reported(|| {
        rights::require_writable("changing settings")?;
        let caller = Caller::now()?;
        let user = caller.user().ok_or(Error::NoOwnSettings)?;
        caller.require_scope("change settings", SETTINGS_WRITE)?;
        let JsonbText(patch) = patch.ok_or(Error::NullArgument("patch"))?;

        let to_set = store::lock_to_set(user);
        let own = store::lock_row(&to_set)?;
        let to_set = caller.judged_after(to_set)?;
        let max_size = settings::max_settings_size();
        let own = store::definitions().patched(own.as_deref(), &patch, max_size)?;
        store::set(&to_set, &own, Instant::now())?;
        effective(Layers {
            own: readable_owner()?.map(|_| own.as_str()),
            overrides: None,
        })
    })
}

/// It shows what the application has declared, and nothing of a user: so it asks for no login that is live.
#[pg_extern(schema = "public", stable, parallel_safe, requires = ["schema"])]
fn setting_definitions() -> JsonbText {
    JsonbText(store::definitions().described())
}

/// The settings that count: the user's own over the defaults, and the overrides of the request over both.
fn effective(layers: Layers) -> Result<JsonbText, Error> {
    let definitions = store::definitions();
    definitions
        .effective(layers, settings::max_settings_size())
        .map(JsonbText)
}

/// The user whose own settings this request may see. `None` for a token that is dead, or whose scopes leave the
/// settings out, and for a login whose session has ended: such a request gets the defaults, as the policy on the table
/// would show it no row.
fn readable_owner() -> Result<Option<Uuid>, Error> {
    let scope = SETTINGS_READ.parse()?;
    Ok(run::with_request(|request| {
        match request.has_scope(&scope) && request.is_active() {
            true => request.identity.user,
            false => None,
        }
    }))
}
