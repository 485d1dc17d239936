"""The program that makes calls: Celery tasks, the runner, the endpoint's client, the outbox."""
