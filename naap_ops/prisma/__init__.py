"""Prisma's books: what it believes has been applied."""
