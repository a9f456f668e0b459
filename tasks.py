"""Tasks of a checkout: `invoke --list`. The same as the installed program `naap-ops`."""

from naap_ops.tasks import ns

__all__ = ["ns"]
