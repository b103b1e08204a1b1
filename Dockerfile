# One image for every process: the argument says which (`lookup`, `intake`, `relay`, `migrate`).
# The same commit, lock, base and SOURCE_DATE_EPOCH give the same bytes: k8s/image/prove builds it twice and compares.

# A production build names a mirror, a patch release and a digest here. The second may have no pip.
ARG PYTHON_IMAGE=python:3.11-slim
ARG RUNTIME_IMAGE=${PYTHON_IMAGE}


FROM ${RUNTIME_IMAGE} AS running


FROM ${PYTHON_IMAGE} AS builder
# The time every file says it was made, and the seed by which sets come in the same order in every bytecode file.
ARG SOURCE_DATE_EPOCH=0
# Another index, or none but a directory of wheels: pip takes these as if they were in its environment.
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PIP_NO_COMPILE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONHASHSEED=0 \
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH}
WORKDIR /src

# Wheels only: building one from source would fetch that package's build tools, which are not pinned.
COPY requirements.lock requirements-dev.lock ./
RUN python3 -m venv --without-pip /opt/hoso24 \
 && python3 -m pip --python /opt/hoso24/bin/python install --require-hashes --only-binary :all: --requirement requirements.lock

# The build backend is pinned in the development lock and needed in this stage alone; without isolation, pip uses it
# instead of fetching one.
RUN awk '/^setuptools==/ {wanted = 1} wanted {print} wanted && !/\\$/ {exit}' requirements-dev.lock > build.lock \
 && python3 -m venv /opt/build \
 && /opt/build/bin/python -m pip install --require-hashes --only-binary :all: --requirement build.lock

COPY pyproject.toml README.md LICENSE hoso24.py ./
COPY ops ops
COPY lookup lookup
COPY intake intake
COPY k8s/image/sbom.py k8s/image/sbom.py
# Bytecode that is believed unchecked, since it cannot get out of date in here; a file's time would be in any other.
RUN --mount=type=bind,from=running,source=/,target=/running \
    /opt/build/bin/python -m pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist . \
 && python3 -m pip --python /opt/hoso24/bin/python install --no-index --no-deps /dist/hoso24-*.whl \
 && /opt/hoso24/bin/python k8s/image/sbom.py requirements.lock /running > /opt/hoso24/sbom.cdx.json \
 && /opt/hoso24/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/hoso24/lib \
 && find /opt/hoso24 -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +


# Nothing is run in here, only copied: no user is made either, since Kubernetes wants a number anyway.
FROM running
COPY --from=builder /opt/hoso24 /opt/hoso24
ENV PATH=/opt/hoso24/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080 8081 8090 8091 8092 8093 8094 8097 8098 8099
ENTRYPOINT ["hoso24"]
