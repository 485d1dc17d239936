# One image for the worker, the coordinator and Flower. No key and no password is ever in it.
#
# PYTHON_DIGEST (`@sha256:...`) pins the base image by its content; see docs/deployment.md.
ARG PYTHON_DIGEST=""

FROM python:3.13.14-slim-trixie${PYTHON_DIGEST} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/nightshift
ENV PATH=/opt/nightshift/bin:$PATH
WORKDIR /src
# requirements.lock names every package, hatchling too, with its hashes; nothing is compiled here.
COPY requirements.lock ./
RUN pip install --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY jobs ./jobs
COPY batch ./batch
COPY workers ./workers
RUN pip install --no-deps --no-build-isolation --no-index .

FROM python:3.13.14-slim-trixie${PYTHON_DIGEST}
ARG NIGHTSHIFT_UID=1000
RUN groupadd --gid "$NIGHTSHIFT_UID" nightshift \
    && useradd --uid "$NIGHTSHIFT_UID" --gid nightshift --no-create-home \
       --home-dir /home/nightshift --shell /usr/sbin/nologin nightshift \
    && install --directory --owner nightshift --group nightshift --mode 0700 \
       /home/nightshift /scratch /work
COPY --from=build /opt/nightshift /opt/nightshift
ENV PATH=/opt/nightshift/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1
WORKDIR /work
USER ${NIGHTSHIFT_UID}:${NIGHTSHIFT_UID}
CMD ["nightshift", "--help"]
