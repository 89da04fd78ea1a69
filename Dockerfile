# One image for every process of a fleet: transship api | scheduler | worker --region R | flower.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY requirements/constraints.txt requirements/
COPY service service
COPY workers workers
COPY api api
RUN python -m venv /opt/transship \
 && /opt/transship/bin/pip install --no-cache-dir -c requirements/constraints.txt .

FROM python:3.11-slim-bookworm
COPY --from=build /opt/transship /opt/transship
RUN useradd --system --uid 10001 --home-dir /data --create-home transship \
 && install -d -o transship -g transship -m 0755 /run/transship
ENV PATH=/opt/transship/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
VOLUME /data /run/transship
EXPOSE 8470
ENTRYPOINT []
CMD ["transship", "up", "--data", "/data", "--listen", "0.0.0.0:8470"]
