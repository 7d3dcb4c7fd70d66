# SPDX-License-Identifier: GPL-3.0-or-later
"""Run an LDAP server: ldap_server.py CERTIFICATE <LDIF. It prints its ports, of LDAP with StartTLS and of LDAPS.

Only users who have logged in can search.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

from ldaptor.inmemory import fromLDIFFile
from ldaptor.interfaces import IConnectedLDAPEntry
from ldaptor.protocols import pureldap
from ldaptor.protocols.ldap import ldaperrors
from ldaptor.protocols.ldap.ldapserver import LDAPServer
from twisted.internet import reactor, ssl
from twisted.internet.protocol import ServerFactory
from twisted.python.components import registerAdapter


class Server(LDAPServer):
    def handle_LDAPSearchRequest(self, request, controls, reply):  # noqa: N802
        if self.boundUser is None:
            raise ldaperrors.LDAPInsufficientAccessRights("log in first")
        return super().handle_LDAPSearchRequest(request, controls, reply)

    def extendedRequest_StartTLS(self, _value, reply):  # noqa: N802
        reply(pureldap.LDAPStartTLSResponse(resultCode=0))
        self.transport.startTLS(self.factory.certificate.options())

    extendedRequest_StartTLS.oid = pureldap.LDAPStartTLSRequest.oid


class Factory(ServerFactory):
    protocol = Server

    def __init__(self, root, certificate):
        self.root = root
        self.certificate = certificate


def listen(root):
    certificate = ssl.PrivateCertificate.loadPEM(Path(sys.argv[1]).read_bytes())
    registerAdapter(lambda factory: factory.root, Factory, IConnectedLDAPEntry)
    factory = Factory(root, certificate)
    ports = [
        reactor.listenTCP(0, factory, interface="127.0.0.1"),
        reactor.listenSSL(0, factory, certificate.options(), interface="127.0.0.1"),
    ]
    print(*(port.getHost().port for port in ports), flush=True)


if __name__ == "__main__":
    fromLDIFFile(BytesIO(sys.stdin.buffer.read())).addCallback(listen)
    reactor.run()
