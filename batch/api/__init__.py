"""`nightshift serve`: OpenAI's Files and Batches API on top of jobs.

| module | |
|---|---|
| `app` | ASGI: routes, keys, limits, errors |
| `files`, `batches`, `models` | the routes |
| `upload` | multipart to disk, as it arrives |
| `wishes`, `faults`, `objects` | pure: what was asked for, what is wrong with lines, JSON |
| `standing`, `desk` | how a batch stands, from its job; what the routes share |
| `intake` | a process of its own in which inputs become jobs |
| `tenants`, `hooks` | keys and limits; webhooks |

A batch is a job: the registry (`batch.store.registry`) knows who asked for it and when, everything
else is read from the job.
"""
