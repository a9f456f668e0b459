"""What a restore of a part brings over from S3: the table of contents, its own tables' files, the catalogue; nothing else."""

from __future__ import annotations

import json
from collections import Counter
from urllib.parse import unquote

import pytest

from tests.desk import Desk
from tests.integration.snapshot.conftest import Bucket
from tests.s3proxy import Proxy, proxy
from tests.s3server import WeedServer

pyrage = pytest.importorskip("pyrage")

PARTS = {
    "table": (("--table", "public.u"), {"public.u"}),
    "tenant": (("--tenant", "acme"), {"tenant_acme.t"}),
    "schema": (("--schema", "plugin_wallet"), {"plugin_wallet.t"}),
}


def fetched(between: Proxy, prefix: str) -> Counter[str]:
    """How often each object below ``prefix`` was read."""
    targets = [unquote(request.target.partition("?")[0]) for request in between.names("GET")]
    return Counter(target.removeprefix(prefix) for target in targets if target.startswith(prefix))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("encrypted", [False, True], ids=["readable", "age"])
def test_its_own_files_once_each(desk: Desk, bucket: Bucket, s3_server: WeedServer, part: str, encrypted: bool) -> None:
    if encrypted:
        identity = pyrage.x25519.Identity.generate()
        (desk.folder / "key.txt").write_text(f"{identity}\n")
        desk.extra["NAAP_OPS_ENCRYPTION__RECIPIENTS"] = str(identity.to_public())
        desk.extra["NAAP_OPS_ENCRYPTION__IDENTITY_FILE"] = str(desk.folder / "key.txt")
    taken = desk.run("snapshot", "--json").json
    prefix = taken["url"].removeprefix(f"s3://{bucket.name}/")
    manifest = json.loads(bucket.client.get_object(Bucket=bucket.name, Key=f"{prefix}/manifest.json")["Body"].read())
    words, tables = PARTS[part]
    files = {table["file"] for table in manifest["tables"] if f"{table['schema']}.{table['name']}" in tables}
    assert len(files) == 1
    with proxy(s3_server.port) as between:
        desk.extra |= s3_server.environment(endpoint=between.endpoint)
        answer = desk.run("restore", "--backup", taken["id"], *words, "--yes")
        found = fetched(between, f"/{bucket.name}/{prefix}/")
    assert answer.code == 0, answer.err
    suffix = ".age" if encrypted else ""
    assert found == {name + suffix: 1 for name in {*files, f"{manifest['archive']}/toc.dat"}} | {"manifest.json": 1}


def test_the_catalogue_is_manifests_and_records(desk: Desk, bucket: Bucket, s3_server: WeedServer) -> None:
    """A list reads no file of any backup."""
    taken = [desk.run("snapshot", "--json").json for _ in range(2)]
    desk.run("backup.keep", taken[0]["id"])
    with proxy(s3_server.port) as between:
        desk.extra |= s3_server.environment(endpoint=between.endpoint)
        assert len(desk.run("backup.list", "--json").json["backups"]) == 2
        found = fetched(between, f"/{bucket.name}/naap/{taken[0]['database']}/")
    assert {name.partition("/")[2].partition("/")[0] for name in found} == {"manifest.json", "records"}
    assert set(found.values()) == {1}
