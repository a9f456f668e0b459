"""PostgreSQL itself: connections, client tools, sessions, databases, scratch servers and the catalog."""
