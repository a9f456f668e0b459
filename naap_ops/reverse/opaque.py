"""Whether what a statement does can be told from its text: DO, CALL and SELECT of a function hide it."""

from __future__ import annotations

from typing import Any, Final

from naap_ops.reverse.relations import messages

# Functions of pg_catalog that change nothing, or only the session. setval and the like are not here: they change rows' future.
_HARMLESS: Final = frozenset(
    [
        "abs",
        "array_agg",
        "array_length",
        "array_to_string",
        "avg",
        "bool_and",
        "bool_or",
        "btrim",
        "cardinality",
        "ceil",
        "char_length",
        "clock_timestamp",
        "coalesce",
        "concat",
        "concat_ws",
        "count",
        "current_database",
        "current_schema",
        "current_setting",
        "date_part",
        "date_trunc",
        "dense_rank",
        "encode",
        "every",
        "exists",
        "extract",
        "first_value",
        "floor",
        "format",
        "gen_random_uuid",
        "generate_series",
        "greatest",
        "initcap",
        "json_agg",
        "json_build_array",
        "json_build_object",
        "json_object_agg",
        "jsonb_agg",
        "jsonb_array_elements",
        "jsonb_array_elements_text",
        "jsonb_array_length",
        "jsonb_build_array",
        "jsonb_build_object",
        "jsonb_each",
        "jsonb_object_agg",
        "jsonb_object_keys",
        "jsonb_set",
        "jsonb_typeof",
        "lag",
        "last_value",
        "lead",
        "least",
        "left",
        "length",
        "lower",
        "lpad",
        "ltrim",
        "make_interval",
        "max",
        "md5",
        "min",
        "mod",
        "now",
        "nullif",
        "overlay",
        "pg_get_serial_sequence",
        "pg_sleep",
        "pg_typeof",
        "position",
        "random",
        "rank",
        "regexp_match",
        "regexp_matches",
        "regexp_replace",
        "regexp_split_to_array",
        "regexp_split_to_table",
        "replace",
        "reverse",
        "right",
        "round",
        "row_number",
        "row_to_json",
        "rpad",
        "rtrim",
        "set_config",
        "sha256",
        "split_part",
        "starts_with",
        "string_agg",
        "string_to_array",
        "strpos",
        "substr",
        "substring",
        "sum",
        "timezone",
        "to_char",
        "to_date",
        "to_json",
        "to_jsonb",
        "to_number",
        "to_regclass",
        "to_timestamp",
        "translate",
        "trim",
        "trunc",
        "unnest",
        "upper",
        "version",
    ]
)


def is_opaque(node: Any) -> bool:
    """True for DO, CALL, EXECUTE, and for a SELECT that calls a function which is not known to change nothing."""
    kind = node.DESCRIPTOR.name
    if kind in ("DoStmt", "CallStmt", "ExecuteStmt"):
        return True
    return kind == "SelectStmt" and any(each.DESCRIPTOR.name == "FuncCall" and not _harmless(each) for each in messages(node))


def _harmless(call: Any) -> bool:
    parts = [each.string.sval for each in call.funcname]
    return parts[-1] in _HARMLESS and (len(parts) == 1 or parts[0] == "pg_catalog")
