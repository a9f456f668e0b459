"""The parts of seeding: what the catalog says, values for every type, the order of tables, statements that try."""
