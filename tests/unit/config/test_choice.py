"""Which of several URLs is taken."""

from __future__ import annotations

from naap_ops.config.choice import Candidate, candidates, choose
from naap_ops.config.envfiles import EnvFile

DIRECT = "postgresql://u:p@h:5432/app"
POOLED = "postgresql://u:p@h:6432/app?pgbouncer=true"


def taken(environ: dict[str, str], *files: EnvFile) -> Candidate:
    found = choose(list(candidates(environ, files)))
    assert found is not None
    return found


def test_nothing_offered() -> None:
    assert choose([]) is None


def test_preferred_names_first() -> None:
    every = {name: f"{DIRECT}?n={i}" for i, name in enumerate(["DATABASE_URL", "DATABASE_URL_UNPOOLED", "DIRECT_URL"])}
    assert taken({**every, "NAAP_OPS_DATABASE_URL": DIRECT}).source == "environment NAAP_OPS_DATABASE_URL"
    assert taken(every).source == "environment DIRECT_URL"
    del every["DIRECT_URL"]
    assert taken(every).source == "environment DATABASE_URL_UNPOOLED"
    del every["DATABASE_URL_UNPOOLED"]
    assert taken(every).source == "environment DATABASE_URL"


def test_the_process_outranks_the_files_and_the_first_file_the_second() -> None:
    first, second = EnvFile(".env", {"DATABASE_URL": DIRECT}), EnvFile("b/.env", {"DIRECT_URL": DIRECT})
    assert taken({"DATABASE_URL": DIRECT}, first, second).source == "environment DATABASE_URL"
    assert taken({}, first, second).source == ".env DATABASE_URL"
    assert taken({"DATABASE_URL": ""}, second).label == "DIRECT_URL in b/.env"


def test_a_pooled_url_gives_way_to_a_direct_one_and_says_so() -> None:
    found = taken({"DATABASE_URL": POOLED}, EnvFile(".env", {"DIRECT_URL": DIRECT}))
    assert found.url == DIRECT
    assert found.source == ".env DIRECT_URL (instead of DATABASE_URL in the environment, which is pooled)"


def test_accelerate_gives_way_too() -> None:
    found = taken(
        {"DATABASE_URL": "prisma://accelerate.prisma-data.net/?api_key=k", "NAAP_OPS_DATABASE_URL": ""},
        EnvFile(".env", {"DATABASE_URL": DIRECT}),
    )
    assert found.url == DIRECT


def test_only_pooled_ones() -> None:
    found = taken({"DATABASE_URL": POOLED, "DIRECT_URL": POOLED})
    assert (found.url, found.label) == (POOLED, "DIRECT_URL in the environment")


def test_a_direct_url_of_another_database_is_not_taken() -> None:
    other = "postgresql://u:p@localhost/scribble"
    found = taken({"DATABASE_URL": POOLED}, EnvFile(".env", {"DIRECT_URL": other}))
    assert found.url == POOLED
    assert "DIRECT_URL in .env is direct, but names another database" in found.label


def test_garbage_does_not_give_way() -> None:
    found = taken({"DIRECT_URL": "mysql://u:p@h/app", "DATABASE_URL": DIRECT})
    assert found.url.startswith("mysql")


def test_a_flag_does_not_give_way() -> None:
    found = choose([Candidate(POOLED, "flag --url", "--url", fixed=True), *candidates({"DIRECT_URL": DIRECT}, [])])
    assert found is not None
    assert found.url == POOLED


def test_repr_shows_no_password() -> None:
    assert "u:p@" not in repr(taken({"DIRECT_URL": DIRECT}))
