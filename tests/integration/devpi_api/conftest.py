# SPDX-License-Identifier: GPL-3.0-or-later
"""Each release of devpi-server, without and with the plugin of the image, which all tests of a session change."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest
import trustme
import upstreams
from servers import ADA_PASSWORD, KINDS, Server, running

LOG_LINES = 50


@pytest.fixture(scope="session", autouse=True)
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One certificate authority in place of those of the host, which each HTTP client of modules reads in 20 ms."""
    path = tmp_path_factory.mktemp("certificates") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield


@pytest.fixture(scope="session", params=KINDS, ids=lambda kind: kind.name)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: None
) -> Iterator[Server]:
    with running(request.param, tmp_path_factory.mktemp("devpi")) as started:
        yield started


@pytest.fixture(scope="session")
def upstream() -> Iterator[str]:
    """The URL of an upstream, which ends with a slash."""
    with upstreams.serving() as url:
        yield url


@pytest.fixture(scope="module")
def ada(server: Server) -> Iterator[None]:
    """The user ada, with the index ada/base."""
    server.apply("devpi_user", name="ada", password=ADA_PASSWORD)
    server.apply("devpi_index", name="ada/base", acl_upload=["root"])
    yield
    server.remove_user("ada")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, Any, Any]:
    """Print the end of devpi's log if a test fails."""
    report = yield
    server = item.funcargs.get("server")
    if report.failed and isinstance(server, Server):
        lines = server.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        report.sections.append(("Log of devpi", "\n".join(lines)))
    return report
