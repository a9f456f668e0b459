"""Settings put together: defaults < settings file < ``.env`` files < environment < flags, every value with its source."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from naap_ops.config import choice, dsn, envfiles, layers, weburl
from naap_ops.config.choice import Candidate, DatabaseChoice
from naap_ops.config.envfiles import EnvFile
from naap_ops.config.layers import Address, Layer
from naap_ops.config.settings import PREFIX, Settings
from naap_ops.config.validation import safe, validated
from naap_ops.errors import ConfigurationError, UsageError
from naap_ops.files import home

_SHADOW: Address = ("shadow_database_url",)


@dataclass(frozen=True)
class Loaded:
    """The settings in force. ``sources`` knows every leaf: ``backup.jobs`` -> ``environment NAAP_OPS_BACKUP__JOBS``."""

    settings: Settings
    sources: Mapping[str, str]
    cwd: Path
    settings_file: Path | None = None
    _url: Candidate | None = field(default=None, repr=False)
    _environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    _env_files: Sequence[EnvFile] = field(default=(), repr=False)

    def table(self) -> dict[str, dict[str, Any]]:
        """``{dotted name: {"value", "source"}}``, JSON-ready, secrets masked."""
        return {
            ".".join(address): {"value": safe(address, value), "source": self.sources.get(".".join(address), "default")}
            for address, value in _leaves(self.settings.model_dump(mode="json"))
        }

    def aliases(self) -> list[str]:
        """The configured databases, else the name of the one in the URL or in PGDATABASE; empty if only the server knows it."""
        if self.settings.databases:
            return list(self.settings.databases)
        return [name for name in (self._default_name(),) if name]

    def database(self, alias: str | None = None) -> DatabaseChoice:
        """The database of that alias, matched exactly; without one, the only database there is, or the one of ``--url``.

        Raises UsageError for an unknown alias or where several are configured, ConfigurationError if its variable is unset.
        """
        configured = self.settings.databases
        if alias is None and (not configured or (self._url and self._url.fixed)):
            return self._default()
        if alias is None:
            if len(configured) > 1:
                raise UsageError(
                    detail=f"several databases are configured: {', '.join(configured)}",
                    hint="Name one with --database, or take --all-databases.",
                )
            return self._configured(next(iter(configured)))
        if alias in configured:
            return self._configured(alias)
        if not configured and alias == self._default_name():
            return self._default()
        known = self.aliases()
        near = difflib.get_close_matches(alias, known, n=1)
        raise UsageError(
            detail=f"there is no database {alias!r} in the settings",
            hint=(f"Did you mean {near[0]}? " if near else "") + f"Known: {', '.join(known) or 'none'}",
        )

    def _default_name(self) -> str | None:
        if self._url is not None:
            return dsn.database_name(self._url.url)
        return self._environ.get("PGDATABASE") or None

    def _default(self) -> DatabaseChoice:
        url, label = (self._url.url, self._url.label) if self._url else (None, "PG* variables")
        return DatabaseChoice(self._default_name(), url, label, self.settings.tenant_schemas, self.settings.plugin_schemas)

    def _configured(self, alias: str) -> DatabaseChoice:
        database = self.settings.databases[alias]
        url, source = database.url, f"databases.{alias}.url in {self.sources.get(f'databases.{alias}.url')}"
        if database.url_env is not None:
            url, source = self._variable(database.url_env, alias)
        return DatabaseChoice(
            alias,
            url,
            source,
            database.tenant_schemas or self.settings.tenant_schemas,
            database.plugin_schemas or self.settings.plugin_schemas,
        )

    def places(self) -> list[tuple[str, Mapping[str, str]]]:
        """Where variables are looked for, strongest first: the name of each place, and what is set there."""
        return [("the environment", self._environ), *((file.name, file.variables) for file in self._env_files)]

    def _variable(self, name: str, alias: str) -> tuple[str, str]:
        for place, variables in self.places():
            if variables.get(name):
                dsn.register_secrets(variables[name])
                return variables[name], f"{name} in {place}"
        raise ConfigurationError(
            detail=f"databases.{alias}.url_env names {name}, which is not set",
            hint=f"Set {name} in the environment or in one of the env_files: {', '.join(self.settings.env_files)}",
        )


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ConfigurationError(
            detail="the folder this was started in is not there any more", hint="Change into one that is: `cd`."
        ) from None


def load(
    flags: Mapping[str, Any],
    *,
    settings_file: Path | None = None,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Read every source. ``flags`` are settings by dotted name (``backup.jobs``); None means not given.

    Raises ConfigurationError for an unknown name or a bad value, naming setting and source.
    """
    cwd = _working_folder() if cwd is None else cwd.absolute()
    environ = dict(os.environ if environ is None else environ)
    path = cwd / settings_file if settings_file is not None else layers.find_file(cwd, home(environ))
    base = _defaults(path, cwd)
    if path is not None:
        base = layers.from_file(path, cwd).over(base)
    aliases = {address[1] for address in base.values if address[0] == "databases" and len(address) > 1}
    given = layers.from_flags(flags, cwd)
    strong = given.over(layers.from_environment(environ, "environment", aliases, cwd))
    files = envfiles.read(validated(strong.over(base)).env_files, cwd, environ)
    for file in reversed(files):
        base = layers.from_environment(file.variables, file.name, aliases, cwd).over(base)
    merged = strong.over(base)
    url = choice.choose([*_outermost(given), *choice.candidates(environ, files), *_innermost(base)])
    if url is not None:
        merged.put(("database_url",), url.url, url.source)
    if _SHADOW not in strong.values:
        _shadow(merged, environ, files)
    settings = validated(merged)
    _register(settings)
    sources = {".".join(address): "default" for address, _ in _leaves(settings.model_dump(mode="json"))}
    sources |= {".".join(address): source for address, source in merged.sources.items()}
    return Loaded(settings, sources, cwd, path, url, environ, files)


def _defaults(path: Path | None, cwd: Path) -> Layer:
    """Default paths count from the settings file's folder too: a project has one repository, whichever folder one stands in."""
    layer = Layer()
    if path is not None and path.parent != cwd:
        fields = Settings.model_fields
        layer.put(("repository",), fields["repository"].default, "default")
        layer.put(("env_files",), list(fields["env_files"].default), "default")
        layer.put(("prisma", "archive"), str(fields["prisma"].default.archive), "default")
        layer.put(("state",), str(fields["state"].default), "default")
        layers.rebase(layer, path.parent, cwd)
    return layer


def _outermost(flags: Layer) -> list[Candidate]:
    address = ("database_url",)
    if address not in flags.values:
        return []
    source = flags.sources[address]
    return [Candidate(str(flags.values[address]), source, source.removeprefix("flag "), fixed=True)]


def _innermost(base: Layer) -> list[Candidate]:
    address = ("database_url",)
    value = base.values.get(address)
    source = base.sources.get(address, "")
    return [Candidate(value, source, f"database_url in {source}")] if isinstance(value, str) and value else []


def _shadow(merged: Layer, environ: Mapping[str, str], files: Sequence[EnvFile]) -> None:
    """Prisma's own name for the shadow database's URL, from the environment, then from the ``.env`` files."""
    for place, variables in [("environment", environ), *((file.name, file.variables) for file in files)]:
        for name in (f"{PREFIX}{choice.SHADOW}", choice.SHADOW):
            if variables.get(name):
                return merged.put(_SHADOW, variables[name], f"{place} {name}")
    return None


def _register(settings: Settings) -> None:
    urls = [settings.database_url, settings.scratch_url, settings.shadow_database_url]
    urls += [each.url for each in settings.databases.values()]
    for url in filter(None, urls):
        dsn.register_secrets(url)
    for url in (*settings.notify.urls, *filter(None, settings.notify.ping.model_dump().values())):
        weburl.register_secrets(url)


def _leaves(tree: Mapping[str, Any], above: Address = ()) -> list[tuple[Address, Any]]:
    found: list[tuple[Address, Any]] = []
    for key, value in tree.items():
        found += _leaves(value, (*above, key)) if isinstance(value, dict) else [((*above, key), value)]
    return found
