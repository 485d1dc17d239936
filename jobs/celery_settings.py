"""How both sides speak Celery: one list of settings, each with its reason.

Values only; nothing here imports Celery.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from jobs.names import CELERY_PREFIX
from jobs.redis_url import parse_redis_url

VISIBILITY_S = 24 * 3600
"""Unacknowledged messages come back after this; the coordinator feeds lost chunks long before."""

REDIS_OPTIONS: dict[str, object] = {
    # No Redis command may hang a process: kombu's default has no timeout at all.
    "socket_timeout": 4,
    "socket_connect_timeout": 4,
    "socket_keepalive": True,
    # A connection on which nothing is heard any more is left after twice as long.
    "health_check_interval": 8,
}


def forget_celerys(environ: MutableMapping[str, str]) -> None:
    """Drops what Celery would take settings and code from: it is of another project of the user's.

    `CELERY_BROKER_URL` goes above every setting, and Django's module is imported from the working
    folder.
    """
    for name in [name for name in environ if is_celerys(name)]:
        del environ[name]


def is_celerys(variable: str) -> bool:
    """Whether Celery reads that variable."""
    return variable.startswith("CELERY_") or variable == "DJANGO_SETTINGS_MODULE"


def celery_settings(redis_url: str) -> dict[str, object]:
    """Settings of the Celery app. Its acknowledgements and redeliveries are not relied upon."""
    broker_url, tls = parse_redis_url(redis_url).celery()
    return {
        "broker_url": broker_url,
        # Celery's default for rediss:// verifies nothing.
        "broker_use_ssl": tls,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_serializer": "json",
        "event_serializer": "json",
        "result_serializer": "json",
        # A message in any other form is dropped, never executed.
        "accept_content": ["json"],
        "task_acks_late": True,
        # One message in advance per open chunk would only hoard.
        "worker_prefetch_multiplier": 1,
        "task_default_priority": 3,
        # Default: give up after 100 tries, which a night may see.
        "broker_connection_max_retries": None,
        "broker_connection_retry_on_startup": True,
        # Without it a full Redis ends the worker process.
        "broker_channel_error_retry": True,
        # Cancelling throws paid answers away; the default turns True in Celery 6.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Our pool drains by itself; Celery's soft shutdown sleeps in the signal handler.
        "worker_soft_shutdown_timeout": 0.0,
        "worker_send_task_events": True,
        "task_send_sent_event": False,
        "worker_hijack_root_logger": False,
        "broker_transport_options": {
            # `unacked` and `_kombu.binding.*` have fixed names that would collide.
            "global_keyprefix": CELERY_PREFIX,
            "visibility_timeout": VISIBILITY_S,
            "unacked_restore_interval": 30,
            "unacked_restore_throttle": 1,
            "max_connections": 50,
            # A worker asks for messages anew this often, s; it ends no sooner (default: 1).
            "polling_interval": 0.2,
            "priority_steps": [0, 3, 6, 9],
            "queue_order_strategy": "priority",
            **REDIS_OPTIONS,
        },
    }
