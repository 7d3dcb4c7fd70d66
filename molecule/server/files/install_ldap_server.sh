#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# install-ldap-server: configure OpenLDAP with users and groups, and issue two certificates for it: one of the CA of
# issue-certificate in /etc/ssl/ldap/known.pem, and one of an unknown CA in unknown.pem. Link server.pem to either.
set -e
address=192.0.2.1
umask 077
mkdir -p /etc/ssl/ldap /var/lib/ldap-test
cd /etc/ssl/ldap
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj '/CN=Unknown CA' -keyout unknown-ca-key.pem -out unknown-ca.pem 2>/dev/null
openssl req -new -newkey rsa:2048 -nodes -subj /CN=ldap.test -keyout key.pem -out request.pem 2>/dev/null
printf 'subjectAltName=IP:%s\nbasicConstraints=CA:FALSE\n' "$address" >extensions

# issue CA KEY CERTIFICATE
issue() {
    openssl x509 -req -in request.pem -CA "$1" -CAkey "$2" -CAcreateserial -days 30 -extfile extensions -out "$3" 2>/dev/null
}

issue ../mirror/ca.pem ../mirror/ca-key.pem known.pem
issue unknown-ca.pem unknown-ca-key.pem unknown.pem
ln -s known.pem server.pem

cat >/etc/ldap/test.conf <<'CONFIG'
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile /etc/ssl/ldap/server.pem
TLSCertificateKeyFile /etc/ssl/ldap/key.pem
database mdb
suffix dc=example,dc=com
directory /var/lib/ldap-test
access to attrs=userPassword by anonymous auth
access to * by dn.exact=cn=mirror,ou=services,dc=example,dc=com read
CONFIG

# user NAME
user() {
    printf '\ndn: uid=%s,ou=people,dc=example,dc=com\nobjectClass: inetOrgPerson\n' "$1"
    printf 'cn: %s\nsn: %s\nuserPassword: password-of-%s\n' "$1" "$1" "$1"
}

# group NAME USER...
group() {
    printf '\ndn: cn=%s,ou=groups,dc=example,dc=com\nobjectClass: groupOfNames\n' "$1"
    shift
    printf 'member: uid=%s,ou=people,dc=example,dc=com\n' "$@"
}

{
    printf 'dn: dc=example,dc=com\nobjectClass: dcObject\nobjectClass: organization\no: Example\n'
    printf '\ndn: ou=%s,dc=example,dc=com\nobjectClass: organizationalUnit\n' people groups services
    # Two passwords, as while one is replaced by the other.
    printf '\ndn: cn=mirror,ou=services,dc=example,dc=com\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n'
    printf 'userPassword: first-search-password\nuserPassword: second-search-password\n'
    user ada
    user bob
    group developers ada
    group release ada
} | slapadd -f /etc/ldap/test.conf

cat >/etc/systemd/system/ldap.service <<SERVICE
[Service]
ExecStart=/usr/sbin/slapd -d 0 -f /etc/ldap/test.conf -h "ldap://$address ldaps://$address"
ExecStartPost=/bin/sh -c "until ss -ltn | grep -q $address:636; do sleep 0.1; done"
Restart=always
[Install]
WantedBy=multi-user.target
SERVICE
