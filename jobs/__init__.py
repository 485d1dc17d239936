"""The vocabulary of Nightshift: pure values and rules. No IO, no clock, no environment."""
