"""The command line: ``python -m scripts.simulator``."""

import asyncio
import ipaddress
import json
import logging
import resource
import signal
import ssl
import sys
import tempfile
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click
import uvloop
from aiohttp import web

from .answer_text import MODES, Style
from .fault_kinds import describe_kinds
from .faults import parse_rules
from .latency import parse_latency
from .limits import Limits
from .options import Options
from .other_endpoints import PATHS
from .routes import make_app
from .simulator_state import World

EPILOG = """
\b
Examples:
  python -m scripts.simulator --port 8900
  python -m scripts.simulator --latency lognormal:20:0.8:500 --rpm 600 --max-in-flight 50
  python -m scripts.simulator --fault 429:share=0.1,retry_after=1 --fault error200:share=0.03
  python -m scripts.simulator --fault cut:row=customer-17,times_per_request=1 --balance 12.50
  python -m scripts.simulator --list-faults

\b
Change it while it runs:
  curl -d '{"rpm": 60}' http://127.0.0.1:8900/_sim/limits
  curl http://127.0.0.1:8900/_sim/stats
"""


class Roubles(click.ParamType[Decimal]):
    """An amount of money, exact."""

    name = "roubles"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """The amount, or a usage error."""
        try:
            amount = Decimal(str(value))
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite():
            self.fail(f"{value!r} is not an amount", param, ctx)
        return amount


def _list_faults(ctx: click.Context, _: click.Parameter, wanted: Any) -> None:
    if wanted:
        click.echo(describe_kinds())
        ctx.exit()


@click.command(epilog=EPILOG, context_settings={"show_default": True, "max_content_width": 100})
@click.option("--host", default="127.0.0.1", help="A loopback address; others are refused.")
@click.option("--port", default=0, help="0 picks a free one.")
@click.option("--prefix", default="/api/v1", help="Path under which the API lives.")
@click.option(
    "--without", type=click.Choice(PATHS), multiple=True, help="A path that it does not have."
)
@click.option(
    "--book",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The book of calls; one that exists is carried on. Default: a new one.",
)
@click.option("--seed", default=0, help="Chance depends on this, the body and the attempt alone.")
@click.option("--key", "keys", multiple=True, help="A key that is accepted; default: any.")
@click.option("--balance", type=Roubles(), help="Roubles on the account; default: endless.")
@click.option("--answers", type=click.Choice(MODES), default="prose", help="What answers say.")
@click.option("--answer-tokens", default=120, help="Median size of the text of an answer.")
@click.option("--reasoning-tokens", default=60, help="Median size of the thoughts before it.")
@click.option("--hidden-tokens", default=447, help="Prompt tokens added to every call.")
@click.option("--cached-share", default=0.25, help="Of prompt tokens, where a cache price exists.")
@click.option(
    "--cache-prefixes",
    is_flag=True,
    help="In place of a share: what begins like a prompt that was answered comes from the cache.",
)
@click.option("--slips", default=0.0, help="Of answers about tables: in another form, or wrong.")
@click.option("--null-cost-share", default=0.5, help="Of answers cut at max_tokens: cost null.")
@click.option("--null-error-share", default=0.2, help='Of good answers: "error": null in them.')
@click.option("--other-provider-share", default=0.0, help="Of calls: not the listed provider.")
@click.option(
    "--latency",
    default="none",
    help="none, constant:S, uniform:LOW:HIGH or lognormal:MEDIAN:SIGMA[:CAP], in seconds.",
)
@click.option("--keepalive", default=5.0, help="Seconds between spaces while the model works.")
@click.option("--rpm", type=int, help="Calls a window, per key and model.")
@click.option("--tpm", type=int, help="Tokens a window, per key and model.")
@click.option("--max-in-flight", type=int, help="Calls at once, per key and model.")
@click.option("--in-flight-budget", type=Roubles(), help="What calls at once may cost at most.")
@click.option("--window", default=60.0, help="Seconds that rpm and tpm are counted over.")
@click.option("--retry-after/--no-retry-after", default=True, help="Say how long to wait.")
@click.option("--rate-headers/--no-rate-headers", default=False, help="X-RateLimit-* headers.")
@click.option("--bill-aborted/--no-bill-aborted", default=True, help="Charge though nobody waits.")
@click.option("--lookup-lag", default=0.0, help="Seconds until /generation knows a call.")
@click.option("--max-body", default=16 * 2**20, help="Larger request bodies get a 413, in bytes.")
@click.option("--idle-close", default=75.0, help="Seconds until an idle connection is closed.")
@click.option("--fault", "faults", multiple=True, metavar="RULE", help="kind:key=value,… or JSON.")
@click.option(
    "--faults",
    "faults_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A JSON list of rules, played before those of --fault.",
)
@click.option("--tls-cert", type=click.Path(exists=True), help="Certificate; serve https.")
@click.option("--tls-key", type=click.Path(exists=True), help="Its key, if in a file of its own.")
@click.option("--until-stdin-closes", is_flag=True, help="End with whoever holds our input.")
@click.option(
    "--list-faults",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_faults,
    help="Show every kind of fault and its settings.",
)
def main(**given: Any) -> None:
    """Play the RouterAI endpoint on this machine: it answers, charges, refuses and breaks.

    Prints "listening on URL" on standard output once it is ready, everything else on standard
    error. Every call is written into the book, with what was billed for it. SIGTERM and SIGINT end
    it in order.
    """
    _check_loopback(given["host"])
    given["book"] = given["book"] or _new_book()
    options = _options(given)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    _raise_file_limit()
    uvloop.run(_serve(options, given))


def _options(given: dict[str, Any]) -> Options:
    limits = Limits(
        **{name: given[name] for name in ("rpm", "tpm", "max_in_flight", "in_flight_budget")},
        window=given["window"],
        retry_after=given["retry_after"],
        headers=given["rate_headers"],
    )
    same: tuple[str, ...] = (
        "book",
        "prefix",
        "without",
        "seed",
        "keys",
        "balance",
        "keepalive",
        "hidden_tokens",
    )
    same += (
        "cached_share",
        "cache_prefixes",
        "null_cost_share",
        "null_error_share",
        "other_provider_share",
    )
    same += ("bill_aborted", "lookup_lag", "max_body", "idle_close")
    try:
        return Options(
            **{name: given[name] for name in same},
            style=Style(
                given["answers"], given["answer_tokens"], given["reasoning_tokens"], given["slips"]
            ),
            latency=parse_latency(given["latency"]),
            limits=limits,
            rules=tuple(parse_rules(_rules(given["faults_file"], given["faults"]))),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _rules(file: Path | None, texts: Sequence[str]) -> list[Any]:
    listed = json.loads(file.read_bytes()) if file else []
    return [*listed, *texts]


def _new_book() -> Path:
    path = Path(tempfile.mkdtemp(prefix="simulator-"), "book.jsonl")
    click.echo(f"book: {path}", err=True)
    return path


def _check_loopback(host: str) -> None:
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback:
        raise click.UsageError(f"--host {host}: only loopback addresses are served")


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(options: Options, given: dict[str, Any]) -> None:
    world = World(options)
    runner = web.AppRunner(
        make_app(world),
        access_log=None,
        keepalive_timeout=options.idle_close,
        shutdown_timeout=0.1,
    )
    await runner.setup()
    tls = _tls(given["tls_cert"], given["tls_key"])
    site = web.TCPSite(runner, given["host"], given["port"], ssl_context=tls, backlog=4096)
    await site.start()
    ended = _ending(until_stdin_closes=given["until_stdin_closes"])
    click.echo(f"listening on {_url(runner, options.prefix, secure=tls is not None)}")
    sys.stdout.flush()
    await ended.wait()
    await runner.cleanup()
    world.close()


def _ending(*, until_stdin_closes: bool) -> asyncio.Event:
    """Set when it is time to go."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if until_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), ended.set)
    return ended


def _tls(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


def _url(runner: web.AppRunner, prefix: str, *, secure: bool) -> str:
    host, port = runner.addresses[0][:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if secure else 'http'}://{shown}:{port}{prefix}"


if __name__ == "__main__":
    main(prog_name="python -m scripts.simulator")
