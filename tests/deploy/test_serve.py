"""The prediction server: answers, limits, token, health, metrics, and start and stop as a process."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tifffile
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image
from scipy.io import wavfile

from cmkd.cli import main
from cmkd.deploy.calibration import Calibration
from cmkd.deploy.server.app import create_app
from cmkd.deploy.server.launch import described, listening, serve
from cmkd.deploy.server.limits import Limits
from cmkd.deploy.student import Student, load_student
from cmkd.errors import CmkdError
from cmkd.types import Modality
from deploy.conftest import make_student

GRAY = np.arange(64, dtype=np.uint8).reshape(8, 8)
MODEL = {"name": "radar", "version": "0123"}
LIMITS = Limits(body_mb=0.25, pixels=64 * 64, side=128, batch=4, seconds=5.0)
Body = bytes | AsyncIterator[bytes]


@pytest.fixture(scope="module")
def student(radar_student: Path) -> Student:
    return load_student(radar_student, device="cpu", threads=1)


@pytest.fixture(scope="module")
def app(student: Student) -> Iterator[FastAPI]:
    made = create_app(student, MODEL, LIMITS)
    yield made
    made.state.predictor.close()


def client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://server")


def post(app: FastAPI, body: Body, kind: str = "application/x-npy", **headers: str) -> httpx.Response:
    async def once() -> httpx.Response:
        async with client(app) as session:
            return await session.post("/predict", content=body, headers={"content-type": kind, **headers})

    return asyncio.run(once())


def get(app: FastAPI, path: str, **headers: str) -> httpx.Response:
    async def once() -> httpx.Response:
        async with client(app) as session:
            return await session.get(path, headers=headers)

    return asyncio.run(once())


def npy(array: NDArray[Any], **options: bool) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def picture(array: NDArray[Any], form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, form)
    return file.getvalue()


def tiff(array: NDArray[Any], **options: Any) -> bytes:  # noqa: ANN401  # of tifffile
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """Return a gray PNG whose header declares `width` x `height` pixels, whatever its content."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def many_pages(count: int) -> bytes:
    """Return a TIFF file of `count` empty directories."""
    ends = [8 + 6 * k for k in range(1, count)]
    return b"II*\0" + struct.pack("<I", 8) + b"".join(struct.pack("<HI", 0, end) for end in [*ends, 0])


def huge_jpeg(width: int, height: int) -> bytes:
    """Return a JPEG whose header declares `width` x `height` pixels."""
    content = picture(GRAY, "JPEG")
    start = content.index(b"\xff\xc0") + 5
    return content[:start] + struct.pack(">HH", height, width) + content[start + 4 :]


def promising_npy(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue() + b"12345"


GOOD = {
    "image/png": picture(GRAY, "PNG"),
    "image/tiff": tiff(GRAY),
    "application/x-npy": npy(GRAY),
    "application/x-npy; version=1": npy(GRAY[None]),
}


@pytest.mark.parametrize("kind", GOOD)
def test_the_answer_is_what_the_student_predicts(app: FastAPI, student: Student, kind: str) -> None:
    answer = post(app, GOOD[kind], kind)
    row = student.predict(GRAY).iloc[0]
    said = answer.json()
    (one,) = said["predictions"]
    assert answer.status_code == 200 and said["model"] == MODEL
    assert (one["class"], one["rejected"]) == (row["class"], row["rejected"])
    np.testing.assert_allclose([one["probability"], one["entropy"]], [row["probability"], row["entropy"]], rtol=1e-6)
    np.testing.assert_allclose(list(one["probabilities"].values()), row.filter(like="p_").to_numpy(float), rtol=1e-6)
    assert tuple(one["probabilities"]) == student.classes


def test_a_batch_is_answered_in_order(app: FastAPI, student: Student) -> None:
    batch = np.stack([GRAY[None], GRAY[None, ::-1], np.full((1, 8, 8), 255, np.uint8)])
    said = post(app, npy(batch)).json()["predictions"]
    expected = student.predict(batch)["probability"]
    np.testing.assert_allclose([one["probability"] for one in said], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "array"),
    [
        ((1, 8, 8), GRAY[None].astype(np.int64)),
        ((1, 8, 8), GRAY),
        ((1, 8, 8), GRAY[..., None]),
        ((1, 8, 8), GRAY[None] / 2),
        ((1, 8, 8), np.zeros((5, 8, 8), np.uint8)),
        ((3, 8, 8), np.stack([GRAY, GRAY // 2, GRAY // 3])),
        ((3, 8, 8), np.stack([GRAY, GRAY // 2, GRAY // 3])[:, :, :3]),
        ((3, 8, 8), np.stack([GRAY, GRAY // 2, GRAY // 3], axis=-1)),
        ((3, 8, 8), np.stack([GRAY, GRAY // 2, GRAY // 3])[:, :3]),
    ],
)
def test_an_array_alone_is_treated_as_in_a_batch(shape: tuple[int, ...], array: NDArray[Any], tmp_path: Path) -> None:
    channels = shape[0]
    modality = Modality("photo", "image", shape, "uint8", (120.0,) * channels, (60.0,) * channels)
    student = load_student(make_student(tmp_path, modality, ("a", "b"), "thin_resnet(width=4,stages=1)"), device="cpu")
    app = create_app(student, MODEL, LIMITS)
    alone, batch = (post(app, npy(given)) for given in (array, array[None]))
    assert (alone.status_code, alone.json()) == (batch.status_code, batch.json())
    try:
        expected = student.predict(array)["p_a"][0]
    except CmkdError as error:
        assert (alone.status_code, alone.json()) == (422, {"error": str(error)})
    else:
        assert alone.json()["predictions"][0]["probabilities"]["a"] == pytest.approx(expected, rel=1e-5)
    app.state.predictor.close()


def test_a_stated_nodata_value_is_invalid_in_every_form(tmp_path: Path) -> None:
    radar = Modality("radar", "image", (1, 8, 8), "float32", (0.5,), (1.0,), nodata="nan", file_nodata=-9999.0)
    student = load_student(make_student(tmp_path, radar, ("a", "b"), "thin_resnet(width=4,stages=1)"), device="cpu")
    values = np.random.default_rng(0).normal(size=(1, 8, 8)).astype(np.float32)
    values[0, :2] = -9999
    expected = student.predict(np.ma.masked_equal(values, -9999))["p_a"][0]
    np.save(tmp_path / "one.npy", values)
    for form in (tmp_path / "one.npy", values, values[None], values.astype(float)):
        assert student.predict(form)["p_a"][0] == pytest.approx(expected, abs=1e-6)
    app = create_app(student, MODEL, LIMITS)
    for array in (values, values[None]):
        (said,) = post(app, npy(array)).json()["predictions"]
        assert said["probabilities"]["a"] == pytest.approx(expected, abs=1e-6)
    app.state.predictor.close()


def test_a_jpeg_of_another_size_is_resized(app: FastAPI) -> None:
    assert post(app, picture(np.tile(GRAY, (4, 4)), "JPEG"), "image/jpeg").status_code == 200


def test_a_recording_is_heard(tmp_path: Path) -> None:
    sound = Modality("sound", "series", (32, 1), "int16", (0.0,), (9.0,), rate=8000)
    heard = load_student(make_student(tmp_path, sound, ("a", "b")))
    app, file = create_app(heard, MODEL, LIMITS), io.BytesIO()
    wavfile.write(file, 8000, np.arange(32, dtype=np.int16))
    assert len(post(app, file.getvalue(), "audio/wav").json()["predictions"]) == 1
    assert post(app, GOOD["image/png"], "image/png").status_code == 415
    assert post(app, file.getvalue()[:30], "audio/wav").status_code == 422
    wavfile.write(tmp_path / "faster.wav", 16000, np.arange(32, dtype=np.int16))
    refused = post(app, (tmp_path / "faster.wav").read_bytes(), "audio/wav")
    assert refused.status_code == 422
    assert "rate of 'sound' is stated as 16000, but for the student it is 8000: resample it" in refused.text
    with pytest.raises(CmkdError, match="resample it"):
        heard.predict(tmp_path / "faster.wav")


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("sprung",)


REFUSED: dict[str, tuple[bytes, str, int, str]] = {
    "no body": (b"", "image/png", 422, "body is empty"),
    "no type": (GOOD["image/png"], "", 415, "this model takes application/x-npy, image/png"),
    "unknown type": (b"x", "application/x-python-pickle", 415, "this model takes"),
    "not the type": (GOOD["image/png"], "image/jpeg", 422, "is not a JPEG image"),
    "postscript as png": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "image/png", 422, "is not a PNG image"),
    "truncated png": (GOOD["image/png"][:60], "image/png", 422, "truncated"),
    "truncated tiff": (GOOD["image/tiff"][:90], "image/tiff", 422, "truncated"),
    "no tiff": (b"II*\0", "image/tiff", 422, "truncated"),
    "color": (picture(np.zeros((8, 8, 3), np.uint8), "PNG"), "image/png", 422, "has 3 channels, but 'radar' has 1"),
    "other dtype": (npy(GRAY / 2), "application/x-npy", 422, "holds float64, but 'radar' is uint8"),
    "pickle": (npy(np.array([Trap()], object), allow_pickle=True), "application/x-npy", 422, "Python objects"),
    "bare pickle": (b"\x80\x04\x95\x10\0\0\0\0\0\0\0", "application/x-npy", 422, "not an NPY array"),
    "zip of arrays": (b"PK\x03\x04" + bytes(30), "application/x-npy", 422, "not an NPY array"),
    "text": (npy(np.array([["x" * 9]])), "application/x-npy", 422, "cannot be stored"),
    "wrong shape": (npy(GRAY[None, None, None]), "application/x-npy", 422, "does not fit the kind image"),
    "one number": (npy(np.float32(3)), "application/x-npy", 422, "has shape (), which does not fit the kind image"),
    "one bad": (npy(GRAY[None, None] * [[[[1]]], [[[9]]]]), "application/x-npy", 422, "sample 1: the array holds"),
    "wrong batch": (npy(np.zeros((2, 5, 8, 8), np.uint8)), "application/x-npy", 422, "has 5 channels"),
    "empty batch": (npy(np.zeros((0, 1, 8, 8), np.uint8)), "application/x-npy", 422, "empty"),
    "nan": (npy(np.full((2, 1, 8, 8), np.nan)), "application/x-npy", 422, "no valid value"),
    "promising npy": (promising_npy((10**9, 10**9)), "application/x-npy", 422, "truncated"),
    "negative npy": (promising_npy((-1, 8)), "application/x-npy", 422, ""),
    "batch": (npy(np.zeros((5, 1, 8, 8), np.uint8)), "application/x-npy", 413, "5 samples in one request"),
    "png bomb": (png(2**31 - 1, 2**31 - 1), "image/png", 413, "the limit is 4096 in all"),
    "jpeg bomb": (huge_jpeg(65000, 65000), "image/jpeg", 413, "65000x65000 pixels"),
    "long png": (png(4096, 1), "image/png", 413, "the limit of a side is 128"),
    "tiff bomb": (tiff(np.zeros((300, 300), np.uint8), compression="zlib"), "image/tiff", 413, "300x300"),
    "tile bomb": (tiff(GRAY, tile=(8192, 8192), compression="zlib"), "image/tiff", 413, "8192x8192"),
    "channel bomb": (tiff(np.zeros((900, 8, 8), np.uint8), compression="zlib"), "image/tiff", 422, "900 channels"),
    "page bomb": (many_pages(5000), "image/tiff", 422, "more than 4096 pages"),
    "inflated png": (png(8, 8, zlib.compress(bytes(2**20))), "image/png", 422, "more pixel data than its header"),
    "image in tiff": (tiff(GRAY, compression="png"), "image/tiff", 422, "has the compression PNG"),
    "channels last": (npy(np.zeros((2, 100, 100, 1), np.uint8)), "application/x-npy", 413, "100x100 pixels"),
    "long npy": (npy(np.zeros((5000, 3, 1), np.uint8)), "application/x-npy", 413, "5000x3 pixels"),
    "long batch": (npy(np.zeros((2, 1, 5000, 3), np.uint8)), "application/x-npy", 413, "5000x3 pixels"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_body_is_refused_in_one_line(
    app: FastAPI, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    body, kind, status, words = REFUSED[case]
    answer = post(app, body, kind)
    (message,) = answer.json().values()
    assert (answer.status_code, list(answer.json())) == (status, ["error"]), message
    assert words in message and "\n" not in message and len(message) < 300
    assert not list(tmp_path.iterdir())
    assert not app.state.predictor.busy


class Watch:
    """Recorder of what the process opens or unpickles; it can be off, since an audit hook cannot be removed."""

    def __init__(self) -> None:
        self.on, self.seen = False, list[tuple[str, Any]]()
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in ("open", "pickle.find_class", "os.mkdir", "os.rename", "subprocess.Popen"):
            self.seen.append((event, arguments[0]))


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


def test_no_request_opens_a_file(app: FastAPI, watch: Watch) -> None:
    names = {"content-disposition": 'attachment; filename="../../etc/passwd"', "x-file": "/etc/passwd"}
    cases = [(body, kind) for kind, body in GOOD.items()] + [(body, kind) for body, kind, _, _ in REFUSED.values()]

    async def all_of_them() -> None:
        async with client(app) as session:
            for body, kind in cases:
                await session.post("/predict?path=/etc/passwd", content=body, headers={"content-type": kind, **names})

    asyncio.run(all_of_them())  # imports read files in this first round
    watch.on = True
    asyncio.run(all_of_them())
    watch.on = False
    assert watch.seen == []
    watch.on = True
    Path(__file__).read_bytes()
    watch.on = False
    assert watch.seen == [("open", __file__)]


def test_a_body_without_a_length_is_refused_before_it_ends(app: FastAPI) -> None:
    sent = []

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            sent.append(2**16)
            yield bytes(2**16)

    answer = post(app, endless())
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    assert sum(sent) < 3 * LIMITS.body_bytes


def test_a_declared_length_is_refused_unread(app: FastAPI) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    assert post(app, never(), **{"content-length": str(10**9)}).status_code == 413


def test_a_declared_length_somewhat_above_the_limit_is_discarded_before_the_answer(app: FastAPI) -> None:
    length, sent = 3 * LIMITS.body_bytes, []

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, length, 2**16):
            sent.append(min(2**16, length - start))
            yield bytes(sent[-1])

    answer = post(app, parts(), **{"content-length": str(length)})
    assert answer.status_code == 413 and "larger than" in answer.text
    assert sum(sent) == length


def test_a_compressed_body_is_refused(app: FastAPI) -> None:
    answer = post(app, zlib.compress(GOOD["image/png"]), "image/png", **{"content-encoding": "deflate"})
    assert answer.status_code == 415


def test_a_slow_body_gets_408(student: Student) -> None:
    app = create_app(student, MODEL, replace(LIMITS, seconds=0.1, workers=1, queue=0))

    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(60)

    answer = post(app, slow())
    assert answer.status_code == 408 and "did not arrive within 0.1 s" in answer.text
    assert not app.state.predictor.busy


def test_a_client_that_leaves_frees_its_place(student: Student) -> None:
    app = create_app(student, MODEL, replace(LIMITS, workers=1, queue=0))
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:  # noqa: ANN401  # of ASGI
        sent.append(message)

    headers = [(b"content-type", b"image/png")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": headers}
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 400
    assert not app.state.predictor.busy


def held_up(student: Student, until: threading.Event) -> Student:
    """Return the student with predictions that wait for an event, 10 s at most."""

    def logits(given: NDArray[Any]) -> NDArray[np.float32]:
        until.wait(10)
        return student.logits(given)

    return replace(student, logits=logits)


def test_a_full_queue_gets_503_and_the_loop_stays_free(student: Student) -> None:
    free = threading.Event()
    app = create_app(held_up(student, free), MODEL, replace(LIMITS, workers=1, queue=1, seconds=20.0))

    async def crowd() -> tuple[list[httpx.Response], httpx.Response]:
        async with client(app) as session:
            headers = {"content-type": "image/png"}
            posts = [session.post("/predict", content=GOOD["image/png"], headers=headers) for _ in range(4)]
            waiting = asyncio.gather(*posts)
            await asyncio.sleep(0.05)
            health = await session.get("/health")
            free.set()
            return await waiting, health

    answers, health = asyncio.run(crowd())
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503]
    assert next(a for a in answers if a.status_code == 503).headers["retry-after"] == "1"
    assert (health.status_code, health.json()["status"]) == (503, "busy")
    assert get(app, "/health").json() == {"status": "ready", "model": MODEL}


def test_late_work_gets_504_and_keeps_its_place_until_it_ends(student: Student) -> None:
    free = threading.Event()
    app = create_app(held_up(student, free), MODEL, replace(LIMITS, seconds=0.1, workers=1, queue=0))
    assert post(app, GOOD["image/png"], "image/png").status_code == 504
    assert post(app, GOOD["image/png"], "image/png").status_code == 503
    free.set()
    end = time.monotonic() + 10
    while get(app, "/health").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("token", ["sécret", "secret"])
def test_only_the_token_opens(student: Student, token: str) -> None:
    app = create_app(student, MODEL, LIMITS, token=token)
    for given in ({}, *({"authorization": text} for text in ("Bearer wrong", "Bearer secretx", "Basic secret"))):
        answer = post(app, GOOD["image/png"], "image/png", **given)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert get(app, "/metrics").status_code == 401
    assert get(app, "/health").status_code == 200


def test_the_right_token_opens(student: Student) -> None:
    app = create_app(student, MODEL, LIMITS, token="secret")
    right = {"authorization": "Bearer secret"}
    assert post(app, GOOD["image/png"], "image/png", **right).status_code == 200
    assert get(app, "/metrics", **right).status_code == 200


def test_metrics_count_what_happened(student: Student) -> None:
    app = create_app(student, MODEL, LIMITS)
    said = post(app, npy(np.zeros((3, 1, 8, 8), np.uint8))).json()["predictions"]
    post(app, b"x", "text/plain")
    text = get(app, "/metrics").text.splitlines()
    assert 'cmkd_requests_total{status="200"} 1.0' in text
    assert 'cmkd_requests_total{status="415"} 1.0' in text
    assert "cmkd_request_seconds_count 2.0" in text
    assert "cmkd_in_flight 0.0" in text
    assert f'cmkd_predictions_total{{class="{said[0]["class"]}"}} 3.0' in text
    assert f"cmkd_rejected_total {float(sum(one['rejected'] for one in said))}" in text


def test_a_bug_shows_the_client_no_traceback(student: Student) -> None:
    def broken(given: NDArray[Any]) -> NDArray[np.float32]:
        raise RuntimeError("a secret of the server")

    app = create_app(replace(student, logits=broken), MODEL, LIMITS)
    answer = post(app, GOOD["image/png"], "image/png")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error: the server's log has the reason"})
    assert 'status="500"} 1.0' in get(app, "/metrics").text


def test_no_answer_is_not_finite(student: Student) -> None:
    nan = np.full((1, 3), np.nan, np.float32)
    app = create_app(replace(student, logits=lambda _: nan), MODEL, LIMITS)
    assert post(app, GOOD["image/png"], "image/png").status_code == 422


def test_the_page_describes_the_model(app: FastAPI) -> None:
    said = get(app, "/openapi.json").json()
    assert set(said["paths"]) == {"/predict", "/health", "/metrics"}
    predict = said["paths"]["/predict"]["post"]
    assert "uint8 of shape (1, 8, 8)" in predict["description"]
    assert set(predict["requestBody"]["content"]) == {"application/x-npy", "image/png", "image/jpeg", "image/tiff"}
    assert {"401", "408", "413", "415", "422", "503", "504"} <= predict["responses"].keys()
    assert get(app, "/nowhere").json() == {"error": "there is nothing at this path: see /docs"}
    assert get(app, "/predict").status_code == 405


def test_the_name_says_data_method_and_seed(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"abc")
    about = {"data": {"name": "ships"}, "method": "a", "seed": 0}
    assert described(about, tmp_path / "a.onnx") == {"name": "ships-a-0", "version": "ba7816bf8f01"}
    assert described({}, tmp_path / "a.onnx")["name"] == "a"


def test_bad_options_are_one_line(
    radar_student: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", str(radar_student), "--port", str(taken.getsockname()[1])]) == 2
    assert "in use): choose another --host or --port" in capsys.readouterr().err
    assert main(["serve", str(radar_student), "--workers", "0"]) == 2
    assert "--workers is 0; it must be at least 1" in capsys.readouterr().err
    monkeypatch.setenv("CMKD_TOKEN", "")
    with pytest.raises(CmkdError, match="CMKD_TOKEN is empty"):
        serve(radar_student, host="127.0.0.1", port=0, device="cpu", threads=1, grace=1.0, limits=LIMITS)


def test_a_host_that_is_no_name_is_one_line() -> None:
    with pytest.raises(CmkdError, match=r"cannot listen on a\.\.b"):
        listening("a..b", 0)


@pytest.mark.parametrize("token", ["schlüssel", "two words", "secret\n", "\x7f"])
def test_a_token_that_no_client_could_send_is_refused(
    token: str, radar_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the server started")

    monkeypatch.setattr("cmkd.deploy.server.launch.load_student", never)
    monkeypatch.setenv("CMKD_TOKEN", token)
    with pytest.raises(CmkdError, match="CMKD_TOKEN must be visible ASCII") as caught:
        serve(radar_student, host="127.0.0.1", port=0, device="cpu", threads=1, grace=1.0, limits=LIMITS)
    assert "\n" not in str(caught.value) and token not in str(caught.value)


def test_the_grace_may_be_a_fraction_of_a_second(radar_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stopped(server: uvicorn.Server, sockets: list[socket.socket]) -> float:
        serving = asyncio.create_task(server.serve(sockets))
        _, writer = await asyncio.open_connection(*sockets[0].getsockname())
        writer.write(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\n")
        while not server.server_state.tasks:
            await asyncio.sleep(0.01)
        server.should_exit, start = True, time.monotonic()
        await serving
        writer.close()
        return time.monotonic() - start

    waited = list[float]()
    monkeypatch.setattr(
        "uvicorn.Server.run", lambda server, sockets: waited.append(asyncio.run(stopped(server, sockets)))
    )
    monkeypatch.delenv("CMKD_TOKEN", raising=False)
    serve(radar_student, host="127.0.0.1", port=0, device="cpu", threads=1, grace=0.5, limits=LIMITS)
    assert waited[0] >= 0.5


@pytest.mark.parametrize("late", ["connection", "first head", "second head"])
def test_a_connection_without_a_whole_head_is_closed(
    late: str, radar_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", b"POST /predict HTTP/1.1\r\n"

    async def closed(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        serving = asyncio.create_task(server.serve(sockets))
        reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
        if late == "second head":
            writer.write(whole)
            assert (await reader.readuntil(b"}}")).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.5)  # longer than the limit; idle connections may stay
        writer.write(b"" if late == "connection" else part)
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        server.should_exit = True
        await serving

    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: asyncio.run(closed(server, sockets)))
    monkeypatch.delenv("CMKD_TOKEN", raising=False)
    limits = replace(LIMITS, seconds=0.3)
    serve(radar_student, host="127.0.0.1", port=0, device="cpu", threads=1, grace=0.5, limits=limits)


Start = Callable[[], tuple[subprocess.Popen[str], str]]


@pytest.fixture(scope="module")
def onnx_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a linear student as an ONNX file, whose server starts in a second."""
    onnx = pytest.importorskip("onnx")
    nodes = [
        onnx.helper.make_node("Cast", ["samples"], ["numbers"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Flatten", ["numbers"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "linear",
        [onnx.helper.make_tensor_value_info("samples", onnx.TensorProto.UINT8, ["n", 1, 8, 8])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 2])],
        [onnx.numpy_helper.from_array(np.eye(64, 2, dtype=np.float32), "weight")],
    )
    made = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    radar = Modality("radar", "image", (1, 8, 8), "uint8", (120.0,), (60.0,))
    about = {"modality": asdict(radar), "classes": ["tug", "ferry"], "calibration": Calibration().to_dict()}
    onnx.helper.set_model_props(made, {"cmkd": json.dumps(about)})
    path = tmp_path_factory.mktemp("onnx") / "student.onnx"
    path.write_bytes(made.SerializeToString())
    return path


@pytest.fixture
def start(onnx_student: Path) -> Iterator[Start]:
    started = []

    def run() -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "cmkd", "serve", str(onnx_student), "--port", "0", "--device", "cpu"]
        process = subprocess.Popen(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"CMKD_TOKEN": "t"}
        )
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().split(" at ")[1].split(",")[0]

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_request_in_flight_ends_before_the_server_stops(start: Start, number: int, code: int) -> None:
    process, url = start()
    body, bearer = GOOD["image/png"], {"authorization": "Bearer t"}
    words = ("POST /predict HTTP/1.1", "Host: a", "Authorization: Bearer t", "Content-Type: image/png")
    head = "\r\n".join([*words, f"Content-Length: {len(body)}", "", ""])
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
        connection.sendall(head.encode() + body[:20])
        while "cmkd_in_flight 1.0" not in httpx.get(f"{url}/metrics", headers=bearer).text:
            time.sleep(0.02)
        process.send_signal(number)
        time.sleep(0.3)
        connection.sendall(body[20:])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK") and b'"predictions"' in answer
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert errors.startswith("cmkd: stopped") and errors.count("\n") == 1


SLOW = """
import dataclasses, sys, time
from cmkd.cli import main
from cmkd.deploy.server import launch

load = launch.load_student

def slow(*given, **options):
    student = load(*given, **options)
    # not the first prediction, which is of zeros
    return dataclasses.replace(student, logits=lambda x: (time.sleep(30 * bool(x.any())), student.logits(x))[1])

launch.load_student = slow
sys.exit(main(["serve", sys.argv[1], "--port", "0", "--device", "cpu", "--grace", "0.3", "--seconds", "20"]))
"""


def test_a_request_that_outlasts_the_grace_is_refused_and_holds_nothing_up(onnx_student: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(onnx_student)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split(" at ")[1].split(",")[0]
        found = list[httpx.Response]()
        headers = {"content-type": "application/x-npy"}
        body = npy(np.ones((1, 8, 8), np.uint8))
        asking = threading.Thread(
            target=lambda: found.append(httpx.post(f"{url}/predict", content=body, headers=headers, timeout=20))
        )
        asking.start()
        while "cmkd_in_flight 1.0" not in httpx.get(f"{url}/metrics").text:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        _, errors = process.communicate(timeout=15)
        assert time.monotonic() - start < 5  # the prediction takes 30 s; the end, about 1 s when idle
        asking.join()
    finally:
        process.kill()
        process.communicate()
    assert (found[0].status_code, process.returncode) == (503, 143)
    assert found[0].json() == {"error": "the server is stopping: send the request again later"}
    assert errors == "cmkd: stopped; not answered in time: 1 of the requests in flight; for more time, set --grace\n"


@pytest.mark.slow
def test_a_refusal_reaches_a_client_that_is_still_sending(start: Start) -> None:
    _, url = start()
    headers = {"authorization": "Bearer t", "content-type": "image/png"}
    with httpx.Client() as session:
        for _ in range(20):
            assert session.post(f"{url}/predict", content=bytes(40 * 2**20), headers=headers).status_code == 413
