#!/bin/sh
# flags alone are flags of the server
set -e
case "${1:--}" in -*) set -- nats-server "$@" ;; esac
exec "$@"
