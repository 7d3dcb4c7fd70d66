# Copyright (c) 2026, the devpi.mirror authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter invalid_ldap. Its documentation is in invalid_ldap.yml."""

from __future__ import annotations

import re
import string
from typing import Any, Callable, Iterator, Mapping

from ansible.module_utils.parsing.convert_bool import boolean

URL = re.compile(r"ldaps?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?")


def fields(text: str) -> set[str]:
    """Return the names in braces of a text. Raises ValueError if the braces do not match."""
    return {name for _literal, name, _spec, _conversion in string.Formatter().parse(text) if name is not None}


def pattern_problem(option: str, text: Any, known: tuple[str, ...]) -> Iterator[str]:
    """Return a message for a text that lacks the name of the user, or has other names in braces."""
    named = " or ".join(f"{{{name}}}" for name in known)
    try:
        found = fields(str(text))
    except ValueError:
        found = set()
    if not found or found - set(known):
        yield f"{option} must contain {named}, and nothing else in braces."


def search_problems(options: Mapping[str, Any], option: str, known: tuple[str, ...]) -> Iterator[str]:
    search = options.get(option)
    if not isinstance(search, Mapping):
        return
    yield from pattern_problem(f"{option}.filter", search.get("filter") or "", known)
    if bool(search.get("userdn")) != bool(search.get("password")):
        yield f"{option} needs userdn and password, or neither for an anonymous search."


def url_problems(options: Mapping[str, Any]) -> Iterator[str]:
    url = str(options.get("url") or "")
    if not URL.fullmatch(url):
        # A URL of another form can contain a password.
        yield "url is no URL of an LDAP server. Set it to a URL without a path, as in ldaps://ldap.example.com."
        return
    has_start_tls = boolean(options.get("start_tls") or False)
    if url.startswith("ldaps:") and has_start_tls:
        yield "start_tls is for ldap:// URLs, as ldaps:// always uses TLS. Remove it, or change the URL."
    if url.startswith("ldap:") and not has_start_tls and not boolean(options.get("allow_plaintext") or False):
        yield f"url is {url}, which would send passwords unencrypted. Set it to an ldaps:// URL, or set start_tls to true."


def problems(options: Mapping[str, Any]) -> Iterator[str]:
    yield from url_problems(options)
    if bool(options.get("user_template")) == bool(options.get("user_search")):
        yield "set either user_template or user_search."
    elif options.get("user_template"):
        yield from pattern_problem("user_template", options["user_template"], ("username",))
    yield from search_problems(options, "user_search", ("username",))
    yield from search_problems(options, "group_search", ("username", "userdn"))
    if not re.fullmatch("[1-9]|[1-5][0-9]|60", str(options.get("timeout", 5))):
        yield f"timeout is '{options['timeout']}'. Set it to a number of seconds from 1 to 60."
    if not re.fullmatch("(/.+)?", str(options.get("ca_bundle") or "")):
        yield f"ca_bundle is '{options['ca_bundle']}'. Set it to the absolute path of a PEM file on the host."


def invalid_ldap(options: Mapping[str, Any]) -> list[str]:
    """Return a message for each invalid option of devpi_server_ldap. An empty dictionary is valid."""
    return [f"devpi_server_ldap: {message}" for message in problems(options)] if options else []


class FilterModule:
    """The filters of this file by name, for Ansible."""

    def filters(self) -> dict[str, Callable[[Mapping[str, Any]], list[str]]]:
        return {"invalid_ldap": invalid_ldap}
