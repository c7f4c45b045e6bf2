"""Citations from the DOI service, and what stands in for them."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from idcfs.catalog.citations import Source
from idcfs.cite.doi import MEDIA_TYPES, ask
from idcfs.cite.formats import format_source
from idcfs.cite.formatted import format_citations
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Source(
    "10.1/a_b",
    title="CT & {more}",
    citation='Doe, J. (2016). CT & {more} 100% "x". https://doi.org/10.1/a_b',
    kind="original_data",
)
BARE = Source("10.1/bare")

Answer = tuple[int, str, str]


@contextmanager
def service(answers: dict[str, Answer]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A DOI service on loopback: status, content type and body by path. Notes what is asked."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Accept"]))
            status, kind, body = answers.get(self.path, (404, "text/plain", ""))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if status == 302:
                self.send_header("Location", body)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_service_is_asked_for_the_format_and_its_redirections_are_followed() -> None:
    answers = {
        "/10.1/a_b": (302, "text/plain", "/made/10.1/a_b"),
        "/made/10.1/a_b": (200, "application/x-bibtex", " @article{x}\n"),
    }
    with service(answers) as (url, asked):
        formatted = format_citations([SOURCE], "bibtex", service_url=url)
    assert formatted.texts == ["@article{x}"]
    assert formatted.problems == []
    wanted = MEDIA_TYPES["bibtex"]
    assert asked == [("/10.1/a_b", wanted), ("/made/10.1/a_b", wanted)]


def test_apa_citations_come_from_the_index_where_it_has_them() -> None:
    with service({"/10.1/bare": (200, "text/x-bibliography", "Bare. (2020).")}) as (url, asked):
        formatted = format_citations([SOURCE, BARE], "apa", service_url=url)
    assert formatted.texts == [SOURCE.citation, "Bare. (2020)."]
    assert [path for path, _ in asked] == ["/10.1/bare"]


def test_what_the_service_does_not_know_comes_from_the_index() -> None:
    with service({"/10.1/bare": (200, "application/x-bibtex", "@misc{bare}")}) as (url, _):
        formatted = format_citations([SOURCE, BARE], "bibtex", service_url=url)
    assert formatted.texts == [format_source(SOURCE, "bibtex"), "@misc{bare}"]
    assert formatted.problems == [
        "10.1/a_b: the DOI service answers 404",
        "made of what the index says, without authors one by one: 1 of 2",
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((503, "text/plain", ""), "it answers 503"),
        ((403, "text/plain", ""), "it answers 403"),
        ((200, "text/html; charset=utf-8", "<html>log in"), "a web page comes instead"),
        ((200, "application/json", "{"), "Expecting property name"),
    ],
)
def test_a_service_that_does_not_work_is_not_asked_for_all(answer: Answer, reason: str) -> None:
    dois = [f"10.1/{number}" for number in range(100)]
    with service({f"/{doi}": answer for doi in dois}) as (url, asked):
        found = ask(dois, "json", service_url=url)
    assert found.texts == {}
    assert found.unreachable is not None
    assert found.unreachable.startswith(reason)
    assert len(asked) < 100


def test_no_service_is_told_in_one_line_and_the_index_stands_in() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        formatted = format_citations([SOURCE], "turtle", service_url=url)
    assert formatted.texts == [format_source(SOURCE, "turtle")]
    assert formatted.problems[0] == "the DOI service cannot be reached: Connection refused"


def test_a_silent_service_costs_no_more_than_the_time_allowed() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        found = ask(["10.1/a_b"], "json", service_url=url, timeout_s=0.2)
        assert time.monotonic() - start < 5
    assert found.unreachable == "it took too long"


@pytest.mark.parametrize("url", ["", "doi.org", "file:///etc/passwd"])
def test_a_service_must_be_a_url(url: str) -> None:
    with pytest.raises(UsageError, match="not the URL of a DOI service"):
        ask(["10.1/a_b"], "json", service_url=url)


def test_made_bibtex_escapes_what_tex_would_obey() -> None:
    assert format_source(SOURCE, "bibtex") == (
        "@misc{10.1/a_b,\n"
        "  title = {CT \\& \\{more\\}},\n"
        "  year = {2016},\n"
        "  doi = {10.1/a_b},\n"
        "  url = {https://doi.org/10.1/a_b},\n"
        '  note = {Doe, J. (2016). CT \\& \\{more\\} 100\\% "x". https://doi.org/10.1/a\\_b}\n'
        "}"
    )


def test_made_csl_is_an_object() -> None:
    made = json.loads(format_source(SOURCE, "json"))
    assert (made["DOI"], made["title"]) == ("10.1/a_b", "CT & {more}")
    assert made["issued"] == {"date-parts": [[2016]]}


def test_made_turtle_escapes_quotes() -> None:
    made = format_source(SOURCE, "turtle")
    assert made.startswith("<https://doi.org/10.1/a_b>\n")
    assert '100% \\"x\\"' in made
    assert made.endswith('" .')


def test_a_source_of_which_only_the_doi_is_known_has_a_citation_all_the_same() -> None:
    assert format_source(BARE, "apa") == "10.1/bare. https://doi.org/10.1/bare"
    for style in MEDIA_TYPES:
        assert "10.1/bare" in format_source(BARE, style)
