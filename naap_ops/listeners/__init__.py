"""Those who are told what happens: log lines, notifications, pings, metrics. None of them can fail or delay the work."""
