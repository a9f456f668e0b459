"""Images: the rows of a table as they were before a migration, kept so that its reverse can bring them back."""
