"""Where backups live: one contract (`base`), the backends behind it, and the function that picks one from a URL."""
