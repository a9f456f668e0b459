"""Templates that ship with the toolkit."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from naap_ops import resources


def test_the_folders_are_where_checkout_or_wheel_put_them() -> None:
    assert (resources.folder("runbooks") / "restore_without_toolkit.md.j2").is_file()


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "package")
    (tmp_path / "runbooks").mkdir()
    return tmp_path / "runbooks"


def test_facts_are_filled_in_as_they_are(templates: Path) -> None:
    (templates / "x.md.j2").write_text("{{ name }}\n  {% if true %}\nyes\n  {% endif %}\n")
    assert resources.render("runbooks", "x.md.j2", name="<a> & 'b' \"ü\"") == "<a> & 'b' \"ü\"\nyes\n"


@pytest.mark.parametrize("text", ["{{ missing }}", "{{ known.missing }}", "{% if missing %}{% endif %}", "{{ missing or 1 }}"])
def test_a_missing_fact_is_an_error(templates: Path, text: str) -> None:
    (templates / "x.md.j2").write_text(text)
    with pytest.raises(jinja2.UndefinedError):
        resources.render("runbooks", "x.md.j2", known={})


def test_an_installed_folder_comes_before_one_beside_the_package(templates: Path, tmp_path: Path) -> None:
    (templates / "x.md.j2").write_text("beside")
    installed = tmp_path / "package" / "_data" / "runbooks"
    installed.mkdir(parents=True)
    (installed / "x.md.j2").write_text("installed")
    assert resources.render("runbooks", "x.md.j2") == "installed"
