"""A worker's side of Redis, by subject.

Every command gives up within seconds, and a failure of any kind is a `ConnectionError`: callers
keep what they have and try again.
"""
