"""Backup, restore and rollback for PostgreSQL databases that Prisma manages."""

__version__ = "0.1.0"
