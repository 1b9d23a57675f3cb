# The service's image: the wheel and its locked dependencies in a virtual
# environment, on a slim Python, without compiler and without root.
#
#   docker build -t dryapi-kafka-bridge .
#   docker run --read-only --tmpfs /tmp -v bridge-outbox:/var/lib/bridge \
#     -e BRIDGE_CLIENT_ID=... -e BRIDGE_API_TOKEN_FILE=/run/secrets/token ... dryapi-kafka-bridge

# The base can be replaced, by a digest or by a mirror's name.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
# What is installed beside the service: the project's extras, by name, with spaces between.
ARG EXTRAS=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src

# Two environments: what builds the wheel stays behind in this stage. Wheels
# only, so that no dependency runs its set-up code or asks for a compiler.
# The locks come first: their layer lasts until a version changes.
COPY requirements/ requirements/
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements/build.txt \
    && python -m venv --without-pip /opt/bridge \
    && set -- \
    && for lock in service ${EXTRAS}; do set -- "$@" -r "requirements/${lock}.txt"; done \
    && /opt/build/bin/pip --python /opt/bridge/bin/python install --no-compile --require-hashes --only-binary :all: "$@"

COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY schemas/ schemas/
COPY bridge/ bridge/
RUN /opt/build/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /wheels . \
    && /opt/build/bin/pip --python /opt/bridge/bin/python install --no-compile --no-index --no-deps /wheels/*.whl

# Bytecode that holds no time, so that two builds give the same files, and that is never
# compared with its source, which doesn't change in an image. The seed orders sets.
RUN PYTHONHASHSEED=0 /opt/bridge/bin/python -m compileall -q -f --invalidation-mode unchecked-hash /opt/bridge/lib


FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dryapi-kafka-bridge" \
      org.opencontainers.image.description="Keeps dryAPI's Pusher session alive and publishes every job-status event to Kafka, keyed by request_id." \
      org.opencontainers.image.url="https://github.com/dryapi/kafka-bridge" \
      org.opencontainers.image.source="https://github.com/dryapi/kafka-bridge" \
      org.opencontainers.image.documentation="https://github.com/dryapi/kafka-bridge#readme" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /opt/bridge /opt/bridge
# A volume that is created from the image takes over this owner.
RUN install -d -m 0750 -o 65532 -g 65532 /var/lib/bridge

# The bytecode was compiled above; a read-only root takes no more. Health and
# metrics must be reachable from outside the container.
ENV PATH=/opt/bridge/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BRIDGE_OUTBOX_DIR=/var/lib/bridge \
    BRIDGE_OPERATIONS_LISTEN=0.0.0.0:8080

USER 65532:65532
WORKDIR /var/lib/bridge
VOLUME ["/var/lib/bridge"]
EXPOSE 8080
STOPSIGNAL SIGTERM
# No HEALTHCHECK: Kubernetes ignores it, the OCI image format has no field for
# it, and it would start an interpreter for every look at /livez. Whatever runs
# the image asks for /livez and /readyz on port 8080.
ENTRYPOINT ["bridge"]
