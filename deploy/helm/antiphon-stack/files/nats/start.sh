# Streams of a release without accounts are in the folder of no account, $G, which is served no more.
# One server takes them over. In a cluster the servers also keep, in $SYS, which account a stream belongs to.
store=/data/jetstream
has_streams() { [ -n "$(ls -A "$store/$1/streams" 2>/dev/null)" ]; }
refuse() { echo "$1 Nothing was changed: see docs/how-to/lock-the-bus.md, \"Servers that have streams\"." >&2; exit 1; }

if [ -d "$store/\$SYS" ]; then
  [ -e "$store/SYS" ] || refuse "The streams of this server are from a release without NATS accounts. In a cluster \
they cannot be moved in place, and without them the log would begin empty."
elif has_streams '$G' && has_streams ANTIPHON; then
  refuse "$store/\$G and $store/ANTIPHON both have streams: a release without NATS accounts has run on this volume \
after this one. Move the folder that you do not want to another place."
elif [ -d "$store/\$G" ] && [ ! -e "$store/ANTIPHON" ]; then
  mv "$store/\$G" "$store/ANTIPHON"
fi
exec nats-server "$@"
