"""The scheduler: when jobs are due, who of several schedulers does them, and the same plan as crontab, timer or CronJob."""
