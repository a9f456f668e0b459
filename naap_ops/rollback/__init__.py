"""Procedures of operators: a migration rolled back by its reverse or by a backup, with Prisma's books kept right."""
