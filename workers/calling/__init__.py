"""Calls of the endpoint: how one is sent, and what its answer means for its request."""
