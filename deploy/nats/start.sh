# Streams of a release without accounts are in the folder of no account: that of the log takes them over.
before='/data/jetstream/$G' now=/data/jetstream/ANTIPHON
has_streams() { [ -n "$(ls -A "$1/streams" 2>/dev/null)" ]; }
if [ -d "$before" ] && [ ! -d '/data/jetstream/$SYS' ]; then # a member of a cluster cannot move them
    if [ ! -e "$now" ]; then
        mv "$before" "$now"
    elif has_streams "$before" && has_streams "$now"; then
        echo "$before and $now both have streams: a release from before NATS had accounts has run on this volume" \
            "after this one. Move the folder that you do not want to another place." >&2
        exit 1
    fi
fi
exec nats-server "$@"
