# A server for one student, without PyTorch: it answers for an ONNX file of `cmkd export`.
#
#   docker build --tag cmkd-serve .
#   docker run --read-only --publish 8000:8000 --env CMKD_TOKEN --volume ./student.onnx:/model/student.onnx:ro cmkd-serve
#
# Options of `cmkd serve` come after the image's name, behind the path of the model.

FROM python:3.11-slim AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY constraints.txt requirements-runtime.txt /wheels/
COPY --from=wheel /wheels /wheels
# cmkd itself comes without its dependencies, of which training needs most.
RUN pip install --no-cache-dir --constraint /wheels/constraints.txt --requirement /wheels/requirements-runtime.txt \
        fastapi prometheus-client uvicorn \
    && pip install --no-cache-dir --no-deps /wheels/cmkd-*.whl \
    && rm -r /wheels \
    && useradd --system --uid 10001 cmkd
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["cmkd", "serve"]
CMD ["/model/student.onnx", "--host", "0.0.0.0"]
