# Streams of a release without accounts are in the folder of no account, $G, which is served no more.
# One server takes them over. In a cluster the servers also keep, in $SYS, which account a stream belongs to.
store=/data/jetstream
if [ -d "$store/\$SYS" ] && [ ! -e "$store/SYS" ]; then
  echo "The streams of this server are from a release without NATS accounts. In a cluster they cannot be moved" \
    "in place, and without them the log would begin empty. Nothing was changed: helm rollback, and then see" \
    "docs/how-to/run-on-kubernetes.md, \"A stack from before NATS accounts\"." >&2
  exit 1
fi
if [ -d "$store/\$G" ] && [ ! -e "$store/ANTIPHON" ]; then mv "$store/\$G" "$store/ANTIPHON"; fi
exec nats-server "$@"
