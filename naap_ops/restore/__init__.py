"""A backup back into a database: beside the live one and swapped in, or a part of it in one transaction."""
