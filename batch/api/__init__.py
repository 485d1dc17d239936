"""`nightshift serve`: OpenAI's Files and Batches API on top of jobs.

| module | |
|---|---|
| `app` | ASGI: routes, keys, limits, errors |
| `files`, `batches`, `models` | the routes |
| `upload` | multipart to disk, as it arrives |
| `batch_options`, `line_errors`, `objects` | pure: what is asked for, faults of lines, JSON |
| `batch_status`, `context` | how a batch stands, from its job; what the routes share |
| `job_creation` | a process of its own in which inputs become jobs |
| `tenants`, `webhooks` | keys and limits; webhooks |

A batch is a job: the registry (`batch.store.registry`) knows who asked for it and when, everything
else is read from the job.
"""
