# Streams of a release without accounts are in the folder of no account, $G, which is served no more.
# One server takes them over. In a cluster the servers also keep, in $SYS, which account a stream belongs to.
store=/data/jetstream
has_streams() { [ -n "$(ls -A "$store/$1/streams" 2>/dev/null)" ]; }
refuse() { echo "$1 Nothing was changed: see docs/how-to/lock-the-bus.md, \"Servers that have streams\"." >&2; exit 1; }

# With an empty password the server takes anybody who names the user.
for name in $(env | sed -n 's/^\(NATS_[A-Z0-9_]*PASSWORD\)=[[:space:]]*$/\1/p'); do
  echo "$name is empty, so that anybody could be its user: set it. Nothing was changed." >&2
  exit 1
done
if has_streams '$G' && [ -e "$store/ANTIPHON" ]; then
  refuse "$store/\$G has streams, and $store/ANTIPHON is there too: a release without NATS accounts has run on this \
volume after this one. Move the folder that you do not want to another place."
elif [ -d "$store/\$SYS" ] && { has_streams '$G' || [ ! -e "$store/SYS" ]; }; then
  refuse "The streams of this server are from a release without NATS accounts. In a cluster \
they cannot be moved in place, and without them the log would begin empty."
elif [ -d "$store/\$G" ] && [ ! -e "$store/ANTIPHON" ]; then
  mv "$store/\$G" "$store/ANTIPHON" || refuse "$store/\$G cannot be renamed to ANTIPHON: the log would begin empty."
fi
exec nats-server "$@"
