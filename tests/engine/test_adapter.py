"""The folder that is taken away, and the two ways in which a service gives an adapter."""

import functools
import http.server
import io
import json
import tarfile
import threading
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from panelbook.engine.adapter import AdapterError, complete_config, fetch_adapter, write_adapter

CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 32, "target_modules": None, "task_type": None}
PREFIX = "base_model.model.model.layers"


def save(folder, config=CONFIG, rank=2, **further):
    """Save an adapter as a service does: without saying which layers it is for."""
    folder.mkdir(exist_ok=True)
    tensors = {
        f"{PREFIX}.0.mlp.up_proj.lora_A.weight": torch.ones(rank, 4),
        f"{PREFIX}.0.mlp.up_proj.lora_B.weight": torch.ones(6, rank),
        f"{PREFIX}.1.self_attn.q_proj.lora_A.weight": torch.ones(rank, 4),
        f"{PREFIX}.1.self_attn.q_proj.lora_B.weight": torch.ones(4, rank),
        **further,
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


class Tokenizer:
    def save_pretrained(self, folder):
        (folder / "tokenizer.json").write_text("{}")


@pytest.fixture
def source(tmp_path):
    return save(tmp_path / "source")


def test_the_folder_holds_weights_configuration_tokenizer_and_card(source, tmp_path):
    write_adapter(source, tmp_path / "new" / "out", "someone/base", Tokenizer(), "# Card\n")
    out = tmp_path / "new" / "out"
    names = {"README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}
    assert {path.name for path in out.iterdir()} == names
    assert (out / "README.md").read_text() == "# Card\n"
    assert (out / "adapter_model.safetensors").read_bytes() == (
        source / "adapter_model.safetensors"
    ).read_bytes()
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "someone/base"
    assert config["target_modules"] == ["q_proj", "up_proj"]
    assert (config["r"], config["lora_alpha"], config["inference_mode"]) == (2, 32, True)
    assert list((tmp_path / "new").iterdir()) == [out]


def test_layers_that_the_configuration_names_stay_as_they_are(tmp_path):
    source = save(tmp_path / "source", {**CONFIG, "target_modules": ["up_proj", "model.layers.1.q_proj"]})
    assert complete_config(source, "b")["target_modules"] == ["model.layers.1.q_proj", "up_proj"]


def test_what_fails_half_way_leaves_nothing(source, tmp_path):
    class Broken:
        def save_pretrained(self, folder):
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write_adapter(source, tmp_path / "out", "b", Broken(), "")
    assert list(tmp_path.iterdir()) == [source]


def test_nothing_is_overwritten(source, tmp_path):
    (tmp_path / "out").mkdir()
    write_adapter(source, tmp_path / "out", "b", Tokenizer(), "first")  # an empty folder is free
    for taken in (tmp_path / "out", tmp_path / "out" / "README.md"):
        with pytest.raises(AdapterError, match="is there already"):
            write_adapter(source, taken, "b", Tokenizer(), "second")
    assert (tmp_path / "out" / "README.md").read_text() == "first"


def test_tensors_that_are_no_lora_of_a_linear_layer(tmp_path):
    source = save(tmp_path / "source", **{f"{PREFIX}.0.mlp.experts.w1.lora_A": torch.ones(2)})
    with pytest.raises(
        AdapterError, match=r"holds '.*experts.w1.lora_A', which is no LoRA of a linear layer"
    ):
        write_adapter(source, tmp_path / "out", "b", Tokenizer(), "")


def test_a_rank_that_the_weights_do_not_have(tmp_path):
    with pytest.raises(AdapterError, match=r"says rank 2, the weights have \[3\]"):
        complete_config(save(tmp_path / "source", rank=3), "b")


# Behind a service ----------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    """Return a folder and the address at which it is served."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=folder)
    ) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def done(value):
    return SimpleNamespace(result=lambda: value)


class OldRest:
    """As the SDK 0.25; its server knows checkpoints by their bare names only, as some do."""

    def __init__(self, url):
        self.url = url
        self.asked = []

    def get_checkpoint_archive_url(self, run_id, checkpoint_id):
        self.asked.append((run_id, checkpoint_id))
        if "/" in checkpoint_id:
            raise RuntimeError("404")
        return done(SimpleNamespace(url=self.url))


class NewService:
    """As the SDK 0.38, where only a training state can be exported."""

    def __init__(self, urls):
        self.urls = urls
        self.deleted = []
        self.opened = []

    def create_rest_client(self):
        return SimpleNamespace(
            get_external_weights_urls=lambda path: done(SimpleNamespace(urls=self.urls)),
            delete_checkpoint_from_tinker_path=lambda path: done(self.deleted.append(path)),
        )

    def create_training_client_from_state(self, path):
        self.opened.append(path)
        saved = SimpleNamespace(path="tinker://run/external_weights/download")
        return done(SimpleNamespace(save_weights_external=lambda name, ttl_seconds: done(saved)))


PATHS = ("tinker://run/sampler_weights/step000002", "tinker://run/weights/step000002")


def archive(folder, source, **further):
    with tarfile.open(folder / "a.tar.gz", "w:gz") as tar:
        tar.add(source, arcname="")
        for name, text in further.items():
            info = tarfile.TarInfo(f"../{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))


def fetch(service, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    fetch_adapter(service, *PATHS, target)
    return target


def test_an_archive_is_unpacked(source, server, tmp_path):
    folder, url = server
    archive(folder, source)
    rest = OldRest(f"{url}/a.tar.gz")
    target = fetch(SimpleNamespace(create_rest_client=lambda: rest), tmp_path)
    assert rest.asked == [("run", "sampler_weights/step000002"), ("run", "step000002")]
    assert {path.name for path in target.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert complete_config(target, "b")["target_modules"] == ["q_proj", "up_proj"]


def test_an_archive_may_not_write_outside_its_folder(source, server, tmp_path):
    folder, url = server
    archive(folder, source, escaped=b"x")
    with pytest.raises(AdapterError, match="could not be downloaded"):
        fetch(SimpleNamespace(create_rest_client=lambda: OldRest(f"{url}/a.tar.gz")), tmp_path)
    assert not (tmp_path / "escaped").exists()


def test_an_export_is_fetched_file_by_file_and_deleted_at_the_service(source, server, tmp_path):
    folder, url = server
    for path in source.iterdir():
        path.rename(folder / path.name)
    service = NewService({path.name: f"{url}/{path.name}" for path in folder.iterdir()})
    target = fetch(service, tmp_path)
    assert complete_config(target, "b")["r"] == 2
    assert service.opened == [PATHS[1]]
    assert service.deleted == ["tinker://run/external_weights/download"]


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        ({"../x": "http://127.0.0.1:9/x"}, "outside its folder"),
        ({"x": "file:///etc/hostname"}, "only http is opened"),
        ({"x": "http://127.0.0.1:9/x"}, "could not be downloaded"),
        ({}, "cannot be read"),
    ],
    ids=["outside", "file", "refused", "nothing"],
)
def test_an_export_that_is_no_adapter_is_refused_and_deleted(tmp_path, urls, message):
    service = NewService(urls)
    with pytest.raises(AdapterError, match=message):
        fetch(service, tmp_path)
    assert service.deleted == ["tinker://run/external_weights/download"]


def test_a_checkpoint_that_is_gone_is_named(tmp_path):
    def gone(*_):
        raise RuntimeError("404 checkpoint not found\nrequest id 7")

    rest = SimpleNamespace(get_checkpoint_archive_url=gone)
    message = "tinker://run/sampler_weights/step000002 could not be downloaded: 404 checkpoint not found. Ask"
    with pytest.raises(AdapterError, match=message):
        fetch(SimpleNamespace(create_rest_client=lambda: rest), tmp_path)
