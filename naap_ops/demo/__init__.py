"""The demonstration: a database like the NAAP platform's is backed up, destroyed by a migration, and brought back."""
