"""age keys: public ones from the settings, secret ones from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from naap_ops.errors import ConfigurationError

_SECRET = "AGE-SECRET-KEY-1"  # noqa: S105 - the beginning of every secret key, which is public
_SSH_SECRET = "PRIVATE KEY-----"  # noqa: S105


def recipients(texts: Sequence[str]) -> list[Any]:
    """Public keys: ``age1...`` or ``ssh-ed25519 ...`` / ``ssh-rsa ...``. Raises ConfigurationError."""
    if not texts:
        return []
    import pyrage

    found = []
    for text in texts:
        kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
        try:
            found.append(kind.Recipient.from_str(text.strip()))
        except pyrage.RecipientError as error:
            raise ConfigurationError(
                detail=f"encryption.recipients: {text[:20]}... is no age recipient: {error}",
                hint="A recipient is what `age-keygen -y FILE` prints, age1..., or an SSH public key.",
            ) from None
    return found


def identities(path: Path) -> list[Any]:
    """The secret keys of a file as age-keygen or ssh-keygen write it. Raises ConfigurationError."""
    import pyrage

    from naap_ops import redact

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(detail=f"encryption.identity_file {path} cannot be read: {error}") from None
    try:
        if _SSH_SECRET in text:
            return [pyrage.ssh.Identity.from_buffer(text.encode())]
        lines = [line.strip() for line in text.splitlines() if line.strip().startswith(_SECRET)]
        for line in lines:
            redact.register(line)
        found = [pyrage.x25519.Identity.from_str(line) for line in lines]
    except pyrage.IdentityError as error:
        raise ConfigurationError(detail=f"encryption.identity_file {path} holds no usable key: {error}") from None
    if not found:
        raise ConfigurationError(
            detail=f"encryption.identity_file {path} holds no secret key",
            hint="It must be a file that age-keygen has written, without a passphrase, or an SSH private key.",
        )
    return found
