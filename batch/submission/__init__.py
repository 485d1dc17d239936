"""From an input file to a job in the home: all of it checked before anything is sent.

| module | |
|---|---|
| `submit` | the order of steps: submit, validate |
| `request_check` | lines and rows as requests, into the staged job |
| `known_models`, `pricing` | what the endpoint lists and asks, and whether caps can be kept |
| `earlier_jobs` | who asked the same before, and who waits for the same folder |
| `report`, `preview` | what was found; what would be sent |
"""
