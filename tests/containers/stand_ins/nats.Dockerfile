# stands in for nats:<version>-alpine
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
# the official image has the wget of busybox, which health checks use
RUN apt-get update -q && apt-get install -qy --no-install-recommends busybox && rm -rf /var/lib/apt/lists/* \
    && ln -s /usr/bin/busybox /usr/local/bin/wget
COPY nats-server /usr/local/bin/nats-server
COPY nats-server.conf /etc/nats/nats-server.conf
COPY nats-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
EXPOSE 4222 8222 6222
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["nats-server", "--config", "/etc/nats/nats-server.conf"]
