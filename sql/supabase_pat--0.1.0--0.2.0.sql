-- From 0.1.0 to 0.2.0. docs/releasing.md says what an upgrade script has to mind.
\echo Use "alter extension supabase_pat update" to load this file. \quit
