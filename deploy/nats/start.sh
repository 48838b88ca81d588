# Streams of a release without accounts are in the folder of no account: that of the log takes them over.
before='/data/jetstream/$G' now=/data/jetstream/ANTIPHON
if [ -d "$before" ] && [ ! -e "$now" ] && [ ! -d '/data/jetstream/$SYS' ]; then mv "$before" "$now"; fi
exec nats-server "$@"
