# stands in for prom/prometheus
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
# the official image has busybox, whose wget health checks use
RUN apt-get update -q && apt-get install -qy --no-install-recommends busybox prometheus && rm -rf /var/lib/apt/lists/* \
    && ln -s /usr/bin/busybox /usr/local/bin/wget \
    && install -d -o nobody -g nogroup /prometheus
USER nobody
WORKDIR /prometheus
VOLUME /prometheus
EXPOSE 9090
ENTRYPOINT ["/bin/prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
