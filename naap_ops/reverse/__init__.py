"""Reverse migrations: from a forward migration.sql to a down.sql that is proved to bring the database back."""
