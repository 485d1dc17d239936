"""Long fault runs: a house of real processes, things done to it, and an audit after each job."""
