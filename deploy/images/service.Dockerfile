# The image of one service: session-api, persistence, webhook-ingest or fleet.
#
#   DOCKER_BUILDKIT=1 docker build -f deploy/images/service.Dockerfile --build-arg SERVICE=session-api .
#
# `make images` builds all of them: docs/reference/images.md. To renew the base: take the digest of a newer tag
# from `docker buildx imagetools inspect docker.io/library/python:3.13-slim-bookworm`, here and in
# agent-worker.Dockerfile; a test checks that they are the same. Any Debian with Python 3.11 to 3.13, its venv
# module and CA certificates is a base; it needs tini too where apt reaches no mirror.
ARG BASE_IMAGE=docker.io/library/python:3.13-slim-bookworm@sha256:67a1e1f215ccda113cfc024e8639049257e88f273898f595b61476d128d387e8
ARG SERVICE

FROM ${BASE_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_CONFIG_FILE=/run/secrets/pip.conf
WORKDIR /src
RUN command -v tini-static || (apt-get update && apt-get install -y --no-install-recommends tini)
# pip of its own, so that the environments of the image need none
RUN python3 -m venv /opt/pip
COPY requirements.lock pyproject.toml ./
COPY deploy/images/install.py deploy/images/declared.py deploy/images/tools.lock deploy/images/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt \
    ["/opt/pip/bin/python", "-m", "deploy.images.install", "tools", "/opt/tools"]

# what the service requires: a layer that changes with its requirements, not with our code
FROM builder AS requirements
ARG SERVICE
COPY contracts/pyproject.toml contracts/
COPY chassis/pyproject.toml chassis/
COPY services/${SERVICE}/pyproject.toml services/${SERVICE}/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt \
    /opt/pip/bin/python -m deploy.images.install requirements ${SERVICE} /opt/antiphon

FROM requirements AS packages
ARG SERVICE
COPY contracts contracts
COPY chassis chassis
COPY services/${SERVICE} services/${SERVICE}
RUN /opt/pip/bin/python -m deploy.images.install packages ${SERVICE} /opt/tools /opt/packages \
    && cp -r /opt/packages/. /opt/antiphon/ \
    && /opt/pip/bin/python -m deploy.images.install sbom ${SERVICE} /opt/tools /opt/antiphon /opt/sbom/sbom.cdx.json

FROM ${BASE_IMAGE} AS runtime
# 0 would be root; a number, so that Kubernetes can check runAsNonRoot
USER 10001:10001
WORKDIR /tmp
ENV PATH=/opt/antiphon/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=builder /usr/bin/tini-static /opt/tini
COPY --chmod=0644 deploy/images/health.py /opt/health.py
COPY --from=requirements /opt/antiphon /opt/antiphon
COPY --from=packages /opt/packages /opt/antiphon
COPY --from=packages /opt/sbom /opt/sbom
STOPSIGNAL SIGTERM

FROM runtime AS session-api
ENV ANTIPHON_API_HOST=0.0.0.0 ANTIPHON_API_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/antiphon/bin/python", "-I", "-S", "/opt/health.py", "ANTIPHON_API_PORT", "8000"]
ENTRYPOINT ["/opt/tini", "--", "/opt/antiphon/bin/python", "-m", "antiphon.session_api"]

FROM runtime AS webhook-ingest
ENV ANTIPHON_WEBHOOKS_HOST=0.0.0.0 ANTIPHON_WEBHOOKS_PORT=8001
EXPOSE 8001
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/antiphon/bin/python", "-I", "-S", "/opt/health.py", "ANTIPHON_WEBHOOKS_PORT", "8001"]
ENTRYPOINT ["/opt/tini", "--", "/opt/antiphon/bin/python", "-m", "antiphon.webhook_ingest"]

FROM runtime AS fleet
ENV ANTIPHON_FLEET_HOST=0.0.0.0 ANTIPHON_FLEET_PORT=8005
EXPOSE 8005
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/antiphon/bin/python", "-I", "-S", "/opt/health.py", "ANTIPHON_FLEET_PORT", "8005"]
ENTRYPOINT ["/opt/tini", "--", "/opt/antiphon/bin/python", "-m", "antiphon.fleet"]

# `run` is one command of several: migrate, status, rebuild, verify, streams
FROM runtime AS persistence
ENV ANTIPHON_PERSISTENCE_HEALTH_HOST=0.0.0.0 ANTIPHON_PERSISTENCE_HEALTH_PORT=8002
EXPOSE 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/antiphon/bin/python", "-I", "-S", "/opt/health.py", "ANTIPHON_PERSISTENCE_HEALTH_PORT", "8002"]
ENTRYPOINT ["/opt/tini", "--", "/opt/antiphon/bin/python", "-m", "antiphon.persistence"]
CMD ["run"]

FROM ${SERVICE} AS image
ARG SERVICE
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="antiphon-${SERVICE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
