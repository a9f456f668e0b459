"""Guarded deploys: looked at, backed up, every reverse proved, applied, looked at again, all of it written down."""
