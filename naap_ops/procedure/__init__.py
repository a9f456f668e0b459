"""Procedures made of steps: each asks the world whether it is done, and can be gone on with, or undone, after any crash."""
