//! UUIDs as Postgres has them.

use pgrx::datum::Uuid as PgUuid;
use uuid::Uuid;

/// A UUID for Postgres.
pub fn pg_uuid(value: Uuid) -> PgUuid {
    PgUuid::from_bytes(value.into_bytes())
}

/// A UUID from Postgres.
pub fn to_uuid(value: PgUuid) -> Uuid {
    Uuid::from_bytes(*value.as_bytes())
}
