"""From merged layers to the model, and from what does not fit to one line that names setting, source and cure."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError

from naap_ops import redact
from naap_ops.config import dsn, weburl
from naap_ops.config.layers import Address, Layer
from naap_ops.config.settings import DatabaseSettings, Settings
from naap_ops.errors import ConfigurationError, UsageError

_URL_NAMES = ("database_url", "scratch_url", "shadow_database_url", "url")


def validated(merged: Layer) -> Settings:
    """The model. Raises ConfigurationError with every misfit; UsageError if all of them came by flags."""
    try:
        return Settings.model_validate(merged.nested())
    except ValidationError as error:
        misfits = error.errors(include_url=False, include_context=False)
        flagged = all(place.startswith("flag ") for each in misfits for place in _located(each, merged)[1])
        detail = "; ".join(dict.fromkeys(_told(each, merged) for each in misfits))
        raise UsageError(detail=detail) if flagged else ConfigurationError(detail=detail) from None


def _located(error: Any, merged: Layer) -> tuple[Address, set[str]]:
    """The setting that does not fit, and where its values came from."""
    address = tuple(str(each) for each in error["loc"])
    while address and not any(known[: len(address)] == address for known in merged.sources):
        address = address[:-1]
    return address, {source for known, source in merged.sources.items() if known[: len(address)] == address}


def _told(error: Any, merged: Layer) -> str:
    address, sources = _located(error, merged)
    name, place = ".".join(address), ", ".join(sorted(sources))
    if error["type"] == "extra_forbidden":
        return f"unknown setting {name} ({place}): {_nearest(address)}"
    value = merged.values.get(address)
    shown = f" = {safe(address, value)!r}" if isinstance(value, (str, int, float)) else ""
    return f"{name}{shown} ({place}): {error['msg'].removeprefix('Value error, ')}"


def safe(address: Address, value: Any) -> Any:
    """The value of a setting as it may be shown: addresses without their passwords, webhooks without their tokens."""
    name = address[-1]
    if isinstance(value, list):
        return [safe(address, each) for each in value]
    if not isinstance(value, str):
        return value
    if address[0] == "notify" and (name == "urls" or "ping" in address):
        return " ".join(weburl.masked(word) for word in value.split()) if value.strip() else value
    return dsn.masked(value) if name in _URL_NAMES or "://" in value else redact.text(value)


def _nearest(address: Address) -> str:
    names = _names(Settings)
    if address[0] == "databases" and len(address) > 2:
        names = [name.replace("NAME", address[1]) for name in names if name.startswith("databases.")]
    sections = sorted({name.partition(".")[0] for name in names if "." in name})
    names += [] if len(address) > 1 and address[0] in sections else sections
    by_last_word = {name.rpartition(".")[2]: name for name in reversed(names)}
    near = difflib.get_close_matches(".".join(address), names, n=1)
    near = near or [by_last_word[word] for word in difflib.get_close_matches(address[-1], by_last_word, n=1)]
    if near:
        return f"did you mean {near[0]}?"
    beside = [name for name in names if name.startswith(f"{address[0]}.")] if len(address) > 1 else []
    return f"there are {', '.join(beside or dict.fromkeys(name.partition('.')[0] for name in names))}"


def _names(model: type[BaseModel], above: str = "") -> list[str]:
    """Every dotted name of the model; a configured database's read ``databases.NAME.url``."""
    found: list[str] = []
    for name, info in model.model_fields.items():
        kind = info.annotation
        if name == "databases" and not above:
            found += _names(DatabaseSettings, f"{above}databases.NAME.")
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            found += _names(kind, f"{above}{name}.")
        else:
            found.append(above + name)
    return found
