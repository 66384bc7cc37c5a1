//! Postgres's hooks that more than one part of the library hangs into.

/// Defines the hook `$name` for commands that are not planned: it runs `$before` with the statement, and calls on what
/// was there before it, which is in `$next`.
///
/// It has no guard of pgrx's, so that errors of other people's commands pass through it as they are: `$before` must hold
/// nothing that needs dropping.
macro_rules! utility_hook {
    ($name:ident, $next:ident, |$statement:ident| $before:expr) => {
        unsafe extern "C-unwind" fn $name(
            $statement: *mut pgrx::pg_sys::PlannedStmt,
            text: *const std::ffi::c_char,
            is_read_only: bool,
            context: pgrx::pg_sys::ProcessUtilityContext::Type,
            parameters: pgrx::pg_sys::ParamListInfo,
            environment: *mut pgrx::pg_sys::QueryEnvironment,
            destination: *mut pgrx::pg_sys::DestReceiver,
            completion: *mut pgrx::pg_sys::QueryCompletion,
        ) {
            // SAFETY: Postgres passes what it would pass to the function that executes commands.
            unsafe {
                $before;
                let next = match *$next.get() {
                    Some(next) => next,
                    None => $crate::pg::unguarded::standard_ProcessUtility,
                };
                next(
                    $statement,
                    text,
                    is_read_only,
                    context,
                    parameters,
                    environment,
                    destination,
                    completion,
                )
            }
        }
    };
}

pub(crate) use utility_hook;
