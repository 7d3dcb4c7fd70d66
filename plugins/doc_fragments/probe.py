# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Document the options that the modules which probe a mirror share."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of PROBE_OPTIONS in module_utils/_devpi.py."""

    DOCUMENTATION = r"""
options:
  index:
    description:
      - The index that clients install from, as C(user/index).
    type: str
    default: root/pypi
  listener_uid:
    description:
      - The UID of the user who must be the one that listens on the port of O(url).
      - If another user listens on this port of either loopback address, the server counts as another service, as any local
        user can listen on a free port.
      - Not checked without this option, if O(url) has no loopback address, and on hosts without C(/proc/net/tcp).
    type: int
"""
