"""What a migration that was rolled back leaves behind, and what real Prisma makes of it; untracked, all of them are content.

Each case: what became of row and folder of the newest migration, whose schema has been reverted. The words are those of
``Prisma.status``, ``dev`` and ``deploy``; a dictionary where generations differ.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.integration.prisma.conftest import INIT, PROFILE, WALLET, Site
from tests.prisma.engines import Prisma

Words = str | dict[str, str]


def forget(site: Site) -> None:
    site.sql(f"delete from _prisma_migrations where migration_name = '{WALLET}'")


def remove(site: Site) -> None:
    shutil.rmtree(site.migrations / WALLET)


def mark(site: Site) -> None:
    site.sql(f"update _prisma_migrations set rolled_back_at = now() where migration_name = '{WALLET}'")


def fail(site: Site) -> None:
    site.sql(f"update _prisma_migrations set finished_at = null, logs = 'boom' where migration_name = '{WALLET}'")


def empty(site: Site) -> None:
    (site.migrations / WALLET / "migration.sql").unlink()


def nested(site: Site) -> None:
    """Put away, but inside of the migrations."""
    forget(site)
    (site.migrations / "_archive").mkdir()
    shutil.move(site.migrations / WALLET, site.migrations / "_archive" / WALLET)


@dataclass(frozen=True)
class Case:
    """``ours`` is what `invoke status` says of the migration, None: nothing. ``again``: deploy applies it once more."""

    changes: tuple[Callable[[Site], None], ...]
    ours: str | None
    status: Words
    dev: Words
    deploy: Words = "nothing"

    @staticmethod
    def word(words: Words, generation: str) -> str:
        return words if isinstance(words, str) else words[generation]


CASES = {
    "row deleted, folder removed": Case((forget, remove), None, "clean", "clean"),
    "row deleted, folder kept": Case((forget,), "pending", "behind", "clean", "again"),
    "row kept, folder removed": Case((remove,), "folder_missing", {"6": "clean", "7.8": "ahead", "7.9": "ahead"}, "reset"),
    "row kept, folder kept": Case((), "applied", "clean", "reset"),
    "row rolled back, folder kept": Case(
        (mark,), "rolled_back", {"6": "clean", "7.8": "clean", "7.9": "behind"}, "clean", "again"
    ),
    "row rolled back, folder removed": Case(
        (mark, remove), "undone", {"6": "clean", "7.8": "ahead", "7.9": "clean"}, {"7.8": "reset", "7.9": "clean"}
    ),
    "row failed, folder kept": Case((fail,), "failed", "failed", "reset", "P3009"),
    "row failed and resolved, folder removed": Case(
        (fail, mark, remove), "undone", {"6": "clean", "7.8": "ahead", "7.9": "clean"}, {"7.8": "reset", "7.9": "clean"}
    ),
    "row kept, folder empty": Case((empty,), "script_missing", "P3015", "P3015"),
    "folder archived inside migrations": Case((nested,), None, "behind", "P3015", "P3015"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_what_is_left_and_untracked(site: Site, prisma: Prisma, name: str) -> None:
    case = CASES[name]
    assert prisma.deploy() == [INIT, PROFILE, WALLET]
    site.sql('drop table "Wallet"')
    for change in case.changes:
        change(site)

    assert site.states().get(WALLET) == case.ours
    assert prisma.status() == case.word(case.status, prisma.generation)
    if prisma.generation != "6":
        assert prisma.dev() == case.word(case.dev, prisma.generation)
    done = prisma.deploy()
    assert done == {"again": [WALLET], "nothing": []}.get(case.word(case.deploy, prisma.generation), case.deploy)
    site.sql('drop table if exists "Wallet"')

    ref = "_archive" if case.changes == (nested,) else WALLET
    if case.ours is not None or ref == "_archive":
        untracked = site.run("untrack", "--migration", ref, "--yes", "--json")
        assert untracked.code == 0, untracked.err
    content(site, prisma)


@pytest.mark.slow
def test_a_middle_one_when_the_later_ones_run_without_it(site: Site, prisma: Prisma) -> None:
    prisma.deploy()
    site.sql('drop table "Profile"')
    refused = site.run("untrack", "--migration", PROFILE, "--yes", "--json")
    assert refused.code == 17
    assert WALLET in refused.json["message"]
    assert site.run("untrack", "--migration", PROFILE, "--any-age", "--yes").code == 0
    content(site, prisma)


def content(site: Site, prisma: Prisma) -> None:
    """Everybody is: status, dev, deploy, and `invoke status`."""
    assert prisma.status() == "clean"
    if prisma.generation != "6":
        assert prisma.dev() == "clean"
    assert prisma.deploy() == []
    assert site.run("status").code == 0
