"""`invoke rollback` and `untrack` where each tenant keeps its own books: what is lost in whose schema, and who is left."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.fleet.conftest import OPTIONAL, SETTINGS, USER, Fleet

TENANT = "insert into {}.tenants (id, slug, name, settings) values ('t', 's', 'n', '{{\"a\": 1}}')"


def rollback(fleet: Fleet, *words: str, migration: str = "latest", code: int = 0) -> dict[str, Any]:
    done = fleet.run("rollback", "--migration", migration, "--yes", "--json", *words)
    assert done.code == code, done.err
    return done.json


@pytest.fixture
def deployed(fleet: Fleet) -> Fleet:
    """core and its tenants, with the settings applied; the reverse was proved in core."""
    fleet.write(SETTINGS)
    assert fleet.run("deploy", "--yes").code == 0
    assert fleet.run("deploy", "--all-tenants", "--yes").code == 0
    return fleet


def test_the_losses_are_those_of_the_schemas_that_are_meant(deployed: Fleet) -> None:
    """Wherever the reverse was proved."""
    deployed.sql(TENANT.format("core"), TENANT.format("tenant_02"), TENANT.format("tenant_03"))
    one = rollback(deployed, "--tenant", "02", "--strategy", "reverse", "--no-park", "--dry-run")
    assert one["lost"] == {"tenant_02.tenants": 1}
    assert "loses values of tenant_02.tenants.settings (1 row)" in " ".join(one["plan"])
    none = rollback(deployed, "--tenant", "01", "--no-park", "--dry-run")
    assert none["lost"] == {}
    every = rollback(deployed, "--all-tenants", "--strategy", "reverse", "--no-park", "--dry-run")
    assert every["lost"] == dict.fromkeys(("core.tenants", "tenant_02.tenants", "tenant_03.tenants"), 1)
    assert "loses values of *.tenants.settings (3 rows)" in " ".join(every["plan"])


def test_what_a_restore_has_kept_does_not_hold_the_folder_back(deployed: Fleet) -> None:
    """The kept schema has books, too: they are nobody's."""
    backup = deployed.backup()
    assert deployed.run("restore", "--backup", backup.id, "--schema", "tenant_02", "--yes").code == 0
    done = rollback(deployed, "--all-tenants")
    assert sorted(done["untracked"]) == list(deployed.schemas)
    assert not (deployed.migrations / SETTINGS).exists()
    assert deployed.run("status", "--all-tenants").code == 0


def test_rows_that_stand_in_the_way_of_one(deployed: Fleet) -> None:
    deployed.write(OPTIONAL)
    assert deployed.run("deploy", "--all-tenants", "--yes").code == 0
    deployed.sql(USER.format("tenant_01"), "update tenant_01.users set name = null")
    plan = " ".join(rollback(deployed, "--all-tenants", "--strategy", "reverse", "--dry-run")["plan"])
    assert "tenant_01 will be left behind: 1 row of tenant_01.users.name" in plan
    assert "--default tenant_01.users.name=VALUE, or --park-rows" in plan
    told = rollback(deployed, "--all-tenants", "--strategy", "reverse", code=21)
    assert list(told["failed"]) == ["tenant_01"]
    assert [each["schema"] for each in told["done"]] == ["core", "tenant_00", "tenant_02", "tenant_03"]
    assert "--resume" in told["hint"]
    assert deployed.having(OPTIONAL) == ["tenant_01"]
    deployed.sql("update tenant_01.users set name = 'Ada'")
    done = deployed.run("rollback", "--resume", "--yes", "--json")
    assert done.code == 0, done.err
    assert deployed.having(OPTIONAL) == []
