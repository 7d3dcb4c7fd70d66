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
  request_timeout:
    description:
      - The time limit in seconds of one request, or of one attempt, which can consist of several requests.
    type: float
    default: 10
  url_username:
    description:
      - The user who sends the requests, for an index that not all users may read, and for changes.
    type: str
  url_password:
    description:
      - The password of O(url_username), or a token of C(devpi-tokens).
      - In check mode, it must be the current password too, as an earlier task that changes the password has not changed it.
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
"""
