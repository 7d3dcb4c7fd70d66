# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter mask_credentials. Its documentation is in mask_credentials.yml."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.devpi.mirror.plugins.module_utils._credentials import mask


def mask_credentials(text: Any) -> str:
    """Return a text with the credentials in its URLs replaced by ``***``."""
    return mask(str(text))


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[[Any], str]]:
        return {"mask_credentials": mask_credentials}
