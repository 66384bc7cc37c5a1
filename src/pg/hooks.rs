//! Postgres's hooks that more than one part of the library hangs into.

/// Defines the hook `$name` for commands that are not planned: it runs `$before` with the statement, calls on what was
/// there before it, which is in `$next`, and unless the command fails runs `$after` with what `$before` has returned.
///
/// It has no guard of pgrx's, so that errors of other people's commands pass through it as they are: `$before` must hold
/// and return nothing that needs dropping.
macro_rules! utility_hook {
    ($name:ident, $next:ident, |$statement:ident| $before:expr) => {
        $crate::pg::hooks::utility_hook!($name, $next, |$statement| $before, |_before| ());
    };
    ($name:ident, $next:ident, |$statement:ident| $before:expr, |$returned:ident| $after:expr) => {
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
                let $returned = $before;
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
                );
                $after
            }
        }
    };
}

pub(crate) use utility_hook;
