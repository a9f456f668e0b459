"""Templates that ship with the toolkit: beside the package in a checkout, inside it when installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder ``runbooks`` or ``rollback_templates``."""
    installed = _PACKAGE / "_data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def render(kind: str, name: str, /, **facts: Any) -> str:
    """Fill the template ``name`` of folder ``kind``. A fact the template asks for and does not get is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder(kind)),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - Markdown and SQL, not HTML
    )
    return environment.get_template(name).render(**facts)
