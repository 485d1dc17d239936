"""Measurements of speed and memory, each against a yardstick or a peer."""
