"""After an emergency: what the migration touched is left by default, everything else comes over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from naap_ops.errors import Refused
from naap_ops.postgres.scratch import ScratchServer
from tests import emergencies
from tests.emergencies import Scene
from tests.integration.prisma.conftest import SCRIPTS, WALLET

SCRIPT = """
CREATE TABLE "Wallet" ("id" INTEGER NOT NULL, CONSTRAINT "Wallet_pkey" PRIMARY KEY ("id"));
ALTER TABLE "Profile" ADD COLUMN "wallet" INTEGER REFERENCES "Wallet";
WITH gone AS (DELETE FROM "Cleared" RETURNING 1) SELECT 1;
UPDATE "Filled" SET "v" = 'by the migration' WHERE "id" = 1;
DO $$ BEGIN UPDATE "Hidden" SET "v" = 'by the migration' WHERE "id" = 1; END $$;
"""
TABLES = ("Cleared", "Below", "Filled", "Hidden", "Free")
SALVAGE = ("salvage", "--since-backup", "--yes", "--json")


@pytest.fixture
def scene(any_server: ScratchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Writes after the backup to tables that the migration touches in every way, and to one that it only refers to."""
    monkeypatch.setitem(SCRIPTS, WALLET, SCRIPT)
    deploy = Scene.deploy

    def deployed(scene: Scene, name: str) -> None:
        if name != WALLET:
            deploy(scene, name)
            return
        for table in TABLES:
            scene.sql(f'create table "{table}" (id int primary key, v text); insert into "{table}" values (1, \'base\')')
        scene.sql('alter table "Below" add foreign key (id) references "Cleared" on delete cascade')
        scene.backup()
        deploy(scene, name)
        for table in ("Cleared", "Below", "Filled", "Hidden", "Free"):
            scene.sql(f"insert into \"{table}\" values (2, 'since')")

    monkeypatch.setattr(Scene, "deploy", deployed)
    with emergencies.scene(any_server, tmp_path) as scene:
        yield scene


def tables(scene: Scene, *words: str) -> dict[str, tuple[int, ...]]:
    answer = scene.run(*SALVAGE, *words)
    assert answer.code == 0, answer.err
    return {
        name.removeprefix("public."): tuple(each[key] for key in ("inserted", "updated", "deleted", "left"))
        for name, each in answer.json["tables"].items()
    }


def test_what_the_migration_touched(scene: Scene) -> None:
    done = scene.run("emergency", "--migration", "wallet", "--yes", "--json")
    assert done.code == 0, done.err
    assert any("invoke salvage --since-backup" in line for line in done.json["todo"])
    books = scene.books
    found = tables(scene)
    assert found == {
        "Free": (1, 0, 0, 0),
        "User": (2, 0, 0, 0),
        "Cleared": (0, 0, 0, 1),
        "Below": (0, 0, 0, 1),
        "Filled": (0, 0, 0, 2),
        "Hidden": (0, 0, 0, 2),
        "Wallet": (0, 0, 0, 2),
    }
    assert scene.users == 5
    [archived] = scene.app().archive.glob(f"*/{WALLET}")
    archived.rename(scene.folder / "elsewhere")
    refused = scene.run(*SALVAGE)
    assert (refused.code, WALLET in refused.err, "--all" in refused.err) == (Refused.exit_code, True, True)
    found = tables(scene, "--all")
    assert found == {
        "Cleared": (1, 0, 1, 0),
        "Below": (1, 0, 1, 0),
        "Filled": (1, 1, 0, 0),
        "Hidden": (1, 1, 0, 0),
        "Wallet": (0, 0, 0, 2),
    }
    assert scene.books == books
