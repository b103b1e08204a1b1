# One image for every process: the argument says which (`lookup`, `intake`, `relay`, `migrate`).

# Whoever builds for production names a mirror, a patch release and a digest here.
ARG PYTHON_IMAGE=python:3.11-slim


FROM ${PYTHON_IMAGE} AS builder
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# Wheels only: building one from source would fetch that package's build tools, which nobody pinned.
COPY requirements.lock requirements-dev.lock ./
RUN python -m venv --without-pip /opt/hoso24 \
 && pip --python /opt/hoso24/bin/python install --require-hashes --only-binary :all: --requirement requirements.lock

# The build backend is pinned in the development lock and needed in this stage alone; without isolation, pip uses it
# instead of fetching one.
RUN awk '/^setuptools==/ {wanted = 1} wanted {print} wanted && !/\\$/ {exit}' requirements-dev.lock > build.lock \
 && pip install --require-hashes --only-binary :all: --requirement build.lock

COPY pyproject.toml README.md LICENSE hoso24.py ./
COPY ops ops
COPY lookup lookup
COPY intake intake
RUN pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
 && pip --python /opt/hoso24/bin/python install --no-index --no-deps /wheels/hoso24-*.whl


FROM ${PYTHON_IMAGE}
# A number, because Kubernetes cannot tell of a name that it is not root.
RUN groupadd --gid 10001 hoso24 \
 && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin hoso24
COPY --from=builder /opt/hoso24 /opt/hoso24
ENV PATH=/opt/hoso24/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080 8081 8090 8091 8092
ENTRYPOINT ["hoso24"]
