# The image of the agent worker, with the models of the offline voice and of semantic turns: it needs no
# download at run time. Its stages are those of service.Dockerfile, which says how to renew the base.
#
#   DOCKER_BUILDKIT=1 docker build -f deploy/images/agent-worker.Dockerfile .
ARG BASE_IMAGE=docker.io/library/python:3.13-slim-bookworm@sha256:67a1e1f215ccda113cfc024e8639049257e88f273898f595b61476d128d387e8

FROM ${BASE_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_CONFIG_FILE=/run/secrets/pip.conf
WORKDIR /src
RUN command -v tini-static || (apt-get update && apt-get install -y --no-install-recommends tini)
RUN python3 -m venv /opt/pip
COPY requirements.lock pyproject.toml ./
COPY deploy/images/install.py deploy/images/declared.py deploy/images/tools.lock deploy/images/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt \
    ["/opt/pip/bin/python", "-m", "deploy.images.install", "tools", "/opt/tools"]

FROM builder AS requirements
COPY contracts/pyproject.toml contracts/
COPY chassis/pyproject.toml chassis/
COPY recorder/pyproject.toml recorder/
COPY services/agent-worker/pyproject.toml services/agent-worker/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt \
    ["/opt/pip/bin/python", "-m", "deploy.images.install", "requirements", "agent-worker", "/opt/antiphon"]

FROM requirements AS packages
COPY contracts contracts
COPY chassis chassis
COPY recorder recorder
COPY services/agent-worker services/agent-worker
RUN /opt/pip/bin/python -m deploy.images.install packages agent-worker /opt/tools /opt/packages \
    && cp -r /opt/packages/. /opt/antiphon/ \
    && /opt/pip/bin/python -m deploy.images.install sbom agent-worker /opt/tools /opt/antiphon /opt/sbom/sbom.cdx.json \
    && mkdir -p -m 0700 /opt/journals && chown 10001:10001 /opt/journals

FROM ${BASE_IMAGE} AS image
USER 10001:10001
WORKDIR /tmp
ENV PATH=/opt/antiphon/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ANTIPHON_AGENT_HEALTH_HOST=0.0.0.0 ANTIPHON_AGENT_HEALTH_PORT=8003 \
    ANTIPHON_JOURNAL_DIR=/var/lib/antiphon/journals
COPY --from=builder /usr/bin/tini-static /opt/tini
COPY --chmod=0644 deploy/images/health.py /opt/health.py
COPY --from=requirements /opt/antiphon /opt/antiphon
COPY --from=packages /opt/packages /opt/antiphon
COPY --from=packages /opt/sbom /opt/sbom
# events that were not published yet: they must outlive the container
COPY --from=packages --chown=10001:10001 /opt/journals /var/lib/antiphon/journals
VOLUME /var/lib/antiphon/journals
EXPOSE 8003
# it drains: running calls go on for as long as ANTIPHON_AGENT_DRAIN_TIMEOUT_SECONDS
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/opt/antiphon/bin/python", "-I", "-S", "/opt/health.py", "ANTIPHON_AGENT_HEALTH_PORT", "8003"]
ENTRYPOINT ["/opt/tini", "--", "/opt/antiphon/bin/python", "-m", "antiphon.agent_worker"]
CMD ["run"]
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="antiphon-agent-worker" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
