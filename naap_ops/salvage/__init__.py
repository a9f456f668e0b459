"""Salvage: what was written since a backup, from the database that a restore has kept into the restored one."""
