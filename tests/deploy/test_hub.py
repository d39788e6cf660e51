"""`HubStudent` is saved and loaded by the hub's own mixin, in a folder and through a local hub server."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from huggingface_hub import ModelCard

from cmkd import CmkdError, HubStudent, load_student
from cmkd.io import write_text
from cmkd.models.checkpoint import rewrite

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def run(radar_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the part of a run's folder that concerns its recommended student."""
    folder = tmp_path_factory.mktemp("run")
    about = {"data": {"name": "ships"}, "test_accuracy": 0.875, "test": {"calibration_error": 0.03125}}
    rewrite(radar_student, folder / "student.safetensors", about)
    write_text(folder / "student.md", "# A classifier of radar samples\n\nIt distinguishes 3 classes.\n")
    return folder


def test_a_folder_holds_the_student_its_card_and_no_pickle(run: Path, tmp_path: Path) -> None:
    HubStudent(run, license="cc-by-4.0").save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "config.json", "student.safetensors"]
    assert (tmp_path / "student.safetensors").read_bytes() == (run / "student.safetensors").read_bytes()
    config = (tmp_path / "config.json").read_text()
    assert json.loads(config)["classes"] == ["-tug", "ferry", "tanker"] and str(run) not in config

    card = ModelCard.load(tmp_path / "README.md")
    assert card.text.strip() == (run / "student.md").read_text().strip()
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == (
        "cc-by-4.0",
        "cmkd",
        "image-classification",
    )
    measured = {(r.dataset_name, r.dataset_split, r.metric_type): r.metric_value for r in card.data.eval_results}
    assert measured == {("ships", "test", "accuracy"): 0.875, ("ships", "test", "expected calibration error"): 0.03125}


def test_it_predicts_the_same_from_the_folder_and_can_be_saved_again(run: Path, tmp_path: Path) -> None:
    HubStudent(run, license="mit").save_pretrained(tmp_path / "once")
    found = HubStudent.from_pretrained(tmp_path / "once")
    expected = load_student(run).predict(IMAGES)
    assert found.load().predict(IMAGES).equals(expected) and load_student(tmp_path / "once").predict(IMAGES).equals(
        expected
    )
    found.save_pretrained(tmp_path / "twice")
    found.save_pretrained(tmp_path / "once")  # the folder that it was loaded from
    for name in ("README.md", "config.json", "student.safetensors"):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()
    assert ModelCard.load(tmp_path / "once" / "README.md").data.license == "mit"
    HubStudent(found.path, license="apache-2.0").save_pretrained(tmp_path / "once")
    assert ModelCard.load(tmp_path / "once" / "README.md").data.license == "apache-2.0"


def test_a_checkpoint_without_a_card_gets_one_and_a_folder_a_new_one(
    radar_student: Path, run: Path, tmp_path: Path
) -> None:
    HubStudent(run).save_pretrained(tmp_path)
    HubStudent(radar_student).save_pretrained(tmp_path)  # the card of the earlier weights must not stay
    card = ModelCard.load(tmp_path / "README.md")
    assert "A classifier of radar samples" in card.text and "It distinguishes" not in card.text
    assert card.data.eval_results is None and card.data.license is None


def test_what_is_no_student_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    for made in (lambda: HubStudent(tmp_path), lambda: HubStudent.from_pretrained(tmp_path)):
        with pytest.raises(CmkdError, match=r"holds no student\.safetensors"):
            made()
    with pytest.raises(CmkdError, match=r"push the \.safetensors file"):
        HubStudent(tmp_path / "student.onnx")
    for name in ("no/such/repository", "not a name"):
        with pytest.raises(CmkdError, match=f"cannot load '{name}', which is not a folder, from the hub") as caught:
            HubStudent.from_pretrained(name, local_files_only=True)
        assert "\n" not in str(caught.value)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "cmkd.deploy.hub")
    import cmkd

    with pytest.raises(CmkdError, match=r"the Hugging Face Hub needs huggingface_hub.*pip install 'cmkd\[hub\]'"):
        cmkd.HubStudent  # noqa: B018  # imported at first use


class Hub(BaseHTTPRequestHandler):
    """HTTP handler with the part of the hub's interface that one push and one download need."""

    files: dict[str, bytes]
    COMMIT = "0" * 40

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.path == "/api/repos/create":
            self.reply({"url": f"http://{self.headers['Host']}/me/ships"})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self.reply({"files": files})
        elif "/commit/" in self.path:
            entries = [json.loads(line) for line in body.splitlines()]
            self.files |= {
                e["value"]["path"]: base64.b64decode(e["value"]["content"]) for e in entries if e["key"] == "file"
            }
            self.reply(
                {"commitUrl": f"http://{self.headers['Host']}/me/ships/commit/{self.COMMIT}", "commitOid": self.COMMIT}
            )
        else:
            self.reply({})

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/me/ships/tree/"):
            files = [{"type": "file", "path": k, "size": len(v), "oid": k} for k, v in self.files.items()]
            self.send(json.dumps(files).encode(), "application/json")
        elif self.path.startswith("/api/models/me/ships"):
            siblings = [{"rfilename": name} for name in self.files]
            self.reply(
                {"id": "me/ships", "modelId": "me/ships", "sha": self.COMMIT, "siblings": siblings, "private": False}
            )
        elif (name := self.path.rpartition("/")[2]) in self.files and self.path.startswith("/me/ships/resolve/"):
            self.send(self.files[name], "application/octet-stream")
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def reply(self, content: dict[str, object]) -> None:
        self.send(json.dumps(content).encode(), "application/json")

    def send(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        for name, value in {"Content-Type": kind, "Content-Length": len(content), "X-Repo-Commit": self.COMMIT}.items():
            self.send_header(name, str(value))
        self.send_header("ETag", f'"{hash(content)}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    Hub.files = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_push_to_a_hub_and_a_load_from_it(hub: ThreadingHTTPServer, run: Path, tmp_path: Path) -> None:
    code = f"""
from cmkd import HubStudent, CmkdError
print(HubStudent({str(run)!r}).push_to_hub("me/ships", token="hf_none"))
found = HubStudent.from_pretrained("me/ships").path
print(found.read_bytes() == HubStudent({str(run)!r}).path.read_bytes())
try:
    HubStudent.from_pretrained("me/boats")
except CmkdError as error:
    print(error)
"""
    environment = os.environ | {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(tmp_path)}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"}
    # the address is read when the hub's library is imported
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    pushed, same, absent = done.stdout.splitlines()
    assert "/me/ships/" in pushed and same == "True"
    assert absent.startswith("cannot load 'me/boats', which is not a folder, from the hub")
    assert sorted(Hub.files) == ["README.md", "config.json", "student.safetensors"]
