"""Side-by-side benchmarks: naap_ops against what an engineer would type by hand. Never part of the test run."""
