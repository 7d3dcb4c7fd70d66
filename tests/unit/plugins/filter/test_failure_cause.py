# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.devpi.mirror.plugins.filter.failure_cause import FilterModule

failure_cause = FilterModule().filters()["failure_cause"]

BUILDER = """\
DEPRECATED: The legacy builder is deprecated and will be removed in a future release.
            Install the buildx component to build images with BuildKit:
            https://docs.docker.com/go/buildx/

"""
COMMAND = """\
The command '/bin/sh -c set -e;     apt-get update;
    echo 'a' returned' returned a non-zero code: 100
"""
MODULE_FAILURE = "MODULE FAILURE\nSee stdout/stderr for the exact error"
FAILED_ITEM = {"failed": True, "msg": "non-zero return code", "stderr": "denied"}


@pytest.mark.parametrize(
    ("result", "cause"),
    [
        ({}, ""),
        ({"msg": "No space is left."}, "No space is left."),
        ({"msg": "non-zero return code", "stderr": "denied\n"}, "denied"),
        ({"msg": "Pull failed", "stderr": "denied"}, "Pull failed: denied"),
        ({"msg": None, "stderr": None}, ""),
        ({"msg": "non-zero return code", "stderr": BUILDER + "E: no network\n"}, "E: no network"),
        ({"msg": BUILDER + "E: no network"}, "E: no network"),
        ({"stderr": "E: 1\n" + COMMAND}, "E: 1\nThe command returned a non-zero code: 100"),
        ({"msg": "non-zero return code", "stderr": "", "stdout": "E: denied\n"}, "E: denied"),
        ({"msg": "non-zero return code", "stderr": BUILDER, "stdout": "E: denied"}, "E: denied"),
        ({"msg": "non-zero return code", "stderr": "denied", "stdout": "Pulling"}, "denied"),
        ({"msg": "non-zero return code", "stderr": "", "stdout": ""}, "non-zero return code"),
        ({"msg": MODULE_FAILURE, "module_stderr": "MemoryError\n", "module_stdout": ""}, "MemoryError"),
        (
            {"msg": MODULE_FAILURE, "module_stderr": "Closed.\n", "module_stdout": "MemoryError\n"},
            "Closed.: MemoryError",
        ),
        ({"msg": MODULE_FAILURE}, MODULE_FAILURE),
        ({"msg": "All items completed", "results": [{"failed": False}, FAILED_ITEM, {"failed": True}]}, "denied"),
        ({"msg": "No package", "results": ["Removed"]}, "No package"),
        ({"stderr": "GET https://ada:secret@example.com/ failed"}, "GET https://***@example.com/ failed"),
    ],
)
def test_the_cause_has_no_noise_and_no_credentials(result, cause):
    assert failure_cause(result) == cause


def test_a_long_cause_is_shortened():
    text = "a" * 500 + "b" * 2000 + "c" * 1000
    assert failure_cause({"stderr": "a" * 1499}) == "a" * 1499
    assert failure_cause({"stderr": text}) == "a" * 500 + " ... " + "c" * 1000
