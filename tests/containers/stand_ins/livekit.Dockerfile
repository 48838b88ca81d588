# stands in for livekit/livekit-server:v<version>
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
# the official image has the wget of busybox, which health checks use
RUN apt-get update -q && apt-get install -qy --no-install-recommends busybox && rm -rf /var/lib/apt/lists/* \
    && ln -s /usr/bin/busybox /usr/local/bin/wget
COPY livekit-server /livekit-server
ENTRYPOINT ["/livekit-server"]
