"""Encryption in front of a folder: what is stored, who can read it, and what damage does."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from naap_ops.errors import ConfigurationError
from naap_ops.storage.age import AgeStorage, CiphertextDamaged, IdentityMissing
from naap_ops.storage.local import LocalStorage

pyrage = pytest.importorskip("pyrage")

ROWS = b"1\tone\n" * 300_000
SMALL = b"select 1;\n"


class Keys:
    """A pair, its secret part in a file as age-keygen writes it."""

    def __init__(self, folder: Path, name: str) -> None:
        identity = pyrage.x25519.Identity.generate()
        self.recipient = str(identity.to_public())
        self.file = folder / name
        self.file.write_text(f"# created: 2026-11-21T00:00:00Z\n# public key: {self.recipient}\n{identity}\n")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path, "key.txt")


def storage(root: Path, recipients: list[str], identity: Path | None = None) -> AgeStorage:
    return AgeStorage(LocalStorage(root / "repo"), recipients, identity)


def filled(store: AgeStorage, prefix: str = "db/1") -> dict[str, str]:
    """A published set: a file made on disk, a stream, one that stays readable, one that nobody called complete."""
    staging = store.stage(prefix)
    (staging.path / "data").mkdir()
    (staging.path / "data/12.dat").write_bytes(ROWS)
    staging.complete("data/12.dat", hashlib.sha256(ROWS).hexdigest())
    with staging.sink("stream.dump") as sink:
        for start in range(0, len(ROWS), 100_000):
            sink.write(ROWS[start : start + 100_000])
    (staging.path / "RESTORE.md").write_bytes(b"# how to\n")
    staging.complete("RESTORE.md")
    (staging.path / "globals.sql").write_bytes(SMALL)
    stored = staging.settle()
    staging.publish("manifest.json", b"{}")
    return {name: file.sha256 for name, file in stored.items()}


def test_everything_but_what_tells_how_to_open_it_is_encrypted(tmp_path: Path, keys: Keys) -> None:
    store = storage(tmp_path, [keys.recipient])
    stored = filled(store)
    found = {info.key.removeprefix("db/1/") for info in store.list("db/1")}
    assert found == {"data/12.dat.age", "stream.dump.age", "globals.sql.age", "RESTORE.md", "manifest.json"}
    for name, sha256 in stored.items():
        content = store.get(f"db/1/{name}.age")
        assert content.startswith(b"age-encryption.org/v1\n")
        assert hashlib.sha256(content).hexdigest() == sha256
    assert set(stored) == {"data/12.dat", "stream.dump", "globals.sql"}


def test_who_has_the_identity_reads_it_back(tmp_path: Path, keys: Keys) -> None:
    filled(storage(tmp_path, [keys.recipient]))
    with storage(tmp_path, [], keys.file).local("db/1") as folder:
        assert (folder / "data/12.dat").read_bytes() == ROWS
        assert (folder / "stream.dump").read_bytes() == ROWS
        assert (folder / "globals.sql").read_bytes() == SMALL
        assert (folder / "RESTORE.md").read_bytes() == b"# how to\n"
        place = folder
    assert not place.exists()
    with storage(tmp_path, [], keys.file).local("db/1", ["data/12.dat", "manifest.json"]) as folder:
        assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
            "data/12.dat",
            "manifest.json",
        ]


def test_each_of_several_recipients_can(tmp_path: Path, keys: Keys) -> None:
    other = Keys(tmp_path, "other.txt")
    filled(storage(tmp_path, [keys.recipient, other.recipient]))
    with storage(tmp_path, [], other.file).local("db/1", ["globals.sql"]) as folder:
        assert (folder / "globals.sql").read_bytes() == SMALL


def test_an_ssh_key_is_a_key(tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen here")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "id")], check=True)
    public = " ".join((tmp_path / "id.pub").read_text().split()[:2])
    filled(storage(tmp_path, [public]))
    with storage(tmp_path, [], tmp_path / "id").local("db/1", ["globals.sql"]) as folder:
        assert (folder / "globals.sql").read_bytes() == SMALL


def test_the_age_program_opens_it(tmp_path: Path, keys: Keys) -> None:
    if shutil.which("age") is None:
        pytest.skip("the program age is not installed")
    filled(storage(tmp_path, [keys.recipient]))
    words = ["age", "-d", "-i", str(keys.file), str(tmp_path / "repo/db/1/data/12.dat.age")]
    assert subprocess.run(words, check=True, capture_output=True).stdout == ROWS


@pytest.mark.parametrize("identity", ["none", "another"])
def test_who_has_not_is_told(tmp_path: Path, keys: Keys, identity: str) -> None:
    filled(storage(tmp_path, [keys.recipient]))
    file = Keys(tmp_path, "another.txt").file if identity == "another" else None
    with pytest.raises(IdentityMissing, match="encrypted with age") as caught, storage(tmp_path, [], file).local("db/1"):
        pass
    assert "identity_file" in caught.value.advice
    with storage(tmp_path, [], file).local("db/1", ["RESTORE.md"]) as folder:  # what is readable needs none
        assert (folder / "RESTORE.md").read_bytes() == b"# how to\n"


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", 3, 30, 60, 130, 180])
def test_damaged_ciphertext_is_never_plain_text(tmp_path: Path, keys: Keys, damage: str | int) -> None:
    """And is not taken for another's either, as long as another file of the set opens. Numbers are bytes of the header."""
    filled(storage(tmp_path, [keys.recipient]))
    path = tmp_path / "repo/db/1/data/12.dat.age"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "empty":
        content.clear()
    else:
        content[len(content) // 2 if damage == "flipped" else int(damage)] ^= 1
    path.write_bytes(content)
    opened = storage(tmp_path, [], keys.file)
    with pytest.raises(CiphertextDamaged, match=r"^data/12\.dat\.age is damaged") as caught, opened.local("db/1"):
        pass
    assert caught.value.exit_code == 13
    with pytest.raises((CiphertextDamaged, IdentityMissing)), opened.local("db/1", ["data/12.dat"]):
        pass


def test_a_stream_given_up_leaves_nothing(tmp_path: Path, keys: Keys) -> None:
    staging = storage(tmp_path, [keys.recipient]).stage("db/1")
    with pytest.raises(KeyError), staging.sink("stream.dump") as sink:  # noqa: PT012 - the block is what fails
        sink.write(ROWS)
        raise KeyError
    assert [path.name for path in staging.path.iterdir() if path.name != ".lock"] == []
    staging.abandon()


def test_without_recipients_nothing_is_encrypted(tmp_path: Path) -> None:
    store = storage(tmp_path, [])
    assert filled(store) == {}
    assert store.get("db/1/data/12.dat") == ROWS


@pytest.mark.parametrize("text", ["age1nonsense", "ssh-ed25519 nonsense", "hello", ""])
def test_a_recipient_that_is_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"encryption\.recipients"):
        storage(tmp_path, [text])


@pytest.mark.parametrize("content", [None, "", "AGE-SECRET-KEY-1NONSENSE\n", "hello\n"])
def test_an_identity_file_that_is_none(tmp_path: Path, keys: Keys, content: str | None) -> None:
    filled(storage(tmp_path, [keys.recipient]))
    file = tmp_path / "strange.txt"
    if content is not None:
        file.write_text(content)
    with (
        pytest.raises(ConfigurationError, match=r"encryption\.identity_file") as caught,
        storage(tmp_path, [], file).local("db/1"),
    ):
        pass
    assert "NONSENSE" not in str(caught.value)
