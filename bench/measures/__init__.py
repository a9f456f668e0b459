"""One module per row of the table: ``measure(options)`` runs it and returns its lines."""
