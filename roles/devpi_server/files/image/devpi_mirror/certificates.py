# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify the certificates of servers, with the certificate authorities of the host."""

from __future__ import annotations

import os
import ssl
from pathlib import Path


def verifying_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Return a context that verifies certificates and host names. Without a bundle, it has the system's authorities."""
    context = ssl.create_default_context(cafile=ca_bundle)
    # Python 3.13 checks certificates more strictly than installers do, and rejects for example authorities without a key usage,
    # which "openssl req -x509" creates.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def ssl_context() -> ssl.SSLContext:
    """Return a context with the authorities of the host."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return verifying_context(bundle if bundle and Path(bundle).exists() else None)
