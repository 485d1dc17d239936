"""The home's memory of one job: a SQLite file and the snapshot of its input.

home             the folder where jobs live, and the lock of its one coordinator
staged_job       a job on its way into the home: there as a whole, or not at all
input_blocks     the bodies of its requests, compressed, many in one
feed_order       in which order they are fed
jobstore         the job's row, its prices and wishes; the parts below hang on it
request_queue    which requests are fed next
chunks           what is under way, and the money set aside for it
delivery_ledger  what workers deliver: every call and every result, each counted once
uncertain        calls of unknown cost, and when they are asked for
failed_requests  requests that fail without a call, and failed ones that are tried anew
poison_requests  how much a request is suspected of killing its worker
"""
