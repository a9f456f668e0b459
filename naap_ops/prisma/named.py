"""The URL in the variable that a Prisma project itself names, where no usual name is set: ``env("POSTGRES_PRISMA_URL")``.

Prisma reads the ``.env`` of the folder it is run in and the one beside the schema; the process environment is stronger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from naap_ops.config import dsn, envfiles
from naap_ops.config.choice import Candidate, DatabaseChoice, choose

if TYPE_CHECKING:
    from naap_ops.prisma.project import Project

BY = "(named by "  # in a connection's source


def chosen(found: DatabaseChoice, project: Project, places: Sequence[tuple[str, Mapping[str, str]]]) -> DatabaseChoice:
    """``found``, with the URL that ``project`` names, where it has one: ``directUrl`` before ``url``; a pooled one gives way.

    ``places``: variables by the name of where they are set, strongest first. Raises ConfigurationError for an unreadable file.
    """
    taken = choose(list(_candidates(project, [*places, *_files(project, places[0][1] if places else {})])))
    if taken is None:
        return found
    dsn.register_secrets(taken.url)
    return replace(found, alias=dsn.database_name(taken.url), url=taken.url, source=taken.label)


def _candidates(project: Project, places: Sequence[tuple[str, Mapping[str, str]]]) -> Iterator[Candidate]:
    by = (project.config or project.schema or project.root).name
    for name in project.url_variables:
        for place, variables in places:
            if variables.get(name):
                yield Candidate(variables[name], f"{place} {name}", f"{name} in {place} {BY}{by})")


def _files(project: Project, environ: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    folders = [project.root, *([project.schema.parent] if project.schema else [])]
    for folder in dict.fromkeys(folders):
        for file in envfiles.read([str(folder / ".env")], folder, environ):
            yield file.name, file.variables
