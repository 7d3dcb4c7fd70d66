# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Document the connection options that the modules of the action group C(mirror) share."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of CONNECTION_OPTIONS in module_utils/_devpi.py."""

    DOCUMENTATION = r"""
options:
  url:
    description:
      - The base URL of the server, without an index.
      - Proxies in the environment are not used for loopback addresses.
    type: str
    default: http://127.0.0.1:3141
  index:
    description:
      - The index that clients install from, as C(user/index).
    type: str
    default: root/pypi
  request_timeout:
    description:
      - The time limit in seconds of one attempt, which can consist of several requests.
    type: float
    default: 10
  url_username:
    description:
      - The user name for an index that not all users may read.
    type: str
  url_password:
    description:
      - The password of O(url_username).
    type: str
  ca_path:
    description:
      - The path of a file with the certificate authorities to trust, in place of those that the system trusts.
    type: path
  validate_certs:
    description:
      - Whether to validate the server's TLS certificate.
    type: bool
    default: true
  listener_uid:
    description:
      - The UID of the user who must be the one that listens on the port of O(url).
      - If another user listens on this port of either loopback address, the server counts as another service, as any local
        user can listen on a free port.
      - Not checked without this option, if O(url) has no loopback address, and on hosts without C(/proc/net/tcp).
    type: int
"""
