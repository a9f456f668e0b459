"""``.env`` files, read as Prisma reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from naap_ops.config import envfiles
from naap_ops.errors import ConfigurationError


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("URL=plain", "plain"),
        ("export URL=plain", "plain"),
        ('URL="with # and spaces"', "with # and spaces"),
        ("URL='single'", "single"),
        ("URL=value # a comment", "value"),
        ("URL=first\nURL=second", "second"),
        ("URL=a$b", "a$b"),
        ('URL="a$b"', "a$b"),
        ("PW=s3\nURL=u:${PW}@h", "u:s3@h"),
        ("PW=s3\nURL='u:${PW}@h'", "u:s3@h"),
        ("URL=u:${PW}@h\nPW=later", "u:later@h"),
        ("URL=u:${NOWHERE}@h", "u:@h"),
        ("A=${B}\nB=deep\nURL=${A}", "deep"),
        ("URL=a\\${B}", "a${B}"),
        ("\ufeffURL=bom", "bom"),
        ("URL=crlf\r\n", "crlf"),
    ],
)
def test_values(tmp_path: Path, content: str, value: str) -> None:
    (tmp_path / ".env").write_bytes(content.encode())
    (file,) = envfiles.read([".env"], tmp_path, {})
    assert file.variables["URL"] == value


def test_the_process_environment_wins_in_expansion() -> None:
    assert envfiles.parse("PW=file\nURL=${PW}", {"PW": "process"})["URL"] == "process"


def test_a_circle_ends() -> None:
    assert "URL" in envfiles.parse("URL=x${URL}", {})


def test_empty_variables_count_as_unset() -> None:
    assert envfiles.parse("URL=\nOTHER", {}) == {}


def test_files_in_order_and_missing_ones_left_out(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / ".env").write_text("X=2")
    (tmp_path / ".env").write_text("X=1")
    found = envfiles.read([".env", "a/.env", "b", "b/.env"], tmp_path, {})
    assert [(file.name, file.variables["X"]) for file in found] == [(".env", "1"), ("b/.env", "2")]


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"X=\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"\.env cannot be read"):
        envfiles.read([".env"], tmp_path, {})


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / ".env").symlink_to(".env")  # a circle; unlike missing rights, root cannot open it either
    with pytest.raises(ConfigurationError, match=r"\.env cannot be read"):
        envfiles.read([".env"], tmp_path, {})


def test_repr_shows_no_values() -> None:
    assert "hush" not in repr(envfiles.EnvFile(".env", {"PW": "hush"}))
