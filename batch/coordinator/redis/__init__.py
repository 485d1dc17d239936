"""The home's side of Redis, by subject.

Every command gives up within seconds; a failure of any kind is `ServiceUnavailable`, and the
coordinator simply tries again: nothing that Redis holds is needed to know what must be done.
"""
