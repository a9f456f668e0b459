"""SQL from the templates of ``rollback_templates/``, which a project may replace one by one from a folder of its own.

Templates get named values only; what is quoted is quoted by the filters ``ident`` and ``literal`` and by ``name(row)``, which
leaves out the schema that unqualified names mean, so that the same reverse fits every schema that has the same tables.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

_FOLDER = "rollback_templates"


def quoted(name: str) -> str:
    """A name as an SQL identifier, always in quotes."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text as an SQL literal, whatever standard_conforming_strings says."""
    text = "'" + value.replace("'", "''") + "'"
    return "E" + text.replace("\\", "\\\\") if "\\" in value else text


def own_templates() -> Path:
    """The folder of the templates that come with the package: in a checkout the project's, else the installed copy."""
    checkout = Path(__file__).resolve().parents[2] / _FOLDER
    return checkout if checkout.is_dir() else Path(str(files("naap_ops"))) / "_data" / _FOLDER


class Sql:
    """Renders templates. ``schema``: names in it are left unqualified. ``folder``: the user's own templates, tried first."""

    def __init__(self, schema: str = "public", folder: Path | None = None) -> None:
        self.schema = schema
        self._folder = str(folder) if folder else ""

    def qualified(self, schema: str, name: str) -> str:
        """A name with its schema, unless that is the one that unqualified names mean."""
        return quoted(name) if schema == self.schema else f"{quoted(schema)}.{quoted(name)}"

    def name(self, row: Any) -> str:
        """The name of an object that lies in a schema."""
        return self.qualified(row.schema, row.name)

    def table(self, row: Any) -> str:
        """The name of the table of an object that belongs to one."""
        return self.qualified(row.schema, row.table)

    def unqualified(self, definition: str, head: str, row: Any) -> str:
        """A definition of the server's that writes the schema always, without the one that unqualified names mean."""
        if row.schema == self.schema:
            for schema in (quoted(row.schema), row.schema):
                if definition.startswith(f"{head}{schema}."):
                    return head + definition[len(f"{head}{schema}.") :]
        return definition

    def __call__(self, template: str, **values: Any) -> str:
        """Render ``<family>/<verb>``; one statement without its semicolon."""
        found = _environment(self._folder).get_template(f"{template}.sql.j2")
        return found.render({"name": self.name, "qualified": self.qualified, **values}).strip()


@cache
def _environment(folder: str) -> Environment:
    """Templates are compiled once, whatever the number of migrations."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(  # noqa: S701  # SQL, not HTML: what must be quoted goes through ident and literal
        loader=FileSystemLoader([*([folder] if folder else []), str(own_templates())]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(ident=quoted, literal=literal)
    return made
