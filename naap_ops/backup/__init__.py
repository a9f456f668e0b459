"""Backups: taken by an engine, described by a manifest, kept in a repository, verified, retired by policy."""
