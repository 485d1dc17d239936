"""How a job goes: counts, rate, time left, and its course over time."""
