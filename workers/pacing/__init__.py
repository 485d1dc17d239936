"""How fast calls may go: limits told and found, outages, repetitions; shared by all workers."""
