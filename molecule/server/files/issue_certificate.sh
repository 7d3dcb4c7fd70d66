#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# issue-certificate DAYS: issue a certificate of a test CA for this host, as an ACME client would renew one.
set -e
umask 077
mkdir -p /etc/ssl/mirror
cd /etc/ssl/mirror
if [ ! -e ca.pem ]; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj '/CN=Test CA' -keyout ca-key.pem -out ca.pem 2>/dev/null
fi
address=$(hostname -I | tr ' ' '\n' | sed -n '/^172\.\|^10\.\|^192\.168\./p' | sed 's/^/IP:/' | paste -sd , -)
printf 'subjectAltName=DNS:mirror.test,%s\nbasicConstraints=CA:FALSE\n' "$address" >extensions
openssl req -new -newkey rsa:2048 -nodes -subj /CN=mirror.test -keyout new-key.pem -out request.pem 2>/dev/null
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days "$1" -extfile extensions -out new.pem 2>/dev/null
mv new-key.pem key.pem
cat new.pem ca.pem >fullchain.pem
