"""Roubles: what the endpoint asks, what a request can cost at most, and what the caps leave."""
