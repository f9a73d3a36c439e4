"""The Tinker engine against a service that is not there: a fake that records what it is asked."""

import concurrent.futures
import inspect
import logging
import time
from types import SimpleNamespace

import httpx
import pytest
import tinker
from tinker.types.client_config_response import ClientConfigResponse

from panelbook.engine import tinker as engine_module
from panelbook.engine.base import Request
from panelbook.engine.service import Patience, ServiceError, Watch
from panelbook.engine.tinker import TinkerEngine


class FakeFuture:
    """The SDK's future: a standard one within."""

    def __init__(self, standard):
        self._standard = standard

    def result(self, timeout=None):
        return self._standard.result(timeout)

    def future(self):
        return self._standard


def finished(value):
    standard = concurrent.futures.Future()
    standard.set_result(value)
    return FakeFuture(standard)


class FakeSampler:
    """Answers nothing until told to; `answers[i]` belongs to the i-th request."""

    def __init__(self, log, source, wrap=FakeFuture):
        self.log, self.source, self.wrap, self.answers = log, source, wrap, []

    def sample(self, prompt, num_samples, sampling_params):
        self.log.append(("sample", self.source, prompt.to_ints(), num_samples, sampling_params.seed))
        self.answers.append(concurrent.futures.Future())
        return self.wrap(self.answers[-1])

    def compute_logprobs(self, prompt):
        self.log.append(("compute_logprobs", self.source, prompt.to_ints()))
        return finished([None] + [-1.0] * (prompt.length - 1))

    def get_tokenizer(self):
        return f"tokenizer of {self.source}"


class FakeTrainer:
    def __init__(self, log, name):
        self.log, self.name = log, name

    def forward_backward(self, data, loss_fn):
        self.log.append(("forward_backward", self.name, len(data), loss_fn))
        return finished("output")

    def optim_step(self, adam_params):
        self.log.append(("optim_step", self.name, adam_params.learning_rate))
        return finished("stepped")

    def save_state(self, name, overwrite=False):
        self.log.append(("save_state", self.name, name, overwrite))
        return finished(SimpleNamespace(path=f"tinker://run/weights/{name}"))

    def save_weights_for_sampler(self, name):
        self.log.append(("save_weights_for_sampler", self.name, name))
        return finished(SimpleNamespace(path=f"tinker://run/sampler_weights/{name}"))

    def save_weights_and_get_sampling_client(self):
        self.log.append(("save_weights_and_get_sampling_client", self.name))
        return FakeSampler(self.log, f"weights of {self.name}")

    def get_tokenizer(self):
        return "tokenizer"


class FakeService:
    """Hands out clients as futures (`settled` = False, newer SDKs) or as themselves (older SDKs)."""

    def __init__(self, settled=False):
        self.log, self.settled, self.samplers = [], settled, []

    def _client(self, client):
        return client if self.settled else finished(client)

    def create_lora_training_client(self, base_model, rank=32, seed=None):
        self.log.append(("create_lora_training_client", base_model, rank, seed))
        return self._client(FakeTrainer(self.log, "fresh"))

    def create_training_client_from_state(self, path):
        self.log.append(("create_training_client_from_state", path))
        return self._client(FakeTrainer(self.log, "weights only"))

    def create_training_client_from_state_with_optimizer(self, path):
        self.log.append(("create_training_client_from_state_with_optimizer", path))
        return self._client(FakeTrainer(self.log, "resumed"))

    def create_sampling_client(self, model_path=None, base_model=None):
        self.log.append(("create_sampling_client", model_path, base_model))
        self.samplers.append(FakeSampler(self.log, model_path or base_model))
        return self._client(self.samplers[-1])


@pytest.fixture(params=[False, True], ids=["clients come as futures", "clients come as themselves"])
def service(request):
    return FakeService(settled=request.param)


def ints(*tokens):
    return tinker.ModelInput.from_ints(list(tokens))


def request(*tokens, seed=0):
    return Request(ints(*tokens), 2, tinker.SamplingParams(max_tokens=5, seed=seed))


def test_training_calls_reach_the_service(service):
    trainer = TinkerEngine(service, "Qwen/Qwen3-30B-A3B").create_lora_training_client(rank=32, seed=7)
    assert trainer.forward_backward(["datum"], "importance_sampling").result() == "output"
    assert trainer.optim_step(tinker.AdamParams(learning_rate=5e-6)).result() == "stepped"
    assert trainer.save_state("step-10").result().path == "tinker://run/weights/step-10"
    assert trainer.save_weights_for_sampler("s").result().path == "tinker://run/sampler_weights/s"
    assert trainer.get_tokenizer() == "tokenizer"
    assert service.log == [
        ("create_lora_training_client", "Qwen/Qwen3-30B-A3B", 32, 7),
        ("forward_backward", "fresh", 1, "importance_sampling"),
        ("optim_step", "fresh", 5e-6),
        ("save_state", "fresh", "step-10", True),
        ("save_weights_for_sampler", "fresh", "s"),
    ]


@pytest.mark.parametrize(
    ("optimizer", "call", "name"),
    [
        (True, "create_training_client_from_state_with_optimizer", "resumed"),
        (False, "create_training_client_from_state", "weights only"),
    ],
)
def test_load_state_goes_on_in_a_new_client(service, optimizer, call, name):
    trainer = TinkerEngine(service, "m").create_lora_training_client(rank=8, seed=0)
    trainer.load_state("tinker://run/weights/step-10", optimizer=optimizer)
    trainer.optim_step(tinker.AdamParams(learning_rate=1.0))
    assert service.log[1:] == [(call, "tinker://run/weights/step-10"), ("optim_step", name, 1.0)]


def test_samplers_come_from_the_base_model_a_path_or_current_weights(service):
    engine = TinkerEngine(service, "m")
    engine.create_sampling_client()
    engine.create_sampling_client("tinker://run/sampler_weights/s")
    assert service.log == [
        ("create_sampling_client", None, "m"),
        ("create_sampling_client", "tinker://run/sampler_weights/s", None),
    ]
    assert engine.get_tokenizer() == "tokenizer of m"
    current = engine.create_lora_training_client(rank=8, seed=0).save_weights_and_get_sampling_client()
    current.sample(ints(1, 2), 3, tinker.SamplingParams(seed=4))
    assert service.log[-1] == ("sample", "weights of fresh", [1, 2], 3, 4)


@pytest.mark.parametrize("wrap", [FakeFuture, lambda standard: standard], ids=["wrapped", "standard"])
def test_all_requests_are_sent_at_once_and_come_back_as_they_end(wrap):
    sampler = FakeSampler([], "m", wrap)
    client = engine_module.TinkerSamplingClient(sampler)
    stream = client.sample_many([request(1, seed=5), request(2), request(3)])
    sampler_log = sampler.log
    assert sampler_log == []  # nothing is sent, or paid for, before anyone listens

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, stream)
        while len(sampler.answers) < 3:
            time.sleep(0.001)
        sampler.answers[1].set_result("second request")
        index, future = first.result(timeout=10)
    assert (index, future.result()) == (1, "second request")
    assert [entry[2:] for entry in sampler_log] == [([1], 2, 5), ([2], 2, 0), ([3], 2, 0)]

    sampler.answers[2].set_exception(RuntimeError("402: out of credit"))
    index, future = next(stream)
    assert index == 2
    with pytest.raises(RuntimeError, match="out of credit"):
        future.result()
    sampler.answers[0].set_result("first request")
    assert [(index, future.result()) for index, future in stream] == [(0, "first request")]


def test_whoever_stops_listening_cancels_what_is_under_way():
    sampler = FakeSampler([], "m")
    stream = engine_module.TinkerSamplingClient(sampler).sample_many([request(1), request(2)])
    sample = sampler.sample

    def answer_the_first(prompt, num_samples, sampling_params):
        future = sample(prompt, num_samples, sampling_params)
        if len(sampler.answers) == 1:
            sampler.answers[0].set_result("done")
        return future

    sampler.sample = answer_the_first
    assert next(stream)[0] == 0
    stream.close()
    assert sampler.answers[0].result() == "done"
    assert sampler.answers[1].cancelled()


def test_logprobs_keep_the_order_of_the_prompts():
    client = engine_module.TinkerSamplingClient(FakeSampler([], "m"))
    assert client.compute_logprobs_many([ints(1, 2, 3), ints(4)]) == [[None, -1.0, -1.0], [None]]


def test_a_session_is_opened_with_the_key_and_url_of_the_environment(monkeypatch):
    seen = []

    class Session:
        holder = SimpleNamespace(get_client_config=ClientConfigResponse)

        def __init__(self, **arguments):
            seen.append(arguments)

    monkeypatch.setattr(tinker, "ServiceClient", Session)
    monkeypatch.setattr(Watch, "connect", lambda watch: seen.append(watch.url))
    monkeypatch.setenv("TINKER_API_KEY", "tml-key")
    monkeypatch.setenv("TINKER_BASE_URL", "http://127.0.0.1:8000")
    TinkerEngine.connect("m")
    assert seen == ["http://127.0.0.1:8000", {"api_key": "tml-key", "base_url": "http://127.0.0.1:8000"}]
    # The SDK would sit out a halt for billing for an hour; this is what it reads.
    assert Session.holder._client_config.billing_exception_max_pause_duration_sec == 0
    assert ClientConfigResponse().billing_exception_max_pause_duration_sec > 0


def test_without_a_key_the_next_step_is_named(monkeypatch):
    monkeypatch.delenv("TINKER_API_KEY", raising=False)
    with pytest.raises(ServiceError, match=r"TINKER_API_KEY is not set\. Set it"):
        TinkerEngine.connect("Qwen/Qwen3-8B")


HASTY = Patience(connect_s=0.1, lost_s=0.1, stall_s=0.3, probe_s=0.05)


def refusal():
    response = httpx.Response(401, request=httpx.Request("POST", "http://x"))
    return tinker.APIStatusError("no", response=response, body={"detail": "wrong key tml-secret"})


def test_a_request_that_fails_raises_its_own_translated_error_and_the_others_are_kept():
    sampler = FakeSampler([], "m")
    sampler.get_tokenizer = SimpleNamespace
    stream = engine_module.TinkerSamplingClient(sampler).sample_many([request(1), request(2)])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, stream)
        while len(sampler.answers) < 2:
            time.sleep(0.001)
        sampler.answers[0].set_exception(refusal())
        index, failed = first.result(timeout=10)
    with pytest.raises(ServiceError, match=r"refuses the key .*wrong key \[key\]"):
        failed.result()
    sampler.answers[1].set_result("drawn")
    assert index == 0
    assert [(i, future.result()) for i, future in stream] == [(1, "drawn")]


def test_requests_that_never_end_are_given_up_and_cancelled():
    sampler = FakeSampler([], "m")
    client = engine_module.TinkerSamplingClient(sampler, Watch(patience=HASTY))
    with pytest.raises(ServiceError, match="finished nothing"):
        list(client.sample_many([request(1), request(2)]))
    assert all(answer.cancelled() for answer in sampler.answers)


@pytest.mark.parametrize(
    "call",
    [
        lambda trainer: trainer.forward_backward([], "cross_entropy").result(),
        lambda trainer: trainer.optim_step(tinker.AdamParams()).result(),
        lambda trainer: trainer.save_state("s").result(),
        lambda trainer: trainer.save_weights_for_sampler("s").result(),
        lambda trainer: trainer.save_weights_and_get_sampling_client(),
        lambda trainer: trainer.load_state("tinker://x"),
    ],
    ids=["forward_backward", "optim_step", "save_state", "save_weights", "freeze", "load_state"],
)
@pytest.mark.parametrize(("outcome", "kind"), [(None, "stuck"), (refusal(), "unauthorised")])
def test_training_calls_end_in_time_and_in_a_line(call, outcome, kind):
    def answer(*_, **__):
        future = concurrent.futures.Future()
        if outcome is not None:
            future.set_exception(outcome)
        return SimpleNamespace(result=future.result)  # older SDKs give no standard future here

    client = type("Client", (), {"__getattr__": lambda *_: answer})()
    trainer = engine_module.TinkerTrainingClient(client, client, Watch(patience=HASTY))
    with pytest.raises(ServiceError) as failed:
        call(trainer)
    assert failed.value.kind == kind


def test_the_sdks_log_which_may_quote_the_key_stays_out_of_notebooks(monkeypatch):
    monkeypatch.delenv("TINKER_LOG", raising=False)
    monkeypatch.setenv("TINKER_API_KEY", "tml-key")
    monkeypatch.setenv("TINKER_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(logging.getLogger("tinker"), "level", logging.NOTSET)
    with pytest.raises(ServiceError, match="does not answer"):
        TinkerEngine.connect("m", HASTY)
    assert not logging.getLogger("tinker.lib.retry_handler").isEnabledFor(logging.ERROR)


def test_every_call_exists_in_the_installed_sdk():
    """The fake is only as good as its likeness: names and parameters are those of the real clients."""
    for fake, real in (
        (FakeService, tinker.ServiceClient),
        (FakeTrainer, tinker.TrainingClient),
        (FakeSampler, tinker.SamplingClient),
    ):
        for name, method in vars(fake).items():
            if name.startswith("_"):
                continue
            ours = list(inspect.signature(method).parameters)
            theirs = list(inspect.signature(getattr(real, name)).parameters)
            if name == "optim_step":  # renamed between versions; always passed by position
                assert len(theirs) >= len(ours)
            else:
                assert set(ours) <= set(theirs), name
