"""What a database holds, read from its catalog: one module per kind of object, one query per kind for the whole database."""
