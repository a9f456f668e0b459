"""Settings: what they are, where each value came from, and which database URL they lead to."""
