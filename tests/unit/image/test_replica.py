# SPDX-License-Identifier: GPL-3.0-or-later
"""What the status of a replica shows to clients."""

from types import SimpleNamespace

import pytest
from devpi_mirror import replica
from pyramid.request import Request
from pyramid.response import Response

ERRORS = {"acme/private/+f/one.whl": {"url": "https://one/acme/private/+f/one.whl", "message": "No space left"}}


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/+status", {}, ERRORS),
        ("/+status", {"X-Real-IP": "192.0.2.1"}, {"0": {}}),
        ("//+status", {"X-Real-IP": "192.0.2.1"}, {"0": {}}),
    ],
)
def test_clients_do_not_receive_the_names_of_private_files(path, headers, expected):
    def handler(_request):
        return Response(json_body={"result": {"role": "REPLICA", "replication-errors": ERRORS}})

    tween = replica.tween_factory(handler, {"xom": SimpleNamespace(is_replica=lambda: True)})
    request = Request.blank("/", headers=headers)
    request.path_info = path
    assert tween(request).json_body == {"result": {"role": "REPLICA", "replication-errors": expected}}
