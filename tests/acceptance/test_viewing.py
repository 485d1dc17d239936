"""`nightshift show JOB --open`: a page of requests that this machine alone can open."""

from __future__ import annotations

import re
import signal
import urllib.error
import urllib.request
from contextlib import closing
from urllib.parse import urljoin

import pytest

from batch.store import delivery_ledger
from tests.acceptance.conftest import Running, Shell
from tests.batch import making
from tests.batch.making import (
    JOB,
    call,
    delivery,
    feed,
    prices,
    publish,
    result,
)

HOSTILE = "<script>alert(1)</script>\u202e"


class Page:
    """A browser without scripts."""

    def __init__(self, url: str) -> None:
        self.url = url
        with urllib.request.urlopen(url) as answer:
            self.headers = answer.headers
            self.text = answer.read().decode()

    def links(self, pattern: str) -> list[str]:
        """Where links lead whose words fit."""
        found = re.findall(r'href="([^"]+)"[^>]*>([^<]*(?:<bdi>[^<]*)?)', self.text)
        there = (href.replace("&amp;", "&") for href, words in found if re.search(pattern, words))
        return [urljoin(self.url, href) for href in there]

    def follow(self, pattern: str) -> Page:
        return Page(self.links(pattern)[0])


@pytest.fixture
def opened(shell: Shell) -> Running:
    home = shell.folder / "home"
    with closing(publish(home, 120, priced=prices(), name=HOSTILE)) as store:
        chunk = feed(store, 120)
        ordinals = range(120)
        calls = [call(n, chunk.chunk, cost=f"0.{n:03}") for n in ordinals]
        results = [
            result(n, chunk.chunk, code="endpoint.bad_request" if n % 40 == 5 else "")
            for n in ordinals
        ]
        delivery_ledger.apply(store, [delivery(calls, results, [making.closing(chunk.chunk)])])
    running = shell.start("show", JOB, "--open", NIGHTSHIFT_HOME=str(home))
    running.says("requests are shown at")
    return running


def test_requests_are_filtered_read_one_by_one_and_closed_with_ctrl_c(opened: Running) -> None:
    url = re.findall(r"http://\S+", opened.err)[0]
    first = Page(url)

    assert "120" in first.text
    assert len(first.links("r-")) == 50
    assert "default-src 'none'" in first.headers["Content-Security-Policy"]
    assert HOSTILE not in first.text
    assert "<script" not in first.text
    last = first.follow("Next page").follow("Next page")
    assert len(last.links("r-")) == 20
    assert last.follow("Previous page").follow("Previous page").text == first.text
    failed = first.follow("^Failed")
    assert len(failed.links("r-")) == 3
    row = failed.follow("r-")
    assert "endpoint.bad_request" in row.text
    assert row.follow("Next").follow("Next").follow("Previous").text == row.follow("Next").text
    assert row.follow("Next").follow("Next").links("^Next") == []
    dear = first.follow("Most expensive").follow("r-")
    assert "0.119" in dear.text
    assert "0.118" in dear.follow("Next").text
    searched = Page(f"{url}?q=r-11")
    assert len(searched.links("r-")) == 11

    for kind, found in (("failed", 0), ("slowest", 11), ("costliest", 11)):
        assert len(Page(f"{url}?q=r-11&kind={kind}").links("r-")) == found

    token = url.split("/")[3]
    strange = [urljoin(url, f"row/{row}") for row in ("120", "-1", "x", "9" * 5000)]
    for wrong in (url.replace(token, "x" * 32), *strange, f"{url}../"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            Page(wrong)

    opened.send(signal.SIGINT)
    assert "Traceback" not in opened.ends(0).err
